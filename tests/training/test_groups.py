"""Parameter groups, each with its optimizer, learning rate and schedule."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from vlx.training.optim import Group, Optim, Schedule, build_optimizers

CONSTANT = Schedule("constant", 0, 10)


def test_a_weight_is_in_the_first_group_whose_part_it_has() -> None:
    names = ("vision", "text", "vision_text", "rest")
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in names})
    groups = [Group(part or "model", Optim("adamw", 0.0), 0.1, CONSTANT, part=part) for part in ("vision", "text", "")]
    optimizers = build_optimizers(model, groups)
    counts = {name: sum(len(part["params"]) for part in each.param_groups) for name, each in optimizers.items()}
    assert counts == {"vision": 4, "text": 2, "model": 2}


def test_sgd_decays_every_weight_with_a_gradient_and_no_other() -> None:
    """weight - lr * (gradient + decay * weight) = 2 - 0.1 * (1 + 0.5 * 2) = 1.8, biases too."""
    layer = nn.Linear(1, 1)
    idle = copy.deepcopy(layer)
    for weight in (*layer.parameters(), *idle.parameters()):
        nn.init.constant_(weight, 2.0)
    for weight in layer.parameters():
        weight.grad = torch.ones_like(weight)
    group = Group("model", Optim("sgd", 0.5), 0.1, CONSTANT)
    optimizer = build_optimizers(nn.ModuleDict({"layer": layer, "idle": idle}), [group])["model"]
    group.set_lr(optimizer, 0)
    optimizer.step()
    assert isinstance(optimizer, SGD)
    assert [weight.item() for weight in layer.parameters()] == pytest.approx([1.8, 1.8])
    assert [weight.item() for weight in idle.parameters()] == [2.0, 2.0]


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adamw", AdamW)])
def test_a_frozen_weight_is_in_no_optimizer(name: str, kind: type) -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = build_optimizers(model, [Group("model", Optim(name, 0.1), 0.1, CONSTANT)])["model"]
    assert isinstance(optimizer, kind)
    assert sum(len(part["params"]) for part in optimizer.param_groups) == 1


def test_a_rate_falls_to_a_tenth_at_each_milestone() -> None:
    constant = Schedule("constant", 2, 100, milestones=(4, 6))
    assert [constant.factor(step) for step in range(8)] == pytest.approx([0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])
    linear = Schedule("linear", 0, 10, milestones=(5,))
    assert [linear.factor(step) for step in (0, 4, 5, 10)] == pytest.approx([1, 0.6, 0.05, 0])
