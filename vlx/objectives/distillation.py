"""Distillation losses (specs: Oscar c.4). The teacher is in eval mode and gets no gradient."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.objectives.supervised import Batch, Losses, Objective, TaskLoss, logits_of

# Weights of the text-only, image-only and full views; constants of the original, in the order it runs them.
VIEW_WEIGHTS = {"text": 0.25, "image": 0.25, "full": 0.5}


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student) of the softened distributions, summed over A, mean over B (Hinton et al. 2015)."""
    log_student = F.log_softmax(student / temperature, -1)
    soft_teacher = F.softmax(teacher / temperature, -1)
    return F.kl_div(log_student, soft_teacher, reduction="batchmean") * temperature**2


def text_view(batch: Batch) -> Batch:
    """The batch as a model sees it that attends to no region. Leaving them out gives the same logits for less work."""
    kept = {key: value for key, value in batch.items() if key != "layout"}
    return (
        kept
        | {key: batch[key][..., :0, :] for key in ("regions", "boxes")}
        | {"region_mask": batch["region_mask"][..., :0]}
    )


def image_view(batch: Batch) -> Batch:
    """The batch as a model sees it that attends to no text: [CLS] asks, and nobody attends to it."""
    kept = {key: value for key, value in batch.items() if key != "layout"}
    first = {key: batch[key][..., :1] for key in ("input_ids", "token_type_ids") if key in batch}
    return kept | first | {"text_mask": torch.zeros_like(batch["text_mask"][..., :1])}


def teach(teacher: nn.Module, batch: Batch) -> Tensor:
    teacher.eval()
    with torch.no_grad():
        return logits_of(teacher, batch)


def vanilla_kd(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * task + alpha * KD."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        logits = logits_of(student, batch)
        task, kd = task_loss(logits, batch), kd_loss(logits, teach(teacher, batch), temperature)
        return Losses((1 - alpha) * task + alpha * kd, {"task": task.detach(), "kd": kd.detach()})

    return objective


def multimodal_kd(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float) -> Objective:
    """(1 - alpha) * task + alpha * (KD on text / 4 + KD on image / 4 + KD on both / 2): MKD."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        views = {"text": text_view(batch), "image": image_view(batch), "full": batch}
        logits = {name: logits_of(student, view) for name, view in views.items()}
        kd = {name: kd_loss(logits[name], teach(teacher, view), temperature) for name, view in views.items()}
        task = task_loss(logits["full"], batch)
        mixed = torch.stack([weight * kd[name] for name, weight in VIEW_WEIGHTS.items()]).sum()
        parts = {"task": task.detach()} | {f"kd_{name}": loss.detach() for name, loss in kd.items()}
        return Losses((1 - alpha) * task + alpha * mixed, parts)

    return objective


METHODS = {"kd": vanilla_kd, "mkd": multimodal_kd}


def distillation(
    method: str, teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float
) -> Objective:
    """The objective of a distillation method; alpha in 0..1 weighs the teacher, temperature > 0 softens both."""
    return METHODS[method](teacher, task_loss, alpha=alpha, temperature=temperature)
