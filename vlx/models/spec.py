"""What an architecture is and can do. Tasks and distillation methods name what they need; `recipes.requirements`
compares needs with capabilities and is the only place that does."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from torch import nn
from transformers import PretrainedConfig

from vlx import registry

# Everything an architecture may be able to do, with the words that errors use.
CAPABILITIES = {
    "hidden_states": "returns the hidden states of its layers",
    "attentions": "returns the attention probabilities of its layers",
    "modality_views": "scores text and image alone",
    "arbitrary_pairs": "reads any text with any image in one batch",
    "object_tags": "reads object tags after the text",
    "reptile": "can be moved by Reptile as a teacher",
    "student_width": "can be distilled to another width",
    "text_tower": "starts its text encoder from a BERT folder",
    "frozen_text_layers": "can freeze its first text layers",
    "clip_and_bert": "starts from the weights of CLIP and BERT",
    "vision_optimizer": "trains its vision network with an optimizer of its own",
}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """name: in the registry. input: regions or pixels. tokenizer: wordpiece or deberta. heads: the kinds of heads that
    it builds (models.heads.Head). max_images: of an example.

    new_config(options, vocab_size=, region_dim=): the configuration of a new model; options: ModelFields and
    PixelFields. head_config(head): the entries of a configuration that a head decides. head_prefix: the names of the
    head's weights begin with it; empty: the head has no weights. classifier_options: the head has the options
    classifier and classifier_scale. student_config(config, layers): the entries of a configuration that the number of
    a student's layers decides, beside num_hidden_layers; raises ConfigError if there are too few.

    pretraining: objectives, in the order in which their losses are added. pretraining_config(sizes): the entries of a
    configuration that models.heads.PretrainingSizes decide. itm_positive_class: of its ITM head. region_masking: how
    it masks regions, a key of inputs.region_masking.MASKINGS.

    capabilities: of CAPABILITIES. dual_encoder: text and image meet in one product. vision_prefix: part of the names
    of the vision network's weights. originals: module of checkpoints.originals for the original's files.
    """

    name: str
    input: str
    tokenizer: str = "wordpiece"
    heads: frozenset[str]
    max_images: int = 1
    new_config: Callable[..., PretrainedConfig] | None = None
    head_config: Callable[..., dict[str, Any]] | None = None
    head_prefix: str = ""
    classifier_options: bool = False
    student_config: Callable[..., dict[str, Any]] | None = None
    pretraining: tuple[str, ...] = ()
    pretraining_config: Callable[..., dict[str, Any]] | None = None
    itm_positive_class: int = 1
    region_masking: str = "none"
    capabilities: frozenset[str] = frozenset()
    dual_encoder: bool = False
    vision_prefix: str = ""
    originals: str = ""

    def __post_init__(self) -> None:
        unknown = self.capabilities - CAPABILITIES.keys()
        if unknown:
            raise ValueError(f"{self.name}: unknown capabilities {sorted(unknown)}")

    @property
    def reads_regions(self) -> bool:
        return self.input == "regions"

    def is_head(self, name: str) -> bool:
        """Whether a weight is the task head's."""
        return bool(self.head_prefix) and name.startswith(self.head_prefix)

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs that it supports, as its registry entry lists them."""
        trainable = ("finetune", "distill") if self.new_config and self.head_config else ()
        return (*(("pretrain",) if self.pretraining else ()), *trainable, *(("import",) if self.originals else ()))


@cache
def load_spec(name: str) -> ModelSpec:
    """Raises ConfigError if there is no such architecture."""
    return registry.load(registry.ARCHITECTURES, name, kind="model")


def all_specs() -> list[ModelSpec]:
    return [load_spec(name) for name in registry.ARCHITECTURES]


def spec_of(model: nn.Module) -> ModelSpec:
    """The spec of a built model: that of an ensemble, or of the architecture, whose configuration's model_type is
    `vlx-` and the name."""
    spec = getattr(model, "spec", None)
    if isinstance(spec, ModelSpec):
        return spec
    config = cast(PretrainedConfig, model.config)
    return load_spec(config.model_type.removeprefix("vlx-").replace("-", "_"))
