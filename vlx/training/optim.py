"""Optimizers, parameter groups and the learning-rate schedule (specs: Oscar c.1)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import SGD, Adamax, AdamW, Optimizer

Named = Iterable[tuple[str, nn.Parameter]]
DROP = 0.1  # of the learning rate at a milestone


class BertAdamW(Optimizer):
    """The originals' AdamW: eps outside the bias correction, decay after the update on the updated weight; LXMERT's
    BertAdam decays first.

    Differs from torch's by up to 3e-3 on single weights after ten steps of lr 1e-3.
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
        self.correct_bias, self.decay_first = correct_bias, decay_first

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self.update(weight, group)

    def update(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[weight], group["betas"]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight))
        state["step"] += 1
        state["exp_avg"].mul_(beta1).add_(weight.grad, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(weight.grad, weight.grad, value=1 - beta2)
        rate = group["lr"]
        if self.correct_bias:
            rate = rate * (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
        kept = 1 - group["lr"] * group["weight_decay"]
        weight.mul_(kept if self.decay_first else 1.0)
        weight.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(group["eps"]), value=-rate)
        weight.mul_(1.0 if self.decay_first else kept)


def parameter_groups(weights: Named, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: decayed weights, and biases and LayerNorm weights without decay."""
    named = [(name, weight) for name, weight in weights if weight.requires_grad]
    free = [weight for name, weight in named if "bias" in name or "LayerNorm.weight" in name]
    kept = [weight for name, weight in named if not ("bias" in name or "LayerNorm.weight" in name)]
    return [{"params": kept, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


class Optim(NamedTuple):
    """adamw: torch's, fused (x3.8 on a CPU); bert_adamw: the originals'; bert_adam: the same without correction of the
    averages' bias; lxmert_adam: that, which decays before the step, and every weight; adamax: torch's; sgd: torch's,
    which decays every weight."""

    name: str
    weight_decay: float
    eps: float = 1e-8
    momentum: float = 0.0  # of sgd

    def build(self, weights: Named, lr: float) -> Optimizer:
        trained = [(name, weight) for name, weight in weights if weight.requires_grad]
        every = {"params": [weight for _, weight in trained], "weight_decay": self.weight_decay}
        if self.name == "sgd":
            return SGD([every], lr, momentum=self.momentum)
        if self.name == "lxmert_adam":
            return BertAdamW([every], lr, eps=self.eps, correct_bias=False, decay_first=True)
        groups = parameter_groups(trained, self.weight_decay)
        if self.name in ("bert_adamw", "bert_adam"):
            return BertAdamW(groups, lr, eps=self.eps, correct_bias=self.name == "bert_adamw")
        return (
            Adamax(groups, lr, eps=self.eps) if self.name == "adamax" else AdamW(groups, lr, eps=self.eps, fused=True)
        )


class Schedule(NamedTuple):
    """linear: up during warm-up, then down to 0 at `total`; constant: up, then level. From each milestone on a tenth.
    Lengths in steps."""

    name: str
    warmup: float
    total: int
    milestones: tuple[int, ...] = ()

    def factor(self, step: int) -> float:
        """On the peak learning rate of update `step`, from 0."""
        if step < self.warmup:
            return step / max(1, self.warmup)
        falling = max(0.0, (self.total - step) / max(1, self.total - self.warmup))
        return (falling if self.name == "linear" else 1.0) * DROP ** sum(step >= at for at in self.milestones)


class Group(NamedTuple):
    """Weights that have an optimizer and a schedule of their own: those with `part` in their names."""

    name: str
    optim: Optim
    lr: float
    schedule: Schedule
    part: str = ""

    def set_lr(self, optimizer: Optimizer, step: int) -> None:
        set_lr(optimizer, self.lr * self.schedule.factor(step))


def optimizers_of(model: nn.Module, groups: Sequence[Group]) -> dict[str, Optimizer]:
    """One a group, by its name; a weight is of the first group that it fits."""
    named: dict[str, list[tuple[str, nn.Parameter]]] = {group.name: [] for group in groups}
    for name, weight in model.named_parameters():
        named[next(group.name for group in groups if group.part in name)].append((name, weight))
    return {group.name: group.optim.build(named[group.name], group.lr) for group in groups}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
