"""vlx computes what the originals' own code computed. Every number comes from the case's files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from vlx.checkpoints.oscar import read_config
from vlx.checkpoints.report import load_weights
from vlx.config import FinetuneConfig
from vlx.models.oscar import Oscar
from vlx.objectives import cross_entropy, distillation, soft_target_bce
from vlx.training.loop import Trainer
from vlx.training.optim import linear_factor
from vlx.training.reptile import Reptile

LOSSES = {"ce": cross_entropy, "bce": soft_target_bce}


def close(actual: Tensor, expected: Tensor, what: str, *, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, msg=lambda text: f"{what}: {text}")


def oscar(config: Path, weights: Path) -> Oscar:
    model = Oscar(read_config(config))
    report = load_weights(model, load_file(weights), source=weights.name)
    assert report.share == 1.0 and not report.missing and not report.unexpected
    return model


def batch_of(inputs: dict[str, Tensor], loss_type: str) -> dict[str, Tensor]:
    """The original's inputs in vlx's names: its mask is text, then regions; its features end in six box terms."""
    tokens = inputs["input_ids"].shape[-1]
    mask = inputs["attention_mask"].bool()
    features = inputs["img_feats"]
    target = {"labels": inputs["labels"].view(-1)} if loss_type == "ce" else {"targets": inputs["labels"]}
    return target | {
        "input_ids": inputs["input_ids"],
        "token_type_ids": inputs["token_type_ids"],
        "text_mask": mask[..., :tokens],
        "region_mask": mask[..., tokens:],
        "regions": features[..., :-6],
        "boxes": features[..., -6:-2],
    }


def check_model(case: Path) -> None:
    """Outputs, both unimodal logits, loss and every gradient."""
    loss_type = json.loads((case / "config.json").read_text())["loss_type"]
    model = oscar(case / "config.json", case / "weights.safetensors").eval()
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    batch = batch_of(inputs, loss_type)
    output = model(batch, output_hidden_states=True, output_attentions=True)
    close(output.logits, expected["logits"], "logits")
    close(output.pooled, expected["pooled_output"], "pooled")
    close(torch.cat([output.text_hidden, output.region_hidden], 1), expected["sequence_output"], "sequence output")
    close(torch.stack(output.hidden_states), expected["hidden_states"], "hidden states")
    close(torch.stack(output.attentions), expected["attentions"], "attentions")
    for name, hidden in (("logits_txt", "region_mask"), ("logits_img", "text_mask")):
        close(model(batch | {hidden: torch.zeros_like(batch[hidden])}).logits, expected[name], name)
    loss = LOSSES[loss_type](output.logits, batch)
    close(loss, expected["loss"], "loss")
    loss.backward()
    weights = dict(model.named_parameters())
    for name, gradient in load_file(case / "grads.safetensors").items():
        close(weights[name].grad, gradient, f"gradient of {name}")


def check_trajectory(case: Path) -> None:
    """Ten steps through the product's own loop: losses and norms of every step, the weights after the last."""
    hparams = json.loads((case / "hparams.json").read_text())
    losses = json.loads((case / "losses.json").read_text())
    config = json.loads((case / "student_config.json").read_text())
    teacher = oscar(case / "teacher_config.json", case / "teacher_init.safetensors")
    student = oscar(case / "student_config.json", case / "student_init.safetensors")
    method = "kd" if "vanilla_kd" in hparams["script"] else "mkd"
    assert method == "kd" or "mkd_and_reptile" in hparams["script"], f"no adapter for {hparams['script']}"
    options = {name: hparams[name] for name in ("alpha", "temperature")}
    objective = distillation(method, teacher, LOSSES[config["loss_type"]], **options)
    cfg = train_config(hparams)
    hook = (
        reptile_of(hparams, cfg, teacher, student, objective) if method == "mkd" and "asis" not in case.name else None
    )
    trainer = Trainer(student, objective, cfg, total=hparams["t_total"], hook=hook)
    steps = load_file(case / "batches.safetensors")
    for number, expected in enumerate(losses):
        inputs = {name: values[number] for name, values in steps.items()}
        metrics = trainer.step([batch_of(inputs, config["loss_type"])])
        check_step(metrics, expected, method, number)
    check_weights(teacher, load_file(case / "teacher_final.safetensors"))
    check_weights(student, load_file(case / "student_final.safetensors"))


def train_config(hparams: dict[str, Any]) -> FinetuneConfig:
    return FinetuneConfig(
        lr=hparams.get("student_learning_rate", hparams.get("learning_rate")),
        steps=hparams["steps"],
        warmup_steps=hparams["warmup_steps"],
        weight_decay=hparams["weight_decay"],
        max_grad_norm=hparams["max_grad_norm"],
        optimizer="bert_adamw",
        precision="fp32",
    )


def reptile_of(hparams: dict[str, Any], cfg: FinetuneConfig, teacher: Oscar, student: Oscar, objective: Any) -> Reptile:
    total, warmup = hparams["t_total"], hparams["warmup_steps"]
    return Reptile(
        teacher,
        student,
        objective,
        strategy=hparams["strategy"],
        meta_lr=hparams["teacher_learning_rate"],
        inner_lr=cfg.lr * linear_factor(0, warmup=warmup, total=total),
        warmup=warmup,
        total=total,
        optimizer=cfg.optimizer,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
    )


def check_step(metrics: dict[str, float], expected: dict[str, Any], method: str, number: int) -> None:
    student = expected if method == "kd" else expected["student"]
    names = {"loss": "total", "task": "task", "grad_norm": "grad_norm"}
    names |= {"kd": "kd"} if method == "kd" else {"kd_text": "kd_txt", "kd_image": "kd_img", "kd_full": "kd_full"}
    for ours, theirs in names.items():
        assert metrics[ours] == pytest.approx(student[theirs], rel=1e-4, abs=1e-5), f"step {number}: {ours}"
    if "meta_grad_norm" in metrics:
        assert metrics["meta_grad_norm"] == pytest.approx(expected["teacher"]["meta_grad_norm"], rel=1e-4)


def check_weights(model: Oscar, expected: dict[str, Tensor]) -> None:
    """A key bias has a gradient of zero but for rounding, which Adam makes into small steps."""
    weights = model.state_dict()
    assert set(weights) == set(expected)
    for name, value in expected.items():
        close(weights[name], value, name, atol=1e-4 if name.endswith("key.bias") else 1e-5, rtol=0.0)


ADAPTERS: dict[str, Callable[[Path], None]] = {"oscar": check_model, "distill": check_trajectory}


def test_case_gives_the_originals_numbers(case: Path) -> None:
    family = case.parent.name
    assert family in ADAPTERS, f"{case.name}: no adapter yet for {family}"
    AcceleratorState._reset_state(reset_partial_state=True)
    ADAPTERS[family](case)
