"""Pre-training objectives: one table, and their weighted sum as an Objective.

Labels of -1 count as none. A batch without labels of a kind adds 0, where the originals' mean over nothing is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vlx.batch import Batch
from vlx.objectives.mrm import (
    LXMERT_MASK_RATE,
    MRM_LOSSES,
    region_class_loss,
    region_feature_loss,
    region_loss_weights,
)
from vlx.objectives.supervised import Losses, Objective, cross_entropy


@dataclass(frozen=True)
class PretrainingSettings:
    """region_loss_weight: of mrc_objects and mrc_attributes (mrm.REGION_LOSS_WEIGHTS). mrm_loss: kl, mse or nce.
    itm_positive_class: of the architecture's ITM head."""

    region_loss_weight: str = "confidence"
    mrm_loss: str = "kl"
    itm_positive_class: int = 1


@dataclass(frozen=True)
class PretrainingObjective:
    """loss(scores, batch, settings). count_key: the labels (>= 0), or the boolean mask, that the loss averages over.
    masked_only: accuracy counts masked regions alone. binary: its positive class is the architecture's. label_source:
    what a corpus must hold, `answers` or a region field of corpora.store."""

    loss: Callable[[Tensor, Batch, PretrainingSettings], Tensor]
    count_key: str
    masked_only: bool = False
    binary: bool = False
    label_source: str = ""


def mlm_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labeled positions; scores [B,T,V], labels [B,T]; or [K,V] and [K]."""
    return cross_entropy(scores.flatten(0, -2), {"labels": labels.flatten()})


def itm_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over B; scores [B,2], or [B,3] of Oscar, labels [B]."""
    return cross_entropy(scores, {"labels": labels})


def itm(scores: Tensor, batch: Batch, settings: PretrainingSettings) -> Tensor:
    """itm_labels [B]: 1 = text and image match; 0 = another image's text; 2 = another image's tags."""
    labels = batch["itm_labels"]
    return itm_loss(scores, labels if settings.itm_positive_class == 1 else 1 - labels)


def region_classes(scores: Tensor, batch: Batch, settings: PretrainingSettings, *, name: str) -> Tensor:
    """LXMERT's classification of objects or attributes. batch: NAME_labels and NAME_confidences [B,R]."""
    weights = region_loss_weights(settings.region_loss_weight, batch[f"{name}_confidences"], batch["masked_regions"])
    loss = region_class_loss(scores, batch[f"{name}_labels"], weights, batch["region_mask"])
    return loss / LXMERT_MASK_RATE


def region_features(scores: Tensor, batch: Batch, settings: PretrainingSettings) -> Tensor:
    """LXMERT's regression of the features before masking, region_targets [B,R,D]."""
    loss = region_feature_loss(scores, batch["region_targets"], batch["masked_regions"], batch["region_mask"])
    return loss / LXMERT_MASK_RATE


def masked_regions(scores: Tensor, batch: Batch, settings: PretrainingSettings) -> Tensor:
    """ViLBERT's masked regions. batch: region_targets [B,R,C or D], masked_regions [B,R], nce_negatives [B,R,n]."""
    loss = MRM_LOSSES[settings.mrm_loss]
    return loss(scores, batch["region_targets"], batch["masked_regions"], batch.get("nce_negatives"))


OBJECTIVES = {
    "mlm": PretrainingObjective(lambda scores, batch, _: mlm_loss(scores, batch["mlm_labels"]), "mlm_labels"),
    "itm": PretrainingObjective(itm, "itm_labels", binary=True),
    "qa": PretrainingObjective(
        lambda scores, batch, _: cross_entropy(scores, {"labels": batch["qa_labels"]}),
        "qa_labels",
        label_source="answers",
    ),
    "mrc_objects": PretrainingObjective(
        partial(region_classes, name="mrc_objects"), "region_mask", masked_only=True, label_source="objects_id"
    ),
    "mrc_attributes": PretrainingObjective(
        partial(region_classes, name="mrc_attributes"), "region_mask", masked_only=True, label_source="attrs_id"
    ),
    "mrfr": PretrainingObjective(region_features, "region_mask"),
    "mrm": PretrainingObjective(masked_regions, "masked_regions", masked_only=True),
}


def pretraining_losses(scores: Mapping[str, Tensor], batch: Batch, settings: PretrainingSettings) -> dict[str, Tensor]:
    """The loss of every objective that `scores` has; LXMERT's and ViLBERT's totals are their plain sums."""
    return {name: OBJECTIVES[name].loss(scores[name], batch, settings) for name in scores}


def pretraining_objective(
    names: Sequence[str], *, loss_weights: Mapping[str, float], settings: PretrainingSettings
) -> Objective:
    """The weighted sum of the losses `names`. The batch holds what these need and masked_positions [K], the labeled
    positions of mlm_labels [B,T].

    parts: NAME and NAME_accuracy; counts: the tokens, regions or examples that each averages over.
    """

    def objective(model: nn.Module, batch: Batch) -> Losses:
        scores = model(batch, heads=names).scores
        batch = batch | {"mlm_labels": batch["mlm_labels"].flatten()[batch["masked_positions"]]}
        if "mrm" in names and settings.mrm_loss == "kl":
            batch["mrm_labels"] = batch["region_targets"].argmax(-1)
        losses = pretraining_losses({name: scores[name] for name in names}, batch, settings)
        total = torch.stack([loss * loss_weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        parts = {name: loss.detach() for name, loss in losses.items()}
        counts = {name: label_count(batch[OBJECTIVES[name].count_key]) for name in names}
        for name in names:
            correct = correct_predictions(name, scores[name], batch, settings)
            if correct is not None:
                counts[f"{name}_accuracy"] = torch.tensor(correct.numel(), device=correct.device)
                parts[f"{name}_accuracy"] = correct.float().sum() / max(correct.numel(), 1)
        return Losses(total, parts, counts)

    return objective


def label_count(labels: Tensor) -> Tensor:
    """The number of labels >= 0, or of True in a mask."""
    return (labels if labels.dtype == torch.bool else labels >= 0).sum()


@torch.no_grad()
def correct_predictions(name: str, scores: Tensor, batch: Batch, settings: PretrainingSettings) -> Tensor | None:
    """Whether each prediction is correct; None: the objective has no classes."""
    labels = batch.get(f"{name}_labels")
    if labels is None:
        return None
    labeled = labels >= 0
    if OBJECTIVES[name].masked_only:
        labeled = labeled & batch["masked_regions"] & batch["region_mask"]
    if OBJECTIVES[name].binary and settings.itm_positive_class == 0:
        scores = scores.flip(-1)  # so that class 1 is a match
    return scores[labeled].argmax(-1) == labels[labeled]
