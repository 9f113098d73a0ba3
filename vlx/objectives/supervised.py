"""Task losses as the originals compute them (specs: Oscar a.4)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from vlx.models.layers import by_example

Batch = dict[str, Tensor]
TaskLoss = Callable[[Tensor, Batch], Tensor]


@dataclass
class Losses:
    """`total` is what is minimised; `parts` are its named terms, detached, for the log; `counts` of how many examples,
    words or regions each part is the mean, where that is not the batch."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)


Objective = Callable[[nn.Module, Batch], Losses]


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over the labelled of B; logits [B,A], labels [B], -1: none. 0 where no example has a label."""
    labels = batch["labels"]
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def soft_target_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Sum over answers, mean over B; logits [B,A], targets [B,A] in 0..1."""
    return F.binary_cross_entropy_with_logits(logits, batch["targets"]) * logits.shape[1]


def mean_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over B and over the answers, each a yes or no of its own; logits [B,A], targets [B,A] in 0..1."""
    return F.binary_cross_entropy_with_logits(logits, batch["targets"])


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    return by_example(model(batch).logits, batch)


def supervised(task_loss: TaskLoss) -> Objective:
    """Learn from labels alone."""

    def objective(model: nn.Module, batch: Batch) -> Losses:
        loss = task_loss(logits_of(model, batch), batch)
        return Losses(loss, {"task": loss.detach()})

    return objective
