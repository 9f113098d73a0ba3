"""clip_vil/train_steps: two optimizers in one loop. The stages of pre-training are checked as models are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.parity.adapters import clip_vil
from vlx.config import FinetuneConfig
from vlx.models.student import set_dropout
from vlx.objectives import Losses, pretraining_objective
from vlx.objectives.pretraining import PretrainingSettings
from vlx.training.loop import Trainer
from vlx.training.optim import Group, Optim, Schedule

Batch = dict[str, Tensor]
ADAMS = {"": "bert_adamw", "torch_adamw.": "adamw"}  # prefix of the numbers of a run -> its optimizer


def check(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    if config["kind"] != "train_steps":
        clip_vil.check(case)
        return
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    batches = [batch_of(inputs, f"batch_{number}.") for number in range(config["hyper"]["batches_per_epoch"])]
    for prefix, adam in ADAMS.items():
        check_run(case / "weights.safetensors", config, batches, expected, prefix, adam)
    assert not expected, f"not compared: {sorted(expected)}"


def batch_of(inputs: Batch, prefix: str) -> Batch:
    tensors = {name.removeprefix(prefix): tensor for name, tensor in inputs.items() if name.startswith(prefix)}
    batch = clip_vil.batch_of(tensors)
    return batch | {"masked_positions": (batch["mlm_labels"] >= 0).flatten().nonzero().flatten()}


class Recorder:
    """vlx's objective, with a record of its losses; `share` scales the loss of a longer window."""

    def __init__(self) -> None:
        self.objective = pretraining_objective(list(clip_vil.HEADS), loss_weights={}, settings=PretrainingSettings())
        self.losses: list[list[float]] = []
        self.share = 1.0

    def __call__(self, model: nn.Module, batch: Batch) -> Losses:
        losses = self.objective(model, batch)
        self.losses.append([float(x) for x in (losses.total.detach(), *map(losses.parts.get, clip_vil.HEADS))])
        return Losses(losses.total * self.share)


def check_run(
    weights: Path, config: dict[str, Any], batches: list[Batch], expected: Batch, prefix: str, adam: str
) -> None:
    """All micro-batches in the original's windows: the remaining ones of an epoch join the first of the next, and each
    counts one part in `gradient_accumulation_steps`. vlx ends its windows with the epoch."""
    hyper = config["hyper"]
    model = clip_vil.clip_vil(weights, config)
    recorder = Recorder()
    set_dropout(model, 0.0, 0.0)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = trainer_of(model, recorder, config, adam)
    parts = hyper["gradient_accumulation_steps"]
    window: list[Batch] = []
    rates: dict[str, list[float]] = {"lr": [], "lr_vision": []}
    norms = []
    for _ in range(hyper["epochs"]):
        for number, batch in enumerate(batches, 1):
            window.append(batch)
            if number % parts == 0:
                recorder.share = len(window) / parts
                norms.append(trainer.step(window)["grad_norm"])
                rates = {name: [*rates[name], rate] for name, rate in trainer.learning_rates().items()}
                window = []
    for batch in window:  # without a step, but with a loss
        recorder(model, batch)
    if not prefix:
        for name, values in {"lr_adam": rates["lr"], "lr_sgd": rates["lr_vision"]}.items():
            assert values == pytest.approx(expected.pop(name).tolist(), rel=1e-6), name
    records = {"losses": recorder.losses, "grad_norm_before_clip": norms}
    for name, values in records.items():
        clip_vil.close(torch.tensor(values), expected.pop(prefix + name), prefix + name, atol=2e-5)
    check_weights(model, start, config["unchanged_parameters"], expected, f"{prefix}final.")


def trainer_of(model: nn.Module, objective: Recorder, config: dict[str, Any], adam: str) -> Trainer:
    """The CNN by SGD, whose rate drops to a tenth at each milestone; the rest by AdamW, after a fractional warm-up."""
    hyper = config["hyper"]
    total = config["t_total"]
    steps = hyper["batches_per_epoch"] // hyper["gradient_accumulation_steps"]  # of an epoch
    sgd = Optim("sgd", hyper["sgd_weight_decay"], momentum=hyper["sgd_momentum"])
    drops = Schedule("constant", 0, total, tuple(steps * epoch for epoch in hyper["schedule"]))
    falling = Schedule("linear", hyper["warmup_ratio"] * total, total)
    groups = [
        Group("vision", sgd, hyper["sgd_lr"], drops, part="visual_model"),
        Group("model", Optim(adam, hyper["weight_decay"], 1e-6), hyper["lr"], falling),
    ]
    cfg = FinetuneConfig(precision="fp32", max_grad_norm=hyper["max_grad_norm"])
    return Trainer(model, objective, cfg, total=total, groups=groups)


def check_weights(model: nn.Module, start: Batch, unchanged: list[str], expected: Batch, prefix: str) -> None:
    weights = model.state_dict()
    for name in [name for name in expected if name.startswith(prefix)]:
        clip_vil.close(weights[name.removeprefix(prefix)], expected.pop(name), name, atol=1e-5, rtol=1e-3)
    for name in unchanged:
        assert torch.equal(weights[name], start[name]), name
