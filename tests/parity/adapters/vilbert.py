"""vilbert/*: the 12-in-1 model, its pre-training and the losses of its tasks. All inputs hold their global region."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from tests.parity.vilbert_tasks import KINDS
from vlx.checkpoints.originals.vilbert import export_original, load_vilbert
from vlx.models.layers import repeat
from vlx.models.vilbert import Vilbert
from vlx.models.vilbert_heads import HEADS, PRETRAINING
from vlx.objectives.pretraining import PretrainingSettings, pretraining_losses

Batch = dict[str, Tensor]
NAMES = {  # vlx's name -> the original's names, of the model's arguments and of a data set's fields
    "input_ids": ("input_txt", "input_ids", "question"),
    "text_mask": ("attention_mask", "input_mask"),
    "token_type_ids": ("token_type_ids", "segment_ids"),
    "regions": ("input_imgs", "image_feat", "features"),
    "boxes": ("image_loc", "spatials"),
    "region_mask": ("image_attention_mask", "image_mask"),
    "task_ids": ("task_ids", "task_tokens"),
}
TYPES = {  # the head that gives a task's scores
    "VL-classifier": "vil_prediction", "VL-classifier-GQA": "vil_prediction_gqa", "VL-logit": "vil_logit",
    "V-logit": "vision_logit", "V-logit-mc": "vision_logit", "VL-binary-classifier": "vil_binary_prediction",
    "VL-tri-classifier": "vil_tri_prediction",
}  # fmt: skip
MRM_LOSSES = ("kl", "mse", "nce")  # by the original's visual_target
FIRST_CHOICE = 101  # the original puts ground-truth boxes behind 100 detections and the global region


def check(case: Path) -> None:
    inputs = load_file(case / "inputs.safetensors")
    expected = load_file(case / "expected.safetensors")
    model = vilbert(case / "weights.safetensors")
    config = json.loads((case / "config.json").read_text())
    with torch.no_grad():
        if "masked_lm_labels" in inputs:
            return check_pretraining(model, inputs, expected, MRM_LOSSES[config["visual_target"]])
        if "input_txt" in inputs:
            return check_heads(model, inputs, expected, config)
        numbers = json.loads((case / "expected.json").read_text())
        tasks = {name.partition(".")[0] for name in inputs if name.startswith("TASK")}
        for task in tasks:
            kind = numbers.get(task, numbers | {"type": "VL-logit"})  # a file of one task does not name its type
            check_task(model, int(task[4:]), fields(inputs, f"{task}."), fields(expected, f"{task}."), kind)
        if not tasks:
            kind = numbers | {"type": "VL-binary-classifier", "process": "nlvr"}
            check_task(model, int(expected["model_in.task_tokens"][0]), inputs, expected, kind)


def vilbert(weights: Path) -> Vilbert:
    """The model that the case's files describe. Unexpected are only weights that the original never uses."""
    model, report = load_vilbert(weights, global_region=False)
    assert report.share == 1.0 and not report.missing and all("q_dense" in name for name in report.unexpected)
    tensors = load_file(weights)
    exported = export_original(model)
    assert exported.keys() == tensors.keys() - set(report.unexpected)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in exported.items())
    return model.eval()


def batch_of(inputs: Batch) -> Batch:
    """The original's inputs in vlx's names. The model computes the fifth location, the area."""
    batch = {name: inputs[old] for name, olds in NAMES.items() for old in olds if old in inputs}
    masks = {name: batch[name].bool() for name in ("text_mask", "region_mask")}
    return batch | masks | {"boxes": batch["boxes"][..., :4]}


def fields(tensors: Batch, prefix: str) -> Batch:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_heads(model: Vilbert, inputs: Batch, expected: Batch, config: dict[str, Any]) -> None:
    """Every head and every layer. The original's pair head reads the rows two by two; an odd number of rows gives the
    ITM scores of each row instead."""
    batch = batch_of(inputs)
    if config.get("fast_mode") or config.get("in_batch_pairs"):  # every caption against every image
        texts = len(batch["input_ids"])
        batch |= {name: batch[name].expand(texts, *batch[name].shape) for name in ("regions", "boxes", "region_mask")}
    outputs = record_outputs(
        model, [name.removeprefix("inter.") for name in expected if name.startswith("inter.bert.")]
    )
    output = model(batch, heads=[name for name in [*HEADS, *PRETRAINING] if name != "vil_binary_prediction"])
    tensors = output.scores | {f"inter.{name}": tensor for name, tensor in outputs.items()}
    pairs = output.pooled.reshape(-1, 2 * output.pooled.shape[1]) if len(output.pooled) % 2 == 0 else None
    tensors["vil_binary_prediction"] = tensors["itm"] if pairs is None else model.vil_binary_prediction(pairs)
    tensors |= {"vision_prediction": tensors["mrm"], "linguisic_prediction": tensors["mlm"]}
    tensors |= {"inter.alignment_logits": tensors["itm"], "inter.bert.embeddings": model.bert.embed_text(batch)[0]}
    for name, tensor in expected.items():
        close(tensors[name].reshape(tensor.shape), tensor, name)


def record_outputs(model: Vilbert, names: list[str]) -> Batch:
    """The outputs of the named modules, after the model has run; a bridge has two, `vision` and `text`."""
    outputs: Batch = {}
    for name in names:
        module, _, stream = name.rpartition(".") if name.endswith((".vision", ".text")) else (name, "", "")

        def record(_: object, __: object, output: Any, name: str = name, stream: str = stream) -> None:
            outputs[name] = output[stream == "text"] if stream else output

        model.get_submodule(module).register_forward_hook(record)
    return outputs


def check_pretraining(model: Vilbert, inputs: Batch, expected: Batch, mrm_loss: str) -> None:
    scores = model(batch_of(inputs), heads=tuple(PRETRAINING)).scores
    names = {"mlm": "prediction_scores_t", "mrm": "prediction_scores_v", "itm": "seq_relationship_score"}
    for name, original in names.items():
        close(scores[name], expected[original], original)
    targets = {"mlm_labels": inputs["masked_lm_labels"], "region_targets": inputs["image_target"]}
    targets |= {"masked_regions": inputs["image_label"] == 1, "itm_labels": 1 - inputs["next_sentence_label"]}
    if mrm_loss == "nce":
        targets["nce_negatives"] = expected["neg_index"]
    scores["mrm"] = scores["mrm"][:, 1:]  # the global region has no target
    losses = pretraining_losses(scores, targets, PretrainingSettings(mrm_loss=mrm_loss, itm_positive_class=0))
    for name, original in {"mlm": "masked_lm", "mrm": "masked_img", "itm": "next_sentence"}.items():
        close(losses[name].view(1), expected[f"{original}_loss"], f"{original}_loss")


def check_task(model: Vilbert, task: int, inputs: Batch, expected: Batch, numbers: dict[str, Any]) -> None:
    """A data set's batch through the model: its rows, the head, the loss and the score."""
    batch = batch_of(inputs) | {"task_ids": torch.full((len(inputs["target"]),), task)}
    if numbers.get("process") == "nlvr":  # [B,2R,..] -> [B,2,R,..]
        for name in ("regions", "boxes", "region_mask"):
            batch[name] = batch[name].unflatten(1, (2, -1))
    kind = KINDS[numbers["type"]]
    head = TYPES[numbers["type"]]
    output = model(batch, heads=(head, "vil_prediction"))
    check_rows(batch, expected)
    tensors = {"head": output.logits, "vil_binary_prediction": output.logits, "fused_pooled": output.pooled}
    tensors |= {"pair_vector": output.pooled, "vil_prediction_row0": output.scores["vil_prediction"][:1, :16]}
    for name in tensors.keys() & expected.keys():
        close(tensors[name].reshape(expected[name].shape), expected[name], f"{task} {name}")
    target = inputs["target"]
    batch |= {"targets": target.flatten(1)} if target.is_floating_point() else {"labels": target}
    if "multiple_choice_ids" in inputs:
        batch["choices"] = inputs["multiple_choice_ids"] + FIRST_CHOICE
    loss = kind.loss(output.logits, batch)
    score = kind.score(output.logits, batch)
    assert len(score) == numbers["val_batch_size"]
    results = {"val_loss": loss, "train_loss": loss, "val_score_sum": score.sum(), "train_score": score.mean()}
    for name, number in results.items():
        close(number, torch.tensor(numbers[name]), f"{task} {name}")


def check_rows(batch: Batch, expected: Batch) -> None:
    """The rows that the model reads equal those of the original model."""
    for name, originals in NAMES.items():
        for rows in (expected[f"model_in.{key}"] for key in originals if f"model_in.{key}" in expected):
            tensor = batch[name]
            if name in ("regions", "boxes"):
                tensor = tensor.flatten(0, -3)
            elif tensor.dim() > 1:
                tensor = tensor.flatten(0, -2)
            if name == "boxes":
                rows = rows[..., :4]
            elif name == "task_ids":
                rows = rows.squeeze(-1)
            close(repeat(tensor, len(rows)).to(rows.dtype), rows, f"rows of {name}")
