"""Optimizers, parameter groups and the learning-rate schedule, as in pytorch-transformers' optimization.py."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import SGD, Adamax, AdamW, Optimizer

NamedWeights = Iterable[tuple[str, nn.Parameter]]
MILESTONE_FACTOR = 0.1  # of the learning rate at a milestone
NO_DECAY = ("bias", "LayerNorm.weight")  # parts of the names of weights that are not decayed


class BertAdamW(Optimizer):
    """AdamW of pytorch-transformers: eps outside the bias correction, decay after the update on the updated weight.

    decay_first is LXMERT's BertAdam (LXMERT, src/lxrt/optimization.py), which decays before the update.
    Single weights differ from torch's AdamW by up to 3e-3 after ten steps of lr 1e-3.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        decay_first: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.correct_bias = correct_bias
        self.decay_first = decay_first

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.update(weight, group)

    def update(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        beta1, beta2 = group["betas"]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight))
        state["step"] += 1
        state["exp_avg"].mul_(beta1).add_(weight.grad, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        step_size = group["lr"]
        if self.correct_bias:
            step_size = step_size * (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
        decay = 1 - group["lr"] * group["weight_decay"]
        if self.decay_first:
            weight.mul_(decay)
        weight.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(group["eps"]), value=-step_size)
        if not self.decay_first:
            weight.mul_(decay)


def decay_groups(weights: NamedWeights, weight_decay: float) -> list[dict[str, Any]]:
    """Return two optimizer groups: decayed weights, and biases and LayerNorm weights without decay."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, weight in weights:
        if weight.requires_grad:
            group = free if any(part in name for part in NO_DECAY) else decayed
            group.append(weight)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


class Optim(NamedTuple):
    """The settings of an optimizer, by name.

    adamw: torch's, fused (3.8 times faster on a CPU). bert_adamw: Oscar's and ViLBERT's. bert_adam: bert_adamw without
    bias correction. lxmert_adam: bert_adam that decays before the update, and every weight. adamax: torch's. sgd:
    torch's, which decays every weight.
    """

    name: str
    weight_decay: float
    eps: float = 1e-8
    momentum: float = 0.0  # of sgd

    def build(self, weights: NamedWeights, lr: float) -> Optimizer:
        trainable = [(name, weight) for name, weight in weights if weight.requires_grad]
        single = [{"params": [weight for _, weight in trainable], "weight_decay": self.weight_decay}]
        if self.name == "sgd":
            return SGD(single, lr, momentum=self.momentum)
        if self.name == "lxmert_adam":
            return BertAdamW(single, lr, eps=self.eps, correct_bias=False, decay_first=True)
        groups = decay_groups(trainable, self.weight_decay)
        if self.name == "adamax":
            return Adamax(groups, lr, eps=self.eps)
        if self.name == "adamw":
            return AdamW(groups, lr, eps=self.eps, fused=True)
        return BertAdamW(groups, lr, eps=self.eps, correct_bias=self.name == "bert_adamw")


class Schedule(NamedTuple):
    """A learning-rate schedule; lengths in optimizer steps.

    linear: up during warm-up, then down to 0 at `total`. constant: up during warm-up, then level. Each milestone
    multiplies the rate by 0.1.
    """

    name: str
    warmup: float
    total: int
    milestones: tuple[int, ...] = ()

    def factor(self, step: int) -> float:
        """Return the factor on the peak learning rate at update `step`, counted from 0."""
        if step < self.warmup:
            return step / max(1, self.warmup)
        falling = max(0.0, (self.total - step) / max(1, self.total - self.warmup))
        passed = sum(step >= milestone for milestone in self.milestones)
        return (falling if self.name == "linear" else 1.0) * MILESTONE_FACTOR**passed


class Group(NamedTuple):
    """Weights with an optimizer and a schedule: those with `part` in their names."""

    name: str
    optim: Optim
    lr: float
    schedule: Schedule
    part: str = ""

    def set_lr(self, optimizer: Optimizer, step: int) -> None:
        set_lr(optimizer, self.lr * self.schedule.factor(step))


def build_optimizers(model: nn.Module, groups: Sequence[Group]) -> dict[str, Optimizer]:
    """Return the optimizer of each group, by group name; a weight is in the first group whose `part` it has."""
    weights: dict[str, list[tuple[str, nn.Parameter]]] = {group.name: [] for group in groups}
    for name, weight in model.named_parameters():
        first = next(group for group in groups if group.part in name)
        weights[first.name].append((name, weight))
    return {group.name: group.optim.build(weights[group.name], group.lr) for group in groups}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
