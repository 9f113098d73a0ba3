"""The losses and scores of ViLBERT 12-in-1's kinds of tasks (ViLBERT, vilbert/task_utils.py), by its names. vlx's tasks
compute their scores themselves; the golden cases name a kind."""

from typing import NamedTuple

from torch import Tensor

from vlx.batch import Batch
from vlx.objectives import cross_entropy, mean_bce, soft_target_bce
from vlx.objectives.supervised import TaskLoss


def choice_scores(logits: Tensor, batch: Batch) -> Tensor:
    """The scores [B,M] of the regions to choose from; logits [B,R], choices [B,M] in 0..R-1."""
    return logits.gather(1, batch["choices"])


def choice_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Sum over the choices, mean over B; targets [B,M]."""
    return soft_target_bce(choice_scores(logits, batch), batch)


def target_at_best(logits: Tensor, batch: Batch) -> Tensor:
    """The target [B] of the answer with the highest score."""
    return batch["targets"].gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


def label_is_best(logits: Tensor, batch: Batch) -> Tensor:
    return (logits.argmax(1) == batch["labels"]).float()


def region_is_correct(logits: Tensor, batch: Batch) -> Tensor:
    """Whether the best region overlaps the labeled box by more than half; targets [B,R]: IoU."""
    return (target_at_best(logits, batch) > 0.5).float()


def choice_is_best(logits: Tensor, batch: Batch) -> Tensor:
    return (choice_scores(logits, batch).argmax(1) == batch["targets"].argmax(1)).float()


class Kind(NamedTuple):
    """The loss of a kind of task, and the score [B] of each example."""

    loss: TaskLoss
    score: TaskLoss


KINDS = {
    "VL-classifier": Kind(soft_target_bce, target_at_best),
    "VL-classifier-GQA": Kind(soft_target_bce, target_at_best),
    "VL-logit": Kind(cross_entropy, label_is_best),
    "V-logit": Kind(soft_target_bce, region_is_correct),
    "V-logit-mc": Kind(choice_bce, choice_is_best),
    "VL-binary-classifier": Kind(mean_bce, target_at_best),
    "VL-tri-classifier": Kind(mean_bce, target_at_best),
}
