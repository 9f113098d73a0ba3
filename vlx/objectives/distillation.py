"""Distillation losses (Oscar-ReptileDistil, oscar/run_*_kd.py). The teacher is in eval mode and gets no gradient.

Each method is a `DistillationMethod` at the end of this file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlx.batch import Batch
from vlx.models.layers import flatten_logits
from vlx.models.student import depths
from vlx.objectives.contrastive import similarity_kd
from vlx.objectives.kl import kd_loss
from vlx.objectives.supervised import Losses, Objective, TaskLoss, logits_of

VIEW_WEIGHTS = {"text": 0.25, "image": 0.25, "full": 0.5}  # constants of the original


@dataclass(frozen=True, kw_only=True)
class DistillationMethod:
    """objective(teacher, task_loss, *, alpha, temperature, beta): for cross-encoders; None: not for them.
    contrastive(teacher, *, alpha, temperature): for dual encoders; None: not for them.

    needs: capabilities (models.spec.CAPABILITIES) of teacher and student, which then share an architecture. heads:
    kinds of heads that it supports; empty: all. ensemble: several teachers may be averaged. can_cache_logits: the
    output of a fixed teacher depends on the example alone. beta: default weight of the layer loss; 0: there is none.
    """

    name: str
    source: str
    objective: Callable[..., Objective] | None = None
    contrastive: Callable[..., Objective] | None = None
    needs: frozenset[str] = frozenset()
    heads: frozenset[str] = frozenset()
    ensemble: bool = False
    can_cache_logits: bool = False
    beta: float = 0.0


def teacher_forward(teacher: nn.Module, batch: Batch) -> Tensor:
    """The teacher's logits [B,A]."""
    teacher.eval()
    with torch.no_grad():
        return logits_of(teacher, batch)


def modality_views(batch: Batch) -> Batch:
    """The batch for one pass that scores text alone and image alone; logits are [2B,A], the text view first.

    A packed row holds both views and an attention mask keeps them apart (t: text token, r: region, p: padding):

        position   0     1   2   3     4     5   6   7
        holds      [CLS] t   t   [SEP] [CLS] r   r   p
        view       text  text...       image image...
        keys       yes   yes yes yes   no    yes yes no

    The second [CLS] is a query and never a key, as in the original, where the image view masks all of the text.
    """
    text_mask = batch["text_mask"].flatten(0, -2)
    region_mask = batch["region_mask"].flatten(0, -2)
    rows, tokens = text_mask.shape
    always = torch.ones_like(text_mask[:, :1])
    # Source of every slot on the axis of text + regions: the text, [CLS] again, the regions.
    slots = torch.arange(tokens + 1 + region_mask.shape[1], device=text_mask.device)
    source = torch.where(slots > tokens, slots - 1, slots.masked_fill(slots == tokens, 0))
    filled = torch.cat([always, text_mask[:, 1:], always, region_mask], 1)
    order = (~filled).long().argsort(dim=1, stable=True)[:, : int(filled.sum(1).max())]  # [M,L]: padding last
    is_filled = filled.gather(1, order)
    is_text = order < tokens
    is_key = torch.cat([text_mask, ~always, region_mask], 1).gather(1, order)
    same_view = (is_text[:, :, None] == is_text[:, None]) | ~is_filled[:, :, None]  # a padded query needs some key
    image_cls = text_mask[:, 1:].sum(1) + 1
    return batch | {
        "packing": source.expand(rows, -1).gather(1, order).masked_fill(~is_filled, -1),
        "attention_mask": same_view & is_key[:, None],
        "cls_positions": torch.stack([torch.zeros_like(image_cls), image_cls], 1),
    }


def vanilla_kd(
    teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float = 0.0
) -> Objective:
    """(1 - alpha) * task + alpha * KD (Hinton et al. 2015). A batch may hold cached `teacher_logits` [B,>=A]."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        logits = logits_of(student, batch)
        if "teacher_logits" in batch:
            teacher_logits = batch["teacher_logits"][:, : logits.shape[1]]
        else:
            teacher_logits = teacher_forward(teacher, batch)
        task = task_loss(logits, batch)
        kd = kd_loss(logits, teacher_logits, temperature)
        return Losses((1 - alpha) * task + alpha * kd, {"task": task.detach(), "kd": kd.detach()})

    return objective


def multimodal_kd(
    teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float = 0.0
) -> Objective:
    """(1 - alpha) * task + alpha * (KD of text / 4 + KD of image / 4 + KD of both / 2): MKD of Oscar-ReptileDistil."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        views = modality_views(batch)
        logits = logits_by_view(partial(logits_of, student), batch, views)
        teacher_logits = logits_by_view(partial(teacher_forward, teacher), batch, views)
        kd = {name: kd_loss(logits[name], teacher_logits[name], temperature) for name in VIEW_WEIGHTS}
        task = task_loss(logits["full"], batch)
        mixed = torch.stack([weight * kd[name] for name, weight in VIEW_WEIGHTS.items()]).sum()
        parts = {"task": task.detach()} | {f"kd_{name}": loss.detach() for name, loss in kd.items()}
        return Losses((1 - alpha) * task + alpha * mixed, parts)

    return objective


def logits_by_view(forward: Callable[[Batch], Tensor], batch: Batch, views: Batch) -> dict[str, Tensor]:
    text, image = forward(views).chunk(2)
    return {"text": text, "image": image, "full": forward(batch)}


def patient_kd(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float) -> Objective:
    """(1 - alpha) * task + alpha * KD / A + beta * MSE of the normalised [CLS] states: PKD (Sun et al. 2019)."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        output, teacher_output = outputs_with_states(student, teacher, batch)
        logits = flatten_logits(output.logits, batch)
        task = task_loss(logits, batch)
        kd = kd_loss(logits, flatten_logits(teacher_output.logits, batch), temperature) / logits.shape[1]
        states = [F.normalize(state[:, 0], dim=-1) for state in output.hidden_states]
        teacher_states = [F.normalize(state[:, 0], dim=-1) for state in teacher_output.hidden_states]
        depth = depths(len(states) - 1, len(teacher_states) - 1)
        layers = range(len(states) - 1)  # without the last layer
        hidden = torch.stack([F.mse_loss(states[k], teacher_states[depth[k]]) for k in layers]).mean()
        parts = {"task": task.detach(), "kd": kd.detach(), "pkd_hidden": hidden.detach()}
        return Losses((1 - alpha) * task + alpha * kd + beta * hidden, parts)

    return objective


def tiny_bert(teacher: nn.Module, task_loss: TaskLoss, *, alpha: float, temperature: float, beta: float) -> Objective:
    """(1 - alpha) * task + alpha * soft cross-entropy + beta * (attentions + hidden states), in one stage: TinyBERT
    (Jiao et al. 2020)."""

    def objective(student: nn.Module, batch: Batch) -> Losses:
        output, teacher_output = outputs_with_states(student, teacher, batch, output_attentions=True)
        logits = flatten_logits(output.logits, batch)
        teacher_logits = flatten_logits(teacher_output.logits, batch)
        soft_ce = -(F.softmax(teacher_logits / temperature, -1) * F.log_softmax(logits / temperature, -1)).mean()
        depth = depths(len(output.hidden_states) - 1, len(teacher_output.hidden_states) - 1)
        attention = torch.stack(
            [
                F.mse_loss(probabilities, teacher_output.attentions[depth[k] - 1])
                for k, probabilities in enumerate(output.attentions, 1)
            ]
        ).sum()
        hidden = torch.stack(
            [F.mse_loss(state, teacher_output.hidden_states[depth[k]]) for k, state in enumerate(output.hidden_states)]
        ).sum()
        task = task_loss(logits, batch)
        parts = {"task": task, "soft_ce": soft_ce, "attention": attention, "hidden": hidden}
        total = (1 - alpha) * task + alpha * soft_ce + beta * (attention + hidden)
        return Losses(total, {name: value.detach() for name, value in parts.items()})

    return objective


def outputs_with_states(student: nn.Module, teacher: nn.Module, batch: Batch, **options: bool) -> tuple[Any, Any]:
    """The outputs of student and teacher with their hidden states."""
    output = student(batch, output_hidden_states=True, **options)
    teacher.eval()
    with torch.no_grad():
        return output, teacher(batch, output_hidden_states=True, **options)


def labeled_only(task_loss: TaskLoss) -> TaskLoss:
    """The loss over the examples that `labeled_mask` [B] marks; without it, over all."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        mask = batch.get("labeled_mask")
        if mask is None or mask.all():
            return task_loss(logits, batch)
        rows = {name: values[mask] for name, values in batch.items() if len(values) == len(mask)}
        return task_loss(logits[mask], rows) if mask.any() else logits[mask].sum()  # 0, with a gradient of 0

    return loss


def distillation(
    method: DistillationMethod,
    teacher: nn.Module,
    task_loss: TaskLoss,
    *,
    alpha: float,
    temperature: float,
    beta: float = 0.0,
) -> Objective:
    """The objective of a method between cross-encoders. alpha in 0..1: weight of the teacher; temperature > 0; beta:
    weight of the layer loss, 0: the method's default."""
    if method.objective is None:
        raise RuntimeError(f"{method.name} is not for cross-encoders.")
    options = {"alpha": alpha, "temperature": temperature, "beta": beta or method.beta}
    return method.objective(teacher, labeled_only(task_loss), **options)


KD = DistillationMethod(
    name="kd",
    source="Hinton et al. 2015",
    objective=vanilla_kd,
    contrastive=similarity_kd,
    ensemble=True,
    can_cache_logits=True,
)
PKD = DistillationMethod(
    name="pkd",
    source="Sun et al. 2019",
    objective=patient_kd,
    needs=frozenset({"hidden_states"}),
    beta=500.0,
)
TINYBERT = DistillationMethod(
    name="tinybert",
    source="Jiao et al. 2020",
    objective=tiny_bert,
    needs=frozenset({"hidden_states", "attentions"}),
    beta=0.01,
)
MKD = DistillationMethod(
    name="mkd",
    source="Oscar-ReptileDistil",
    objective=multimodal_kd,
    needs=frozenset({"modality_views"}),
    heads=frozenset({"classify", "multiple_choice"}),
    ensemble=True,
)
