"""Losses of two towers: a batch's texts and pictures are each other's candidates (Radford et al. 2021).

A batch is one process's part of one step: with accumulation it has fewer candidates. Its `labels` [B] are numbers of
pictures, so that two texts about one picture are no rivals. A frozen dual teacher may have left its vectors in `taught`
[B,2H], the text's and the picture's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.errors import ConfigError
from vlx.models.dual import Dual
from vlx.objectives.distillation import kd_loss
from vlx.objectives.supervised import Batch, Losses, Objective, logits_of


def contrastive_loss(match: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each text over the pictures and of each picture over the texts, the mean of both; match [B,B].
    Where several belong together, each is an equal share of the target."""
    belongs = (labels[:, None] == labels).float()
    target = belongs / belongs.sum(1, keepdim=True)
    return (F.cross_entropy(match, target) + F.cross_entropy(match.T, target)) / 2


def contrastive() -> Objective:
    """Learn from labels alone."""

    def objective(model: nn.Module, batch: Batch) -> Losses:
        loss = contrastive_loss(model(batch).scores["match"], batch["labels"])
        return Losses(loss, {"task": loss.detach()})

    return objective


def match_kd(teacher: nn.Module, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * contrastive + alpha * KD, of texts over pictures and of pictures over texts; from any teacher."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        match = student(batch).scores["match"]
        soft = teach_match(teacher, batch)
        task = contrastive_loss(match, batch["labels"])
        kd = (kd_loss(match, soft, temperature) + kd_loss(match.T, soft.T, temperature)) / 2
        return Losses((1 - alpha) * task + alpha * kd, {"task": task.detach(), "kd": kd.detach()})

    return objective


def embedding_kd(teacher: nn.Module, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * contrastive + alpha * (1 - cosine) of the student's vectors with the dual teacher's, text and
    picture; temperature has no part in it."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        own, theirs = student(batch), teach_vectors(teacher, batch)
        if own.pooled.shape != theirs.shape:
            widths = f"{own.pooled.shape[-1] // 2} and {theirs.shape[-1] // 2}"
            raise ConfigError(f"student and teacher are {widths} wide: this method compares vectors of one width.")
        task = contrastive_loss(own.scores["match"], batch["labels"])
        apart = (2 - (own.pooled * theirs).sum(-1)).mean() / 2  # all four vectors have length 1
        return Losses((1 - alpha) * task + alpha * apart, {"task": task.detach(), "embedding": apart.detach()})

    return objective


@torch.no_grad()
def teach_vectors(teacher: nn.Module, batch: Batch) -> Tensor:
    """[B,2H]: what a dual teacher makes of each text and of its picture."""
    teacher.eval()
    return batch["taught"] if "taught" in batch else teacher(batch).pooled


@torch.no_grad()
def teach_match(teacher: nn.Module, batch: Batch) -> Tensor:
    """[B,B]: the teacher's score of each text with each picture. A dual teacher's is a product; any other is asked of
    every pair, a picture a time."""
    if isinstance(teacher, Dual):
        return teacher.match(*teach_vectors(teacher, batch).chunk(2, -1))
    teacher.eval()
    columns = [logits_of(teacher, with_picture(batch, number)) for number in range(len(batch["labels"]))]
    return torch.stack(
        [logits[:, -1] - logits[:, :-1].sum(1) for logits in columns], 1
    )  # [B,2]; [B,1] of one that chooses


def with_picture(batch: Batch, number: int) -> Batch:
    """The batch's texts, each with one and the same of its pictures."""
    pictures = {key: batch[key][number].expand_as(batch[key]) for key in ("regions", "boxes", "region_mask")}
    return {key: x for key, x in batch.items() if key != "layout"} | pictures


METHODS = {"kd": match_kd, "embedding": embedding_kd}


def match_distillation(method: str, teacher: nn.Module, *, alpha: float, temperature: float) -> Objective:
    """The objective of a distillation method between towers, or of towers from a teacher that reads pairs."""
    return METHODS[method](teacher, alpha=alpha, temperature=temperature)
