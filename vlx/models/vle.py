"""VLE: CLIP's image tower and DeBERTa's text tower meet in a co-attention fusion (iFLYTEK 2023).

Parameter names are the original's, so that its checkpoints load as they are. Shapes: B images of P patches, N texts
about each (the choices of VCR; else 1), M = B*N sequences, T text tokens, K boxes, I = 1 + P + K image positions:
CLIP's class token, the patches, the boxes. An image is encoded once, whatever the number of its texts.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.clip import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deberta_v2 import DebertaV2Config, DebertaV2Model
from transformers.models.deberta_v2.modeling_deberta_v2 import LegacyDebertaV2OnlyMLMHead

from vlx.errors import ConfigError
from vlx.models.layers import DenseNorm, Output, Pooler, SelfAttention
from vlx.models.spec import ModelSpec

DEBERTA_V3_BASE: dict[str, Any] = {  # its published config.json
    "vocab_size": 128100,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}
CLIP_VIT_B16: dict[str, Any] = {"patch_size": 16, "image_size": 384}  # the rest are transformers' defaults
HEADS = {  # name -> module, by the original's name
    "vqa": "vqa_classifier",
    "itm": "itm_score",
    "pbc": "pbc_classifier",
    "mlm": "mlm_score",
    "vcr_q2a": "vcr_q2a_logit",
    "vcr_qa2r": "vcr_qa2r_logit",
}
TIED = {
    "mlm_score.1.predictions.decoder.weight": "vle.text_model.embeddings.word_embeddings.weight",
    "mlm_score.1.predictions.decoder.bias": "mlm_score.1.predictions.bias",
}


class VleConfig(PretrainedConfig):
    """The original's names; defaults are the published base model's. `heads`: some of HEADS; the first gives the
    logits. id2label holds the answers of `vqa`."""

    model_type = "vlx-vle"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(DebertaV2Config),
        "vision_config": SubConfigSpec(CLIPVisionConfig),
    }

    text_config: dict[str, Any] | DebertaV2Config = field(default_factory=lambda: dict(DEBERTA_V3_BASE))
    vision_config: dict[str, Any] | CLIPVisionConfig = field(default_factory=lambda: dict(CLIP_VIT_B16))
    num_token_types: int = 2  # text, image; for VCR one more for every object
    hidden_size: int = 768
    num_hidden_layers: int = 6  # of the fusion, for each modality
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    heads: list[str] | tuple[str, ...] = ("vqa",)
    tie_word_embeddings: bool = True


def attention(config: VleConfig) -> nn.ModuleDict:
    width = config.hidden_size
    layer = SelfAttention(width, config.num_attention_heads, dropout=config.attention_probs_dropout_prob)
    output = DenseNorm(width, width, eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob)
    return nn.ModuleDict({"self": layer, "output": output})


class FusionLayer(GradientCheckpointingLayer):
    """Self-attention of hidden [M,L,H], then cross-attention to the other modality [M,C,H]. Masks: True = attend."""

    def __init__(self, config: VleConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = attention(config)
        self.crossattention = attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.act = ACT2FN[config.hidden_act]
        self.output = DenseNorm(inner, width, eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        hidden = self.attention["output"](self.attention["self"](hidden, mask), hidden)
        crossed = self.crossattention["self"](hidden, context_mask, context)
        hidden = self.crossattention["output"](crossed, hidden)
        return self.output(self.act(self.intermediate["dense"](hidden)), hidden)


class Trunk(nn.Module):
    """Both encoders and the fusion: the original's VLEModel."""

    def __init__(self, config: VleConfig) -> None:
        super().__init__()
        vision = cast(CLIPVisionConfig, config.vision_config)
        text = cast(DebertaV2Config, config.text_config)
        width, layers = config.hidden_size, range(config.num_hidden_layers)
        self.vision_model = nn.ModuleDict({"vision_model": CLIPVisionModel(vision)})
        self.text_model = DebertaV2Model(text)
        self.text_projection_layer = nn.Linear(text.hidden_size, width)
        self.image_projection_layer = nn.Linear(vision.hidden_size, width)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, width)
        self.cross_modal_image_layers = nn.ModuleList(FusionLayer(config) for _ in layers)
        self.cross_modal_text_layers = nn.ModuleList(FusionLayer(config) for _ in layers)
        self.cross_modal_image_pooler = Pooler(width)
        self.cross_modal_text_pooler = Pooler(width)

    def text_states(self, batch: dict[str, Tensor]) -> Tensor:
        """The text encoder's last states [M,T,Ht]."""
        names = {"input_ids": "input_ids", "text_mask": "attention_mask", "token_type_ids": "token_type_ids"}
        inputs = {names[key]: batch[key].flatten(0, -2).long() for key in names if key in batch}
        return self.text_model(**inputs).last_hidden_state

    def image_states(self, pixels: Tensor) -> Tensor:
        """The image encoder's last states, normalised: pixels [B,3,S,S] -> [B,1+P,Hv]."""
        tower = cast(CLIPVisionModel, self.vision_model["vision_model"])
        return tower.post_layernorm(tower(pixel_values=pixels).last_hidden_state)

    def embed_text(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[M,T,H] and its mask [M,T]."""
        types = batch.get("text_types", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        projected = self.text_projection_layer(self.text_states(batch))
        return projected + self.token_type_embeddings(types), batch["text_mask"].flatten(0, -2)

    def embed_image(self, batch: dict[str, Tensor], texts: int) -> tuple[Tensor, Tensor]:
        """[M,I,H] and its mask [M,I], for `texts` texts an image. A box is the mean of its patches; a box without
        patches is masked."""
        states = self.image_projection_layer(self.image_states(batch["pixels"])).repeat_interleave(texts, 0)
        types = states.new_ones(states.shape[:2], dtype=torch.long)
        mask = types.bool()
        if "box_patches" in batch:
            patches = batch["box_patches"].flatten(0, -3)  # [M,K,P]
            weights = patches.to(states.dtype) / patches.sum(-1, keepdim=True).clamp(min=1)
            states = torch.cat([states, weights @ states[:, 1:]], 1)
            mask = torch.cat([mask, patches.any(-1)], 1)
            boxes = types.new_ones(patches.shape[:2])
            types = torch.cat([types, batch["box_types"].flatten(0, -2) if "box_types" in batch else boxes], 1)
        return states + self.token_type_embeddings(types), mask

    def fuse(self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The input and every layer's output, as (text, image). A layer reads the other modality's input."""
        states = [(text, image)]
        for text_layer, image_layer in zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True):
            text, image = states[-1]
            next_text = text_layer(text, text_mask, image, image_mask)
            states.append((next_text, image_layer(image, image_mask, text, text_mask)))
        return states

    def pool(self, text: Tensor, image: Tensor) -> Tensor:
        """[M,2H], the text vector first."""
        return torch.cat([self.cross_modal_text_pooler(text), self.cross_modal_image_pooler(image)], -1)


class Vle(PreTrainedModel):
    """The trunk and the heads that the configuration names."""

    config_class = VleConfig
    base_model_prefix = "vle"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: VleConfig) -> None:
        super().__init__(config)
        if not config.heads or set(config.heads) - HEADS.keys():
            raise ConfigError(f"heads={','.join(config.heads)}: expected some of {', '.join(HEADS)}.")
        if config.hidden_act not in ACT2FN:
            raise ConfigError(f"hidden_act={config.hidden_act}: expected gelu, relu or another of transformers' names.")
        self.vle = Trunk(config)
        for name in config.heads:
            self.add_module(HEADS[name], new_head(name, config))
        self._tied_weights_keys = TIED if "mlm" in config.heads else {}
        self.post_init()

    def forward(
        self, batch: dict[str, Tensor], *, heads: Sequence[str] = (), output_hidden_states: bool = False
    ) -> Output:
        """Score a batch with `heads`, or with the configuration's first; logits are those of the first.

        batch: pixels [B,3,S,S]; input_ids and text_mask [B,T] or [B,N,T]; optional token_type_ids and text_types (rows
        of the table of token types; 0), like input_ids; optional box_patches [B,K,P] or [B,N,K,P] (True: the box holds
        the patch) and box_types [..,K] (1). region_hidden are the image positions [M,I,H]; hidden_states are text and
        image positions [M,T+I,H].
        """
        shape = batch_shape(batch)
        text, text_mask = self.vle.embed_text(batch)
        image, image_mask = self.vle.embed_image(batch, texts=math.prod(shape[1:]))
        states = self.vle.fuse(text, text_mask, image, image_mask)
        text, image = states[-1]
        pooled = self.vle.pool(text, image)
        scores = {name: self.score(name, shape, pooled, text, image) for name in heads or self.config.heads[:1]}
        hidden = tuple(torch.cat(pair, 1) for pair in states) if output_hidden_states else ()
        return Output(next(iter(scores.values())), pooled, text, image, hidden, scores=scores)

    def score(self, name: str, shape: torch.Size, pooled: Tensor, text: Tensor, image: Tensor) -> Tensor:
        """vqa [M,A], itm [M,2] (1: matching), pbc [M,P+K,2], mlm [M,T,V], vcr_* [B,N]."""
        head = self.get_submodule(HEADS[name])
        if name == "mlm":
            return head(text)
        if name == "pbc":
            return head(image[:, 1:])
        return head(pooled).view(shape[0], -1) if name.startswith("vcr") else head(pooled)


def batch_shape(batch: dict[str, Tensor]) -> torch.Size:
    """(B,) or (B,N) of the texts. Raises ValueError unless there are B images, and boxes for every text."""
    texts = batch["input_ids"].shape[:-1]
    images = batch["pixels"].shape[:-3]
    boxes = batch["box_patches"].shape[:-2] if "box_patches" in batch else texts
    if images != texts[:1] or boxes != texts:
        raise ValueError(f"texts {tuple(texts)}, images {tuple(images)} and boxes {tuple(boxes)} do not match.")
    return texts


def new_head(name: str, config: VleConfig) -> nn.Module:
    """A head of HEADS; Sequential indices are the original's."""
    width = config.hidden_size
    if name == "itm":
        return nn.Sequential(OrderedDict(fc=nn.Linear(2 * width, 2)))
    if name == "mlm":
        text = cast(DebertaV2Config, config.text_config)
        return nn.Sequential(nn.Linear(width, text.hidden_size), LegacyDebertaV2OnlyMLMHead(text))
    inputs, outputs = {"vqa": (2 * width, cast(int, config.num_labels)), "pbc": (width, 2)}.get(name, (2 * width, 1))
    return nn.Sequential(nn.Linear(inputs, inputs), nn.LayerNorm(inputs), nn.GELU(), nn.Linear(inputs, outputs))


def resize_positions(table: Tensor, grid: int) -> Tensor:
    """Bicubic resize of CLIP's position embeddings [1+G*G,H] to grid x grid patches; the class token's row stays."""
    old_grid = math.isqrt(len(table) - 1)
    square = table[1:].T.reshape(1, -1, old_grid, old_grid)
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T])


def image_processor(image_size: int, **options: Any) -> CLIPImageProcessorPil:
    """CLIP's processor for RGB images: resize the shorter side to image_size (bicubic), crop the central square,
    normalise; on Pillow, bit-identical to the published one. options: entries of a preprocessor_config.json."""
    sizes = {"size": {"shortest_edge": image_size}, "crop_size": {"height": image_size, "width": image_size}}
    return CLIPImageProcessorPil(**(sizes | options))


SPEC = ModelSpec(
    name="vle",
    input="pixels",
    tokenizer="deberta",
    heads=frozenset({"classify", "multiple_choice"}),
    originals="vlx.checkpoints.originals.vle",
)
AutoConfig.register(VleConfig.model_type, VleConfig)
AutoModel.register(VleConfig, Vle)
