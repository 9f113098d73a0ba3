"""Losses of dual encoders: the texts and images of a batch are each other's candidates (Radford et al. 2021).

A batch is one process's part of one step: with gradient accumulation it has fewer candidates. Its `labels` [B] are
numbers of images, so that two texts about one image are no negatives of each other. `teacher_logits` [B,2H] may hold
the cached text and image vectors of a fixed dual-encoder teacher.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.batch import Batch
from vlx.errors import ConfigError
from vlx.models.spec import spec_of
from vlx.objectives.kl import kd_loss
from vlx.objectives.supervised import Losses, Objective, logits_of


def contrastive_loss(similarity: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each text over the images and of each image over the texts, averaged; similarity [B,B]. Equal
    labels share the target equally."""
    matching = (labels[:, None] == labels).float()
    target = matching / matching.sum(1, keepdim=True)
    return (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2


def contrastive() -> Objective:
    """The contrastive loss on labels."""

    def objective(model: nn.Module, batch: Batch) -> Losses:
        loss = contrastive_loss(model(batch).scores["similarity"], batch["labels"])
        return Losses(loss, {"task": loss.detach()})

    return objective


def similarity_kd(teacher: nn.Module, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * contrastive + alpha * KD, of texts over images and of images over texts; any teacher."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        similarity = student(batch).scores["similarity"]
        teachers = teacher_similarity(teacher, batch)
        task = contrastive_loss(similarity, batch["labels"])
        kd = (kd_loss(similarity, teachers, temperature) + kd_loss(similarity.T, teachers.T, temperature)) / 2
        return Losses((1 - alpha) * task + alpha * kd, {"task": task.detach(), "kd": kd.detach()})

    return objective


def embedding_kd(teacher: nn.Module, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * contrastive + alpha * (1 - cosine) between the vectors of student and dual-encoder teacher, text
    and image; temperature is not used."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        output = student(batch)
        vectors = teacher_vectors(teacher, batch)
        if output.pooled.shape != vectors.shape:
            widths = f"{output.pooled.shape[-1] // 2} and {vectors.shape[-1] // 2}"
            raise ConfigError(f"student and teacher are {widths} wide: this method compares vectors of one width.")
        task = contrastive_loss(output.scores["similarity"], batch["labels"])
        distance = (2 - (output.pooled * vectors).sum(-1)).mean() / 2  # all four vectors have length 1
        return Losses((1 - alpha) * task + alpha * distance, {"task": task.detach(), "embedding": distance.detach()})

    return objective


@torch.no_grad()
def teacher_vectors(teacher: nn.Module, batch: Batch) -> Tensor:
    """[B,2H]: a dual-encoder teacher's text and image vectors, cached or computed."""
    teacher.eval()
    return batch["teacher_logits"] if "teacher_logits" in batch else teacher(batch).pooled


@torch.no_grad()
def teacher_similarity(teacher: nn.Module, batch: Batch) -> Tensor:
    """[B,B]: the teacher's score of each text with each image. A dual encoder multiplies its vectors; a cross-encoder
    reads every pair, one image at a time."""
    if spec_of(teacher).dual_encoder:
        return teacher.similarity(*teacher_vectors(teacher, batch).chunk(2, -1))  # type: ignore[operator]
    teacher.eval()
    columns = [logits_of(teacher, with_image(batch, number)) for number in range(len(batch["labels"]))]
    # [B,2]: matching against not matching; [B,1] of a teacher with one logit a pair.
    return torch.stack([logits[:, -1] - logits[:, :-1].sum(1) for logits in columns], 1)


def with_image(batch: Batch, number: int) -> Batch:
    """Every text of the batch with image `number`."""
    images = {key: batch[key][number].expand_as(batch[key]) for key in ("regions", "boxes", "region_mask")}
    return {key: values for key, values in batch.items() if key != "packing"} | images
