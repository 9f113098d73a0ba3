"""LXMERT's weights files and transformers' LXMERT folders (LXMERT, src/lxrt/modeling.py)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor

from vlx.checkpoints.answers import answer_rows
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import copied_weights, modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.lxmert import HEADS, REGION_HEADS, Lxmert, LxmertConfig, LxmertForPreTraining
from vlx.objectives.mrm import LXMERT_MASK_RATE

IS_FOLDER = False
PRETRAINING = ("cls.", "obj_predict_head.", "answer_head.")  # heads that a fine-tuned model does not have
NOT_IN_BERT = (*(f"bert.encoder.{part}." for part in ("visn_fc", "r_layers", "x_layers")), *PRETRAINING[1:])
UNUSED = ("bert.embeddings.position_ids", "cls.predictions.decoder.bias")  # in some of BERT's files
WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
REGION_EMBEDDINGS = "bert.encoder.visn_fc.visn_fc.weight"
LAST_LAYER = ("logit_fc.3.weight", "logit_fc.3.bias")  # one row for each answer
SIZES = {  # weight -> entries of the configuration that its rows and columns give
    WORD_EMBEDDINGS: ("vocab_size", "hidden_size"),
    REGION_EMBEDDINGS: ("hidden_size", "visual_feat_dim"),
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
CONFIG_NAMES = ("num_attention_heads", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


def with_roots(weights: dict[str, Tensor], roots: dict[str, str]) -> dict[str, Tensor]:
    """The weights with the first part of their names replaced: old -> new."""
    parts = ((name.partition("."), tensor) for name, tensor in weights.items())
    return {roots.get(root, root) + dot + rest: tensor for (root, dot, rest), tensor in parts}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights by the model's names, and the entries of the folder's config.json; none of a single file."""
    return read_folder(path) if path.is_dir() else (read_file(path), {})


def read_file(path: Path) -> dict[str, Tensor]:
    """The prefix `module.` is in files of several devices."""
    weights = {modern_name(name).replace("module.", ""): tensor for name, tensor in read_weights(path).items()}
    weights = {name.removeprefix("lxrt_encoder.model."): tensor for name, tensor in weights.items()}
    return with_roots(weights, ROOTS)


def read_folder(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A folder of transformers' LXMERT."""
    config_file = path / "config.json"
    weights_file = path / "model.safetensors"
    try:
        entries = json.loads(config_file.read_text(encoding="utf-8"))
        config = {"num_attention_heads": 12, "hidden_act": "gelu"} | entries
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{config_file}: not transformers' configuration of LXMERT ({error}).") from error
    if config["hidden_act"] != "gelu":
        activation = f"hidden_act={config['hidden_act']}"
        raise CheckpointError(f"{config_file}: {activation}; expected gelu, the published model's.")
    weights = read_file(weights_file if weights_file.is_file() else path / "pytorch_model.bin")
    return weights, {name: config[name] for name in CONFIG_NAMES if name in config}


def infer(weights: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """The entries of the configuration that names and shapes give, with attention heads 64 wide. The weights of a plain
    BERT give none about regions."""
    if WORD_EMBEDDINGS not in weights:
        raise CheckpointError(f"{path}: no {WORD_EMBEDDINGS} in it; expected the weights of an LXMERT model.")
    options: dict[str, Any] = {}
    if REGION_EMBEDDINGS in weights:
        parts = [name.split(".") for name in weights]
        options = {key: len({part[3] for part in parts if stack in part[2:3]}) for key, stack in STACKS.items()}
        options["visual_losses"] = [
            head for objective, head in REGION_HEADS.items() if f"{HEADS[objective]}.weight" in weights
        ]
        options["num_qa_labels"] = 0
    for name in SIZES.keys() & weights.keys():
        options |= dict(zip(SIZES[name], weights[name].shape, strict=False))
    if "logit_fc.0.weight" in weights:
        options["num_images"] = weights["logit_fc.0.weight"].shape[1] // options["hidden_size"]
    return options | {"num_attention_heads": max(1, options["hidden_size"] // 64)}


def load_lxmert(
    path: Path,
    *,
    new_head: bool = False,
    answers: tuple[Sequence[str], Sequence[str]] | None = None,
    **entries: Any,
) -> tuple[Lxmert, LoadReport]:
    """Load a weights file or transformers' folder with its answer head, fine-tuned or of pre-training.

    new_head: the head keeps its random initialization, of num_labels and num_images. answers: those of pre-training and
    those of the model, whose rows of the head are copied (--loadLXMERTQA). entries: of the configuration.
    """
    weights, config = read(path)
    source = str(path)
    if not any(name.startswith("logit_fc.") for name in weights):
        weights = {name.removeprefix("answer_head."): tensor for name, tensor in weights.items()}
    if new_head:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("logit_fc.")}
    elif LAST_LAYER[0] not in weights:
        raise CheckpointError(
            f"{path}: no answer head in it; expected a fine-tuned file, or a pre-trained one with answers."
        )
    if answers:
        weights |= {name: answer_rows(weights[name], *answers) for name in LAST_LAYER}
        count = weights[LAST_LAYER[0]].any(1).sum()
        source += f", {count} of {len(answers[1])} answers known from pre-training"
    model = Lxmert(LxmertConfig(**(infer(weights, path) | config | entries)))
    may_miss = ("logit_fc.",) if new_head else ()
    return model, load_weights(model, weights, source=source, may_miss=may_miss, may_exceed=PRETRAINING)


def load_lxmert_pretraining(
    path: Path, *, new_prefixes: tuple[str, ...] = (), **entries: Any
) -> tuple[LxmertForPreTraining, LoadReport]:
    """Load a weights file or transformers' folder with the heads of pre-training.

    new_prefixes: weights whose names begin so keep their random initialization where the file has none; NOT_IN_BERT for
    the file of a plain BERT, whose layers beyond num_hidden_layers are skipped. entries: of the configuration.
    """
    weights, config = read(path)
    model = LxmertForPreTraining(LxmertConfig(**(infer(weights, path) | config | entries)))
    weights.setdefault("cls.predictions.decoder.weight", weights[WORD_EMBEDDINGS])  # safetensors hold tied tensors once
    skipped = UNUSED if REGION_EMBEDDINGS in weights else (*UNUSED, "bert.encoder.layer.")
    return model, load_weights(model, weights, source=str(path), may_miss=new_prefixes, may_exceed=skipped)


def load_original(path: Path) -> tuple[Lxmert, LoadReport]:
    return load_lxmert(path)


def input_shape(model: Lxmert) -> tuple[int, int]:
    """Images of an example and features of a region."""
    return model.config.num_images, model.config.visual_feat_dim


def export_original(model: Lxmert | LxmertForPreTraining) -> dict[str, Tensor]:
    """Copies of the weights under the original's names."""
    return with_roots(copied_weights(model), {"bert": "lxrt_encoder.model.bert"} if isinstance(model, Lxmert) else {})


def export_transformers(model: Lxmert | LxmertForPreTraining) -> tuple[transformers.LxmertConfig, dict[str, Tensor]]:
    """For transformers' LxmertForPreTraining or LxmertForQuestionAnswering; for its LxmertModel where transformers has
    no such head."""
    weights = with_roots(copied_weights(model), {"bert": "lxmert", "logit_fc": "answer_head.logit_fc"})
    if isinstance(model, Lxmert) and (model.config.num_images > 1 or model.config.grounding):
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("answer_head.")}
    return transformers_config(model), weights


def transformers_config(model: Lxmert | LxmertForPreTraining) -> transformers.LxmertConfig:
    config = model.config
    answers = config.num_labels if isinstance(model, Lxmert) else config.num_qa_labels
    names = {*CONFIG_NAMES, *(name for entries in SIZES.values() for name in entries)} - {"num_labels"}
    options = {name: getattr(config, name) for name in names}
    options |= {"num_qa_labels": answers, "task_qa": bool(answers)}
    options |= {"l_layers": config.num_hidden_layers, "r_layers": config.region_layers}
    options |= {"x_layers": config.cross_layers, "task_obj_predict": bool(config.visual_losses)}
    options |= {f"visual_{name}_loss": name in config.visual_losses for name in REGION_HEADS.values()}
    return transformers.LxmertConfig(**options, visual_loss_normalizer=1 / LXMERT_MASK_RATE)
