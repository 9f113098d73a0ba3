"""lxmert/*: the model of pre-training with its six losses, both fine-tuning heads, the surgery on the answer head."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.parity.adapters.numbers import close
from vlx.checkpoints.originals.lxmert import export_original, load_lxmert, load_lxmert_pretraining
from vlx.corpora.formats.annotations.lxmert import convert_answer, pretraining_answers
from vlx.models.layers import Output
from vlx.models.lxmert import HEADS
from vlx.objectives import cross_entropy, soft_target_bce
from vlx.objectives.pretraining import PretrainingSettings, pretraining_losses
from vlx.training.optim import Optim, Schedule, set_lr

Batch = dict[str, Tensor]
NAMES = {
    "input_ids": "input_ids", "token_type_ids": "token_type_ids", "text_mask": "attention_mask", "boxes": "pos",
    "regions": "visual_feats", "mlm_labels": "masked_lm_labels", "itm_labels": "matched_label",
    "qa_labels": "ans", "mrc_objects_labels": "obj_label", "mrc_objects_confidences": "obj_conf",
    "mrc_attributes_labels": "attr_label", "mrc_attributes_confidences": "attr_conf", "region_targets": "feat_label",
    "masked_regions": "feat_mask", "labels": "label", "targets": "target",
}  # fmt: skip
SCORES = {
    "mlm": "lm", "itm": "matched", "mrc_objects": "obj", "mrc_attributes": "attr", "mrfr": "feat", "qa": "answer",
}  # fmt: skip
LOSSES = SCORES | {"mlm": "mask_lm", "qa": "qa"}
STATES = {"pooled": "pooled_output", "text_hidden": "lang_output", "region_hidden": "visn_output"}


def check(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    if "runs" in config:
        return check_optimizer(load_file(case / "trajectory.safetensors"), config)
    expected = load_file(case / "expected.safetensors")
    sizes = {"num_attention_heads": config["num_attention_heads"]}
    if "all_ans" in config:
        return check_surgery(case / "pretrain_checkpoint.safetensors", expected, config, sizes)
    inputs = load_file(case / "inputs.safetensors")
    weights = case / "weights.safetensors"
    if "masked_lm_labels" in inputs:
        return check_pretraining(weights, batch_of(inputs), expected, sizes, inputs["visual_attention_mask"].bool())
    check_fine_tuning(weights, batch_of(inputs), expected, sizes)


def check_optimizer(expected: Batch, config: dict[str, Any]) -> None:
    """BertAdam step by step: clipping, learning rate, both weights after each."""
    for run in config["runs"]:
        prefix = f"{run['name']}."
        tensors = {name.removeprefix(prefix): expected[name] for name in expected if name.startswith(prefix)}
        weights = nn.ParameterList([tensors["w0"], tensors["b0"]])
        optim = Optim("lxmert_adam", config["weight_decay"], config["e"])
        optimizer = optim.build(weights.named_parameters(), run["lr"])
        optimizer.param_groups[0]["betas"] = config["b1"], config["b2"]
        total = run.get("t_total", 0)
        schedule = Schedule("linear" if total else "constant", run.get("warmup", 0) * total, total)
        for step in range(run["steps"]):
            for weight, name in zip(weights, ("grads_w", "grads_b"), strict=True):
                weight.grad = tensors[name][step].clone()
            if run["clip_grad_norm"]:
                nn.utils.clip_grad_norm_(weights, run["clip_grad_norm"])
            set_lr(optimizer, run["lr"] * schedule.factor(step))
            optimizer.step()
            for weight, name in zip(weights, "wb", strict=True):
                close(weight, tensors[name][step], f"{run['name']} {name} after step {step}", atol=1e-6)
            after = torch.tensor(run["lr"] * schedule.factor(step + 1))
            close(after, tensors["lr_after"][step], f"{run['name']} rate after step {step}", atol=1e-8)


def batch_of(inputs: Batch) -> Batch:
    """The original's inputs in vlx's names; it attends to every region."""
    batch = {name: inputs[old] for name, old in NAMES.items() if old in inputs}
    return batch | {
        "text_mask": batch["text_mask"].bool(),
        "region_mask": torch.ones(batch["regions"].shape[:-1], dtype=torch.bool),
    }


def complete(model: nn.Module, report: Any, weights: Path) -> nn.Module:
    """The model in eval mode, after a check that it has all weights of the file and exports them unchanged."""
    tensors = load_file(weights)
    exported = export_original(model)
    assert report.share == 1.0 and not report.missing and not report.unexpected
    assert exported.keys() == tensors.keys()
    assert all(torch.equal(exported[name], tensor) for name, tensor in tensors.items())
    return model.eval()


def check_states(output: Output, expected: Batch, prefix: str = "") -> None:
    for name, old in STATES.items():
        if prefix + old in expected:
            close(getattr(output, name), expected[prefix + old], prefix + old)


def check_gradients(model: nn.Module, expected: Batch) -> None:
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    for name, tensor in expected.items():
        if name.startswith("grad."):
            weight = name.removeprefix("grad.").removeprefix("lxrt_encoder.model.")
            close(gradients[weight], tensor, name, rtol=1e-3, atol=1e-6)
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    close(norm, expected["grad_norm_total"], "norm of the gradients", rtol=1e-3, atol=1e-6)


def check_pretraining(weights: Path, batch: Batch, expected: Batch, sizes: dict[str, int], vmask: Tensor) -> None:
    model = complete(*load_lxmert_pretraining(weights, **sizes), weights)
    output = model(batch, heads=tuple(HEADS))
    check_states(output, expected)
    embeddings = model.bert.embeddings(batch["input_ids"], batch["token_type_ids"])
    close(embeddings, expected["embedding_output"], "embeddings")
    regions = model.bert.encoder.visn_fc(batch["regions"], batch["boxes"])
    close(regions, expected["visual_embedding_output"], "visual embeddings")
    for name, old in SCORES.items():
        close(output.scores[name], expected[f"{old}_scores"], f"{old}_scores")
    losses = pretraining_losses(output.scores, batch, PretrainingSettings())
    for name, old in LOSSES.items():
        close(losses[name], expected[f"loss_{old}"], f"loss_{old}")
    total = torch.stack([*losses.values()]).sum()
    close(total, expected["loss_total"], "loss_total")
    total.backward()
    check_gradients(model, expected)
    check_states(model(batch | {"region_mask": vmask}, heads=("itm",)), expected, "vmask_")
    plain = {name: tensor for name, tensor in batch.items() if name != "token_type_ids"}
    unmasked = plain | {"text_mask": torch.ones_like(batch["text_mask"])}
    check_states(model(unmasked, heads=("itm",)), expected, "nomask_")


def check_fine_tuning(weights: Path, batch: Batch, expected: Batch, sizes: dict[str, int]) -> None:
    model = complete(*load_lxmert(weights, **sizes), weights)
    output = model(batch, output_hidden=True)
    check_states(output, expected)
    close(output.logits, expected["logits"], "logits")
    close(model(batch).logits, expected["logits"], "logits alone")
    assert torch.equal(output.logits.argmax(1), expected["pred"])
    if "pair_vector" in expected:
        close(output.pooled.unflatten(0, (-1, 2)).flatten(1), expected["pair_vector"], "pair vector")
    if "loss_mce_gqa" in expected:
        answers = output.logits.shape[1]
        best = cross_entropy(output.logits, {"labels": batch["targets"].argmax(1)}) * answers
        close(best, expected["loss_mce_gqa"], "loss_mce_gqa")
    loss = (soft_target_bce if "targets" in batch else cross_entropy)(output.logits, batch)
    close(loss, expected["loss"], "loss")
    loss.backward()
    check_gradients(model, expected)


def check_surgery(weights: Path, expected: Batch, config: dict[str, Any], sizes: dict[str, int]) -> None:
    table = [entry["ans"] for entry in config["all_ans"]]
    answers = config["label2ans"]
    assert len(table) == config["pretrain_num_answers"]
    model, _ = load_lxmert(weights, answers=(table, answers), **sizes)
    assert model.config.num_labels == len(answers)
    exported = export_original(model)
    for name, tensor in expected.items():
        assert torch.equal(exported[name], tensor), name
    for answer, converted in config["convert_ans"]:
        assert convert_answer(answer) == converted, answer
    with TemporaryDirectory() as folder:
        (path := Path(folder) / "all_ans.json").write_text(json.dumps(config["all_ans"]))
        assert pretraining_answers(path, ("vqa",)) == config["vqa_only_answers"]
