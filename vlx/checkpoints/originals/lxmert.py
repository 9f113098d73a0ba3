"""LXMERT weights files and transformers' LXMERT folders, in and out (LXMERT, src/lxrt/modeling.py)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor

from vlx.checkpoints.answers import answer_rows
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.lxmert import HEADS, REGION_HEADS, Lxmert, LxmertConfig, LxmertForPreTraining
from vlx.objectives.mrm import LXMERT_MASK_RATE

IS_FOLDER = False
PRETRAINING = ("cls.", "obj_predict_head.", "answer_head.")  # heads that a fine-tuned model has not
BERT_LACKS = (*(f"bert.encoder.{part}." for part in ("visn_fc", "r_layers", "x_layers")), *PRETRAINING[1:])
UNUSED = ("bert.embeddings.position_ids", "cls.predictions.decoder.bias")  # in some of BERT's files
WORDS, REGIONS = "bert.embeddings.word_embeddings.weight", "bert.encoder.visn_fc.visn_fc.weight"
LAST = ("logit_fc.3.weight", "logit_fc.3.bias")  # with a row for each answer
SIZES = {  # the weights that tell, by their rows and columns
    WORDS: ("vocab_size", "hidden_size"),
    REGIONS: ("hidden_size", "visual_feat_dim"),
    "bert.encoder.visn_fc.box_fc.weight": ("hidden_size", "visual_pos_dim"),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size"),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
    "obj_predict_head.decoder_dict.obj.weight": ("num_object_labels", "hidden_size"),
    "obj_predict_head.decoder_dict.attr.weight": ("num_attr_labels", "hidden_size"),
    "answer_head.logit_fc.3.weight": ("num_qa_labels",),
    "logit_fc.3.weight": ("num_labels",),
}
STACKS = {"num_hidden_layers": "layer", "region_layers": "r_layers", "cross_layers": "x_layers"}
ROOTS = {"lxmert": "bert"} | {part: f"bert.{part}" for part in ("embeddings", "encoder", "pooler")}
TOLD = ("num_attention_heads", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


def rerooted(weights: dict[str, Tensor], roots: dict[str, str]) -> dict[str, Tensor]:
    """The weights, the first words of their names exchanged."""
    parts = ((name.partition("."), tensor) for name, tensor in weights.items())
    return {roots.get(root, root) + dot + rest: tensor for (root, dot, rest), tensor in parts}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by the model's names (`module.`: trained on several devices), and what a config.json beside tells."""
    if not path.is_dir():
        given = {modern_name(name).replace("module.", ""): tensor for name, tensor in read_weights(path).items()}
        return rerooted({name.removeprefix("lxrt_encoder.model."): given[name] for name in given}, ROOTS), {}
    file, beside = path / "model.safetensors", path / "config.json"
    try:
        config = {"num_attention_heads": 12, "hidden_act": "gelu"} | json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{beside}: not transformers' configuration of LXMERT ({error}).") from error
    if config["hidden_act"] != "gelu":
        raise CheckpointError(f"{beside}: hidden_act={config['hidden_act']}; expected gelu, the published model's.")
    weights, _ = read(file if file.is_file() else path / "pytorch_model.bin")
    return weights, {name: config[name] for name in TOLD if name in config}


def infer(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """What the shapes tell; the rest as published, attention heads 64 wide. A plain BERT says nothing of regions."""
    if WORDS not in weights:
        raise CheckpointError(f"{path}: no {WORDS} in it; expected the weights of an LXMERT model.")
    options: dict[str, Any] = {}
    if REGIONS in weights:
        parts = [name.split(".") for name in weights]
        options = {key: len({part[3] for part in parts if stack in part[2:3]}) for key, stack in STACKS.items()}
        shown = [own for name, own in REGION_HEADS.items() if f"{HEADS[name]}.weight" in weights]
        options |= {"visual_losses": shown, "num_qa_labels": 0}
    for name in SIZES.keys() & weights.keys():
        options |= dict(zip(SIZES[name], weights[name].shape, strict=False))
    if "logit_fc.0.weight" in weights:
        options["num_images"] = weights["logit_fc.0.weight"].shape[1] // options["hidden_size"]
    return options | {"num_attention_heads": max(1, options["hidden_size"] // 64)}


def load_lxmert(
    path: Path, *, new_head: bool = False, tables: tuple[Sequence[str], Sequence[str]] | None = None, **changes: Any
) -> tuple[Lxmert, LoadReport]:
    """A weights file or transformers' folder with its head, fine-tuned or of pre-training. tables: pre-training's
    answers and those that the model shall have, whose rows it keeps (--loadLXMERTQA). new_head: one drawn at random, of
    num_labels and num_images, which like other `changes` are of the configuration."""
    (weights, told), source = read(path), str(path)
    if not any(name.startswith("logit_fc.") for name in weights):
        weights = {name.removeprefix("answer_head."): tensor for name, tensor in weights.items()}
    if new_head:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("logit_fc.")}
    elif LAST[0] not in weights:
        raise CheckpointError(f"{path}: no answer head in it; ask for a new one.")
    if tables:
        weights |= {name: answer_rows(weights[name], *tables) for name in LAST}
        source += f", {weights[LAST[0]].any(1).sum()} of {len(tables[1])} answers known from pre-training"
    model, may_miss = Lxmert(LxmertConfig(**(infer(weights, path) | told | changes))), ("logit_fc.",) * new_head
    return model, load_weights(model, weights, source=source, may_miss=may_miss, may_exceed=PRETRAINING)


def load_lxmert_pretraining(
    path: Path, *, new: tuple[str, ...] = (), **changes: Any
) -> tuple[LxmertForPreTraining, LoadReport]:
    """The same with the heads of pre-training. What starts with one of `new` may be missing and starts at random;
    BERT_LACKS: what a plain BERT has not, whose layers beyond num_hidden_layers are left."""
    weights, told = read(path)
    model = LxmertForPreTraining(LxmertConfig(**(infer(weights, path) | told | changes)))
    weights.setdefault("cls.predictions.decoder.weight", weights[WORDS])  # safetensors hold a tied tensor once
    spare = () if REGIONS in weights else ("bert.encoder.layer.",)
    return model, load_weights(model, weights, source=str(path), may_miss=new, may_exceed=(*UNUSED, *spare))


def load_original(path: Path) -> tuple[Lxmert, LoadReport]:
    return load_lxmert(path)


def input_shape(model: Lxmert) -> tuple[int, int]:
    """Images of an example and features of a region."""
    return model.config.num_images, model.config.visual_feat_dim


def export_original(model: Lxmert | LxmertForPreTraining) -> dict[str, Tensor]:
    """Copies of the weights under the original's names."""
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return rerooted(weights, {"bert": "lxrt_encoder.model.bert"} if isinstance(model, Lxmert) else {})


def export_transformers(model: Lxmert | LxmertForPreTraining) -> tuple[transformers.LxmertConfig, dict[str, Tensor]]:
    """For LxmertForPreTraining or LxmertForQuestionAnswering; without a head that transformers has not, LxmertModel."""
    own, tuned = model.config, isinstance(model, Lxmert)
    answers = own.num_labels if tuned else own.num_qa_labels
    names = {*TOLD, *sum(SIZES.values(), ())} - {"num_labels"}
    options = {name: getattr(own, name) for name in names} | {"num_qa_labels": answers, "task_qa": bool(answers)}
    options |= {"l_layers": own.num_hidden_layers, "r_layers": own.region_layers, "x_layers": own.cross_layers}
    options |= {f"visual_{name}_loss": name in own.visual_losses for name in REGION_HEADS.values()}
    options |= {"task_obj_predict": bool(own.visual_losses), "visual_loss_normalizer": 1 / LXMERT_MASK_RATE}
    weights = rerooted(model.state_dict(), {"bert": "lxmert", "logit_fc": "answer_head.logit_fc"})
    left = ("answer_head.",) if tuned and (own.num_images > 1 or own.grounding) else ()
    kept = {name: tensor.detach().clone() for name, tensor in weights.items() if not name.startswith(left)}
    return transformers.LxmertConfig(**options), kept
