"""Task losses as the originals compute them (Oscar, modeling/modeling_bert.py; ViLBERT, vilbert/task_utils.py)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from vlx.batch import Batch
from vlx.models.layers import flatten_logits

TaskLoss = Callable[[Tensor, Batch], Tensor]


@dataclass
class Losses:
    """total: is minimised. parts: its named terms, detached, for the log. counts: the number of examples, tokens or
    regions that each part averages over, where that is not the batch."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)


Objective = Callable[[nn.Module, Batch], Losses]


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over the labeled of B; logits [B,A], labels [B], -1: none. 0 where no example has a label."""
    labels = batch["labels"]
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def soft_target_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Sum over answers, mean over B; logits [B,A], targets [B,A] in 0..1."""
    return F.binary_cross_entropy_with_logits(logits, batch["targets"]) * logits.shape[1]


def mean_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Mean over B and the classes; logits and targets [B,A] (12-in-1's binary and tri classifiers)."""
    return F.binary_cross_entropy_with_logits(logits, batch["targets"])


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """[B,A]."""
    return flatten_logits(model(batch).logits, batch)


def supervised(task_loss: TaskLoss) -> Objective:
    """The task loss on labels."""

    def objective(model: nn.Module, batch: Batch) -> Losses:
        loss = task_loss(logits_of(model, batch), batch)
        return Losses(loss, {"task": loss.detach()})

    return objective
