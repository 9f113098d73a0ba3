"""Masked region modelling: classes or features of masked regions (LXMERT, src/lxrt/modeling.py; ViLBERT,
vilbert/vilbert.py). Each loss of an empty batch is 0, where the originals' mean over nothing is NaN."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vlx.errors import ConfigError, TrainingError

LXMERT_MASK_RATE = 0.15  # LXMERT divides its region losses by it, whatever the share of masked regions
OTHER_IMAGES, SAME_IMAGE = 0.7, 0.3  # shares of the NCE negatives
REGION_LOSS_WEIGHTS = ("confidence", "masked", "both")


def region_loss_weights(kind: str, confidences: Tensor, masked: Tensor) -> Tensor:
    """Weights of a region's class loss [B,R]: the detector's confidence (the original), 1 if masked, or the product."""
    if kind not in REGION_LOSS_WEIGHTS:
        raise ConfigError(f"region_loss_weight={kind}: expected one of {', '.join(REGION_LOSS_WEIGHTS)}.")
    return {"confidence": confidences, "masked": masked.to(confidences.dtype), "both": confidences * masked}[kind]


def weighted_mean(losses: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Mean over all regions, not over the weights; all [B,R]."""
    return (losses * weights * region_mask).sum() / region_mask.sum().clamp(min=1)


def region_class_loss(scores: Tensor, labels: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Cross-entropy of objects or attributes; scores [B,R,C], labels, weights and region_mask [B,R]."""
    losses = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="none")
    return weighted_mean(losses.view_as(labels), weights, region_mask)


def region_feature_loss(scores: Tensor, features: Tensor, weights: Tensor, region_mask: Tensor) -> Tensor:
    """Smooth L1 (beta 1), mean over D; scores and features [B,R,D], weights and region_mask [B,R]."""
    return weighted_mean(F.smooth_l1_loss(scores, features, reduction="none").mean(-1), weights, region_mask)


def region_kl(scores: Tensor, targets: Tensor, masked: Tensor, negatives: Tensor | None = None) -> Tensor:
    """KL(targets || softmax(scores)), summed over classes, mean over masked regions (ViLBERT's visual_target 0).

    scores and targets [B,R,C], masked [B,R].
    """
    loss = F.kl_div(scores[masked].log_softmax(-1), targets[masked], reduction="sum")
    return loss / masked.sum().clamp(min=1)


def region_mse(scores: Tensor, features: Tensor, masked: Tensor, negatives: Tensor | None = None) -> Tensor:
    """Mean squared error over D of masked regions; scores and features [B,R,D] (ViLBERT's visual_target 1)."""
    loss = F.mse_loss(scores[masked], features[masked], reduction="sum") / scores.shape[-1]
    return loss / masked.sum().clamp(min=1)


def region_nce(scores: Tensor, features: Tensor, masked: Tensor, negatives: Tensor | None) -> Tensor:
    """Each masked region's own features against negatives, by dot product (ViLBERT's visual_target 2).

    scores and features [B,R,D], negatives [B,R,n]: indices in B*R (sample_nce_negatives).
    """
    if negatives is None:
        raise RuntimeError("mrm_loss=nce: the batch holds no nce_negatives.")
    positive = torch.arange(masked.numel(), device=masked.device).view_as(masked)[masked]
    products = scores[masked] @ features.flatten(0, 1).T  # [K,B*R], smaller than the K*(1+n) candidates' features
    logits = products.gather(1, torch.cat([positive[:, None], negatives[masked]], 1))
    return F.cross_entropy(logits, torch.zeros_like(positive), reduction="sum") / masked.sum().clamp(min=1)


MRM_LOSSES: dict[str, Callable[..., Tensor]] = {"kl": region_kl, "mse": region_mse, "nce": region_nce}


def sample_nce_negatives(region_mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each region [B,R] 70% of `count` regions of other images, then 30% of its own image: [B,R,n] in B*R.

    None is the region itself nor, unlike some of the original's, padding; a region alone in its image has all its
    negatives from other images.
    """
    images, regions = region_mask.shape
    if images < 2:
        raise TrainingError("mrm_loss=nce: one image has no negatives from others; use a batch_size of at least 2.")
    real = region_mask.float()
    num_other = int(OTHER_IMAGES * count)
    num_same = int(SAME_IMAGE * count)
    elsewhere = ((1 - torch.eye(images))[..., None] * real).flatten(1)  # [B,B*R]
    from_others = elsewhere.multinomial(regions * num_other, replacement=True, generator=generator)
    from_others = from_others.view(images, regions, num_other)
    neighbours = real[:, None] * (1 - torch.eye(regions))  # [B,R,R]
    alone = ~neighbours.any(-1, keepdim=True)
    from_same = (neighbours + alone).flatten(0, 1).multinomial(num_same, replacement=True, generator=generator)
    from_same = from_same.view(images, regions, num_same) + torch.arange(images)[:, None, None] * regions
    return torch.cat([from_others, torch.where(alone, from_others[..., :num_same], from_same)], -1)
