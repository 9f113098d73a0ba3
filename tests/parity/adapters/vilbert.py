"""vilbert/*: the 12-in-1 model, its pre-training and the losses of its tasks. All inputs hold their global region."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from vlx.checkpoints.vilbert import export_vilbert, load_vilbert
from vlx.objectives.vilbert import KINDS, pretraining_losses

from tests.parity.adapters.numbers import close
from vlx.models.layers import repeat
from vlx.models.vilbert import Vilbert
from vlx.models.vilbert_heads import HEADS, PRETRAINING

Batch = dict[str, Tensor]
NAMES = {  # vlx's names: those of the model's arguments, those of a data set's fields
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
FIRST_CHOICE = 101  # the original puts ground-truth boxes behind 100 detections and the global region


def check(case: Path) -> None:
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    model, config = vilbert(case / "weights.safetensors"), json.loads((case / "config.json").read_text())
    with torch.no_grad():
        if "masked_lm_labels" in inputs:
            return check_pretraining(model, inputs, expected, config["visual_target"])
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
    """The model that the case's files describe. Left over are only weights that the original itself never uses."""
    model, report = load_vilbert(weights, global_region=False)
    assert report.share == 1.0 and not report.missing and all("q_dense" in name for name in report.unexpected)
    given, ours = load_file(weights), export_vilbert(model)
    assert ours.keys() == given.keys() - set(report.unexpected)
    assert all(torch.equal(tensor, given[name]) for name, tensor in ours.items())
    return model.eval()


def batch_of(inputs: Batch) -> Batch:
    """The original's inputs in vlx's names. The fifth location, the area, is the model's to compute."""
    batch = {name: inputs[old] for name, olds in NAMES.items() for old in olds if old in inputs}
    masks = {name: batch[name].bool() for name in ("text_mask", "region_mask")}
    return batch | masks | {"boxes": batch["boxes"][..., :4]}


def fields(tensors: Batch, prefix: str) -> Batch:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def check_heads(model: Vilbert, inputs: Batch, expected: Batch, config: dict[str, Any]) -> None:
    """Every head and every layer, whatever the rows; the original's pair head takes them two by two, and where they
    are odd gives what pre-training says of each instead."""
    batch = batch_of(inputs)
    if config.get("fast_mode") or config.get("in_batch_pairs"):  # every caption against every image
        images, texts = ("regions", "boxes", "region_mask"), len(batch["input_ids"])
        batch |= {name: batch[name].expand(texts, *batch[name].shape) for name in images}
    seen = watch(model, [name.removeprefix("inter.") for name in expected if name.startswith("inter.bert.")])
    output = model(batch, heads=[name for name in [*HEADS, *PRETRAINING] if name != "vil_binary_prediction"])
    ours = output.scores | {f"inter.{name}": tensor for name, tensor in seen.items()}
    pairs = output.pooled.reshape(-1, 2 * output.pooled.shape[1]) if len(output.pooled) % 2 == 0 else None
    ours["vil_binary_prediction"] = ours["aligned"] if pairs is None else model.vil_binary_prediction(pairs)
    ours |= {"vision_prediction": ours["region_targets"], "linguisic_prediction": ours["words"]}
    ours |= {"inter.alignment_logits": ours["aligned"], "inter.bert.embeddings": model.bert.embed_text(batch)[0]}
    for name, tensor in expected.items():
        close(ours[name].reshape(tensor.shape), tensor, name)


def watch(model: Vilbert, names: list[str]) -> Batch:
    """What the named modules give, once the model has run; a bridge gives vision and text."""
    seen: Batch = {}
    for name in names:
        module, _, side = name.rpartition(".") if name.endswith((".vision", ".text")) else (name, "", "")

        def keep(_: object, __: object, output: Any, name: str = name, side: str = side) -> None:
            seen[name] = output[side == "text"] if side else output

        model.get_submodule(module).register_forward_hook(keep)
    return seen


def check_pretraining(model: Vilbert, inputs: Batch, expected: Batch, visual_target: int) -> None:
    scores = model(batch_of(inputs), heads=tuple(PRETRAINING)).scores
    names = {
        "words": "prediction_scores_t",
        "region_targets": "prediction_scores_v",
        "aligned": "seq_relationship_score",
    }
    for name, old in names.items():
        close(scores[name], expected[old], old)
    targets = {"word_labels": inputs["masked_lm_labels"], "region_targets": inputs["image_target"]}
    targets |= {"masked_regions": inputs["image_label"] == 1, "matched_labels": 1 - inputs["next_sentence_label"]}
    if visual_target == 2:
        targets["negatives"] = expected["neg_index"]
    scores["region_targets"] = scores["region_targets"][:, 1:]  # the global region has no target
    losses = pretraining_losses(scores, targets, visual_target=visual_target)
    for name, old in {"words": "masked_lm", "regions": "masked_img", "aligned": "next_sentence"}.items():
        close(losses[name].view(1), expected[f"{old}_loss"], f"{old}_loss")


def check_task(model: Vilbert, task: int, inputs: Batch, expected: Batch, numbers: dict[str, Any]) -> None:
    """A data set's batch through the model: the rows it makes of it, the head, the loss and the score."""
    batch = batch_of(inputs) | {"task_ids": torch.full((len(inputs["target"]),), task)}
    if numbers.get("process") == "nlvr":  # [B,2R,..] -> [B,2,R,..]
        for name in ("regions", "boxes", "region_mask"):
            batch[name] = batch[name].unflatten(1, (2, -1))
    kind, head = KINDS[numbers["type"]], TYPES[numbers["type"]]
    output = model(batch, heads=(head, "vil_prediction"))
    check_rows(batch, expected)
    seen = {"head": output.logits, "vil_binary_prediction": output.logits, "fused_pooled": output.pooled}
    seen |= {"pair_vector": output.pooled, "vil_prediction_row0": output.scores["vil_prediction"][:1, :16]}
    for name in seen.keys() & expected.keys():
        close(seen[name].reshape(expected[name].shape), expected[name], f"{task} {name}")
    target = inputs["target"]
    batch |= {"targets": target.flatten(1)} if target.is_floating_point() else {"labels": target}
    if "multiple_choice_ids" in inputs:
        batch["choices"] = inputs["multiple_choice_ids"] + FIRST_CHOICE
    loss, score = kind.loss(output.logits, batch), kind.score(output.logits, batch)
    assert len(score) == numbers["val_batch_size"]
    ours = {"val_loss": loss, "train_loss": loss, "val_score_sum": score.sum(), "train_score": score.mean()}
    for name, number in ours.items():
        close(number, torch.tensor(numbers[name]), f"{task} {name}")


def check_rows(batch: Batch, expected: Batch) -> None:
    """What the model reads, row by row, is what the original handed to its own."""
    for name, olds in NAMES.items():
        for made in (expected[f"model_in.{old}"] for old in olds if f"model_in.{old}" in expected):
            flat = batch[name].flatten(0, -3 if name in ("regions", "boxes") else -2 if batch[name].dim() > 1 else -1)
            made = made[..., :4] if name == "boxes" else made.squeeze(-1) if name == "task_ids" else made
            close(repeat(flat, len(made)).to(made.dtype), made, f"rows of {name}")
