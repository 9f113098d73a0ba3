"""ViLBERT's weights files, with the original's config.json in the same folder (ViLBERT, vilbert/vilbert.py)."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import copied_weights, modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.vilbert import Vilbert
from vlx.models.vilbert_config import VilbertConfig
from vlx.models.vilbert_heads import HEADS

IS_FOLDER = False
UNUSED = ("bert.pooler.", "cls.seq_relationship.")  # a plain BERT's
SIZES = {  # weight -> entries of the configuration that its rows and columns give
    "bert.embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size"),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
    "bert.v_embeddings.image_embeddings.weight": ("v_hidden_size", "v_feature_size"),
    "bert.encoder.v_layer.0.intermediate.dense.weight": ("v_intermediate_size", "v_hidden_size"),
    "bert.t_pooler.dense.weight": ("bi_hidden_size", "hidden_size"),
    "cls.imagePredictions.decoder.weight": ("v_target_size", "v_hidden_size"),
}
SWITCHES = {"task_specific_tokens": "task_embeddings", "dynamic_attention": "dyLinear_q"}  # on where a name has this
FROM_WEIGHTS = {"task_specific_tokens", "dynamic_attention", "heads", "head"}  # the file decides, not config.json
SUPPORTED = {"model": "bert", "hidden_act": "gelu", "v_hidden_act": "gelu"}  # as in the published models
ABSENT = {"v_num_attention_heads": 12, "bi_num_attention_heads": 16}  # the original's values of absent entries
Shapes = dict[str, tuple[int, ...]]


def infer(shapes: Shapes) -> dict[str, Any]:
    """The entries of the configuration that names and shapes give. The weights of a plain BERT give none about
    regions."""
    options: dict[str, Any] = {key: any(part in name for name in shapes) for key, part in SWITCHES.items()}
    for name, shape in shapes.items():
        options |= dict(zip(SIZES.get(name, ()), shape, strict=False))
    heads = infer_heads(shapes)
    text_layers = count_layers(shapes, "layer")
    image_layers = count_layers(shapes, "v_layer")
    options |= {
        "heads": heads,
        "head": "vil_prediction" if "vil_prediction" in heads else next(iter(heads), "itm"),
        "num_hidden_layers": text_layers,
        "num_attention_heads": max(1, options.get("hidden_size", 768) // 64),
    }
    if image_layers:
        bridges = count_layers(shapes, "c_layer")
        options["v_num_hidden_layers"] = image_layers
        options["v_biattention_id"] = list(range(bridges))
        options["t_biattention_id"] = list(range(text_layers - bridges, text_layers))
    return options


def infer_heads(shapes: Shapes) -> dict[str, tuple[str, int]]:
    """Kind and number of scores of each task head. A head that the original does not have is of kind `answers`, or
    `classes` if it is one linear layer."""
    heads = {}
    for name, shape in shapes.items():
        head, _, weight = name.partition(".")
        if weight == "weight":
            heads[head] = (HEADS.get(head, ("classes", 0))[0], shape[0])
        elif weight == "logit_fc.3.weight":
            heads[head] = (HEADS.get(head, ("answers", 0))[0], shape[0])
    return heads


def count_layers(shapes: Shapes, stack: str) -> int:
    return len({name.split(".")[3] for name in shapes if f"bert.encoder.{stack}." in name})


def read_config(path: Path) -> dict[str, Any]:
    """The model's entries of an original config.json, without those that the weights give."""
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: not a ViLBERT configuration ({error}).") from error
    foreign = {name: content[name] for name, value in SUPPORTED.items() if content.get(name, value) != value}
    if foreign:
        raise CheckpointError(f"{path}: {foreign}; expected {SUPPORTED}.")
    names = VilbertConfig.__annotations__.keys() - FROM_WEIGHTS
    return ABSENT | {name: content[name] for name in names & content.keys()}


def load_vilbert(path: Path, *, new_prefixes: tuple[str, ...] = (), **entries: Any) -> tuple[Vilbert, LoadReport]:
    """Load a weights file, with the config.json in its folder if there is one.

    new_prefixes: weights whose names begin so keep their random initialization where the file has none: a new head
    (`colour.`), or the image stream if the file is a plain BERT's. entries: of the configuration.
    """
    weights = {modern_name(name.removeprefix("module.")): tensor for name, tensor in read_weights(path).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in SIZES:
        if name not in shapes and not name.startswith(new_prefixes):
            raise CheckpointError(f"{path}: no {name} in it; expected the weights of a ViLBERT model.")
    options = infer(shapes)
    config_file = path.with_name("config.json")
    config = read_config(config_file) if config_file.is_file() else {}
    model = Vilbert(VilbertConfig(**(options | config | entries)))
    skipped = [f"bert.encoder.c_layer.{k}.biOutput.q_dense" for k in range(len(model.bert.encoder.c_layer))]
    skipped += [f"{head}." for head in options["heads"] if head not in model.config.heads]
    report = load_weights(model, weights, source=str(path), may_miss=new_prefixes, may_exceed=(*UNUSED, *skipped))
    return model, report


def load_original(path: Path) -> tuple[Vilbert, LoadReport]:
    return load_vilbert(path)


def input_shape(model: Vilbert) -> tuple[int, int]:
    """Images of an example and features of a region."""
    return 1, model.config.v_feature_size


def export_original(model: Vilbert) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's; without the original's unused q_dense."""
    return copied_weights(model)
