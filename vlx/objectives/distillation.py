"""Distillation losses (specs: Oscar c.4). The teacher is in eval mode and gets no gradient."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.models.layers import by_example
from vlx.models.student import depths
from vlx.objectives.supervised import Batch, Losses, Objective, TaskLoss, logits_of

# Weights of the text-only, image-only and full views; constants of the original, in the order it runs them.
VIEW_WEIGHTS = {"text": 0.25, "image": 0.25, "full": 0.5}


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """tau^2 * KL(teacher || student) of the softened distributions, summed over A, mean over B (Hinton et al. 2015)."""
    log_student = F.log_softmax(student / temperature, -1)
    soft_teacher = F.softmax(teacher / temperature, -1)
    return F.kl_div(log_student, soft_teacher, reduction="batchmean") * temperature**2


def views_apart(batch: Batch) -> Batch:
    """The batch for one pass that attends to no region and to no text: a row holds the text, then [CLS] again and the
    regions, and neither part sees the other; the second [CLS] asks and is never seen, as where all text is masked. A
    model gives the logits [2B,A] of both views, the text's first."""
    text_mask, region_mask = batch["text_mask"].flatten(0, -2), batch["region_mask"].flatten(0, -2)
    rows, tokens = text_mask.shape
    asks = torch.ones_like(text_mask[:, :1])
    places = torch.arange(tokens + 1 + region_mask.shape[1], device=text_mask.device)
    places = torch.where(places > tokens, places - 1, places.masked_fill(places == tokens, 0))  # of text + regions
    filled = torch.cat([asks, text_mask[:, 1:], asks, region_mask], 1)
    order = (~filled).long().argsort(dim=1, stable=True)[:, : int(filled.sum(1).max())]  # [M,L]
    picked, of_text = filled.gather(1, order), order < tokens
    seen = torch.cat([text_mask, ~asks, region_mask], 1).gather(1, order)
    together = (of_text[:, :, None] == of_text[:, None]) | ~picked[:, :, None]  # padding asks too, and is never seen
    second = text_mask[:, 1:].sum(1) + 1
    return batch | {
        "layout": places.expand(rows, -1).gather(1, order).masked_fill(~picked, -1),
        "attention": together & seen[:, None],
        "starts": torch.stack([torch.zeros_like(second), second], 1),
    }


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
        apart = views_apart(batch)
        logits, soft = (
            dict(zip(VIEW_WEIGHTS, (*ask(apart).chunk(2), ask(batch)), strict=True))
            for ask in (partial(logits_of, student), partial(teach, teacher))
        )
        kd = {name: kd_loss(logits[name], soft[name], temperature) for name in VIEW_WEIGHTS}
        task = task_loss(logits["full"], batch)
        mixed = torch.stack([weight * kd[name] for name, weight in VIEW_WEIGHTS.items()]).sum()
        parts = {"task": task.detach()} | {f"kd_{name}": loss.detach() for name, loss in kd.items()}
        return Losses((1 - alpha) * task + alpha * mixed, parts)

    return objective


def patient_kd(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float) -> Objective:
    """(1 - alpha) * task + alpha * KD / A + beta * the distance of the [CLS] vectors: PKD (Sun et al. 2019)."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        own, others, depth = both_with_states(student, teacher, batch)
        logits, soft = (by_example(each.logits, batch) for each in (own, others))
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
        logits, soft = (by_example(each.logits, batch) for each in (own, others))
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
