"""Distillation losses (specs: Oscar c.4). The teacher is in eval mode and gets no gradient."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.models.student import depths
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
    """(1 - alpha) * task + alpha * KD. A batch may bring the teacher's logits along as `taught` [B,>=A]."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        logits = logits_of(student, batch)
        soft = batch["taught"][:, : logits.shape[1]] if "taught" in batch else teach(teacher, batch)
        task, kd = task_loss(logits, batch), kd_loss(logits, soft, temperature)
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


def patient_kd(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float) -> Objective:
    """(1 - alpha) * task + alpha * KD / A + beta * the distance of the [CLS] vectors: PKD (Sun et al. 2019)."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        own, others, depth = both_with_states(student, teacher, batch)
        logits, soft = (each.logits.reshape(len(batch["input_ids"]), -1) for each in (own, others))
        task, kd = task_loss(logits, batch), kd_loss(logits, soft, temperature) / logits.shape[1]
        vectors = [[F.normalize(state[:, 0], dim=-1) for state in each.hidden_states] for each in (own, others)]
        layers = range(len(own.hidden_states) - 1)  # the last layer is left out
        patience = torch.stack([F.mse_loss(vectors[0][k], vectors[1][depth[k]]) for k in layers]).mean()
        parts = {"task": task.detach(), "kd": kd.detach(), "patience": patience.detach()}
        return Losses((1 - alpha) * task + alpha * kd + beta * patience, parts)

    return objective


def tiny_bert(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float) -> Objective:
    """(1 - alpha) * task + alpha * soft cross-entropy + beta * (attentions + hidden states), all in one stage: TinyBERT
    (Jiao et al. 2020)."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        own, others, depth = both_with_states(student, teacher, batch, output_attentions=True)
        logits, soft = (each.logits.reshape(len(batch["input_ids"]), -1) for each in (own, others))
        soft_ce = -(F.softmax(soft / temperature, -1) * F.log_softmax(logits / temperature, -1)).mean()
        pairs = enumerate(own.attentions, 1)
        attention = torch.stack([F.mse_loss(mine, others.attentions[depth[k] - 1]) for k, mine in pairs]).sum()
        states = enumerate(own.hidden_states)
        hidden = torch.stack([F.mse_loss(mine, others.hidden_states[depth[k]]) for k, mine in states]).sum()
        task = task_loss(logits, batch)
        parts = {"task": task, "soft_ce": soft_ce, "attention": attention, "hidden": hidden}
        total = (1 - alpha) * task + alpha * soft_ce + beta * (attention + hidden)
        return Losses(total, {name: value.detach() for name, value in parts.items()})

    return objective


def both_with_states(
    student: nn.Module, teacher: nn.Module, batch: Batch, **options: bool
) -> tuple[Any, Any, list[int]]:
    """Both outputs with their hidden states, and for each of the student's which of the teacher's is as deep."""
    own = student(batch, output_hidden_states=True, **options)
    teacher.eval()
    with torch.no_grad():
        others = teacher(batch, output_hidden_states=True, **options)
    return own, others, depths(len(own.hidden_states) - 1, len(others.hidden_states) - 1)


def where_labelled(task_loss: TaskLoss) -> TaskLoss:
    """The loss of those examples alone whose label may be seen, `labelled` [B]; without it, of all."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        seen = batch.get("labelled")
        if seen is None or seen.all():
            return task_loss(logits, batch)
        rows = {name: x[seen] for name, x in batch.items() if len(x) == len(seen)}
        return task_loss(logits[seen], rows) if seen.any() else logits[seen].sum()  # 0, with a gradient of 0

    return loss


METHODS = {"kd": vanilla_kd, "mkd": multimodal_kd}
LAYER_METHODS = {"pkd": patient_kd, "tinybert": tiny_bert}  # these compare layers too, weighed by beta
BETAS = {"pkd": 500.0, "tinybert": 0.01}  # as published


def distillation(
    method: str, teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float = 0.0
) -> Objective:
    """The objective of a distillation method; alpha in 0..1 weighs the teacher, temperature > 0 softens both; beta
    weighs the comparison of layers, 0: as published."""
    task_loss = where_labelled(task_loss)
    if method in METHODS:
        return METHODS[method](teacher, task_loss, alpha=alpha, temperature=temperature)
    beta = beta or BETAS[method]
    return LAYER_METHODS[method](teacher, task_loss, alpha=alpha, temperature=temperature, beta=beta)
