"""ViLBERT weights files, in and out, with a config.json of the original beside (ViLBERT, vilbert/vilbert.py)."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.vilbert import Vilbert
from vlx.models.vilbert_config import VilbertConfig
from vlx.models.vilbert_heads import HEADS

IS_FOLDER = False
UNUSED = ("bert.pooler.", "cls.seq_relationship.")  # a plain BERT's
SIZES = {  # the weights that tell, by their rows and columns
    "bert.embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size"),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
    "bert.v_embeddings.image_embeddings.weight": ("v_hidden_size", "v_feature_size"),
    "bert.encoder.v_layer.0.intermediate.dense.weight": ("v_intermediate_size", "v_hidden_size"),
    "bert.t_pooler.dense.weight": ("bi_hidden_size", "hidden_size"),
    "cls.imagePredictions.decoder.weight": ("v_target_size", "v_hidden_size"),
}
ONLY = {"model": "bert", "hidden_act": "gelu", "v_hidden_act": "gelu"}  # what the published models are


def infer(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the shapes tell; the rest is as published. A head that the original lacks is of kind answers or classes."""
    switches = {"task_specific_tokens": "task_embeddings", "dynamic_attention": "dyLinear_q"}
    options: dict[str, Any] = {key: any(part in name for name in shapes) for key, part in switches.items()}
    options["heads"] = heads = {}
    for name, shape in shapes.items():
        options |= dict(zip(SIZES.get(name, ()), shape, strict=False))
        head, _, rest = name.partition(".")
        if rest in ("weight", "logit_fc.3.weight"):
            kind = HEADS[head][0] if head in HEADS else "classes" if rest == "weight" else "answers"
            heads[head] = (kind, shape[0])
    stacks = ("layer", "v_layer", "c_layer")
    text, image, bridges = (len({n.split(".")[3] for n in shapes if f"bert.encoder.{s}." in n}) for s in stacks)
    options |= {"num_hidden_layers": text, "num_attention_heads": max(1, options.get("hidden_size", 768) // 64)}
    if image:  # a plain BERT has none, and says nothing of them
        places = {"v_biattention_id": [*range(bridges)], "t_biattention_id": [*range(text - bridges, text)]}
        options |= {"v_num_hidden_layers": image} | places
    return options | {"head": "vil_prediction" if "vil_prediction" in heads else next(iter(heads), "itm")}


def read_config(path: Path) -> dict[str, Any]:
    """What an original config.json says of the model, without what the weights themselves show."""
    try:
        given = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: not a ViLBERT configuration ({error}).") from error
    if odd := {name: given[name] for name, value in ONLY.items() if given.get(name, value) != value}:
        raise CheckpointError(f"{path}: {odd}; expected {ONLY}.")
    own = VilbertConfig.__annotations__.keys() - {"task_specific_tokens", "dynamic_attention", "heads", "head"}
    absent = {"v_num_attention_heads": 12, "bi_num_attention_heads": 16}  # the original's for an absent name
    return absent | {name: given[name] for name in own & given.keys()}


def load_vilbert(path: Path, *, new: tuple[str, ...] = (), **changes: Any) -> tuple[Vilbert, LoadReport]:
    """A weights file. `changes` are of the configuration; what starts with one of `new` may be missing and starts at
    random: a new head (`colour.`), or all that is visual when the file is a plain BERT's."""
    weights = {modern_name(name.removeprefix("module.")): tensor for name, tensor in read_weights(path).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if lacking := [name for name in SIZES if name not in shapes and not name.startswith(new)]:
        raise CheckpointError(f"{path}: no {lacking[0]} in it; expected the weights of a ViLBERT model.")
    options, beside = infer(shapes), path.with_name("config.json")
    model = Vilbert(VilbertConfig(**(options | (read_config(beside) if beside.is_file() else {}) | changes)))
    idle = [f"bert.encoder.c_layer.{k}.biOutput.q_dense" for k in range(len(model.bert.encoder.c_layer))]
    idle += [f"{name}." for name in options["heads"] if name not in model.config.heads]
    return model, load_weights(model, weights, source=str(path), may_miss=new, may_exceed=(*UNUSED, *idle))


def load_original(path: Path) -> tuple[Vilbert, LoadReport]:
    return load_vilbert(path)


def input_shape(model: Vilbert) -> tuple[int, int]:
    """Images of an example and features of a region."""
    return 1, model.config.v_feature_size


def export_original(model: Vilbert) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's; the q_dense it never used are left out."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
