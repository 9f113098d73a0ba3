"""Groups of weights, each with its optimizer, rate and schedule."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from vlx.training.optim import Group, Optim, Schedule, optimizers_of

LEVEL = Schedule("constant", 0, 10)


def test_a_weight_is_of_the_first_group_that_it_fits() -> None:
    model = nn.ModuleDict({"vision": nn.Linear(2, 2), "words": nn.Linear(2, 2), "vision_words": nn.Linear(2, 2)})
    names = ("vision", "words", "")
    groups = [Group(name or "model", Optim("adamw", 0.0), 0.1, LEVEL, part=name) for name in names]
    made = optimizers_of(nn.ModuleDict({**model, "rest": nn.Linear(2, 2)}), groups)
    found = {name: sum(len(part["params"]) for part in one.param_groups) for name, one in made.items()}
    assert found == {"vision": 4, "words": 2, "model": 2}


def test_sgd_decays_all_it_has_and_leaves_what_has_no_gradient() -> None:
    """weight - lr * (gradient + decay * weight) = 2 - 0.1 * (1 + 0.5 * 2) = 1.8, biases too."""
    layer = nn.Linear(1, 1)
    idle = copy.deepcopy(layer)
    for weight in (*layer.parameters(), *idle.parameters()):
        nn.init.constant_(weight, 2.0)
    model = nn.ModuleDict({"layer": layer, "idle": idle})
    for weight in layer.parameters():
        weight.grad = torch.ones_like(weight)
    group = Group("model", Optim("sgd", 0.5), 0.1, LEVEL)
    optimizer = optimizers_of(model, [group])["model"]
    group.set_lr(optimizer, 0)
    optimizer.step()
    assert isinstance(optimizer, SGD)
    assert [weight.item() for weight in layer.parameters()] == pytest.approx([1.8, 1.8])
    assert [weight.item() for weight in idle.parameters()] == [2.0, 2.0]


def test_what_is_frozen_is_in_no_optimizer() -> None:
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    for name, kind in {"sgd": SGD, "adamw": AdamW}.items():
        made = optimizers_of(model, [Group("model", Optim(name, 0.1), 0.1, LEVEL)])["model"]
        assert isinstance(made, kind) and sum(len(part["params"]) for part in made.param_groups) == 1


def test_a_rate_falls_to_a_tenth_at_each_milestone() -> None:
    level = Schedule("constant", 2, 100, milestones=(4, 6))
    assert [level.factor(step) for step in range(8)] == pytest.approx([0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])
    falling = Schedule("linear", 0, 10, milestones=(5,))
    assert [falling.factor(step) for step in (0, 4, 5, 10)] == pytest.approx([1, 0.6, 0.05, 0])
