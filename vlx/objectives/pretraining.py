"""Losses of pre-training as pure functions, and LXMERT's six together (specs: LXMERT a.4, f Q2 and Q5).

Labels -1 count as none. A batch without any label of a kind adds 0, where the original's mean over nothing is NaN.
"""

from torch import Tensor
from torch.nn import functional as F

from vlx.errors import ConfigError
from vlx.objectives.supervised import Batch, cross_entropy

RATE = 0.15  # LXMERT divides its region losses by it, whatever the share of masked regions
REGION_WEIGHTS = ("confidence", "masked", "both")


def mlm_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled positions; scores [B,T,V], labels [B,T]."""
    return cross_entropy(scores.flatten(0, -2), {"labels": labels.flatten()})


def matched_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over B; scores [B,2], labels [B]: 1 = text and image belong together."""
    return cross_entropy(scores, {"labels": labels})


def qa_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled of B; scores [B,A], labels [B]."""
    return cross_entropy(scores, {"labels": labels})


def weighted_mean(losses: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Mean over all regions there are, not over the weights; all [B,R]."""
    return (losses * weights * region_mask).sum() / region_mask.sum().clamp(min=1)


def region_class_loss(scores: Tensor, labels: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Cross-entropy of objects or attributes; scores [B,R,C], labels, weights and region_mask [B,R]."""
    losses = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none")
    return weighted_mean(losses.view_as(labels), weights, region_mask)


def region_feature_loss(scores: Tensor, features: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Smooth L1 (beta 1), mean over D; scores and features [B,R,D], weights and region_mask [B,R]."""
    return weighted_mean(F.smooth_l1_loss(scores, features, reduction="none").mean(-1), weights, region_mask)


def region_weights(kind: str, confidences: Tensor, masked: Tensor) -> Tensor:
    """What a region's class counts: the detector's confidence (the original), being masked, or their product; [B,R]."""
    if kind not in REGION_WEIGHTS:
        raise ConfigError(f"visual_loss_mask={kind}: expected one of {', '.join(REGION_WEIGHTS)}.")
    return {"confidence": confidences, "masked": masked.to(confidences.dtype), "both": confidences * masked}[kind]


def lxmert_losses(
    scores: dict[str, Tensor], batch: Batch, *, visual_loss_mask: str = "confidence"
) -> dict[str, Tensor]:
    """A loss for each head that `scores` has; the original's total is their plain sum.

    batch: word_labels [B,T]; matched_labels and answer_labels [B]; object_labels, object_confidences, attribute_labels
    and attribute_confidences [B,R]; region_targets [B,R,D], the features before masking; masked_regions [B,R];
    region_mask [B,R].
    """
    plain = {"words": (mlm_loss, "word_labels"), "matched": (matched_loss, "matched_labels")}
    plain |= {"answers": (qa_loss, "answer_labels")}
    losses = {name: loss(scores[name], batch[label]) for name, (loss, label) in plain.items() if name in scores}
    for name, kind in {"objects": "object", "attributes": "attribute"}.items():
        if name in scores:
            weights = region_weights(visual_loss_mask, batch[f"{kind}_confidences"], batch["masked_regions"])
            loss = region_class_loss(scores[name], batch[f"{kind}_labels"], weights, batch["region_mask"])
            losses[name] = loss / RATE
    if "features" in scores:
        regions = batch["region_targets"], batch["masked_regions"], batch["region_mask"]
        losses["features"] = region_feature_loss(scores["features"], *regions) / RATE
    return losses
