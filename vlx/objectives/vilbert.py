"""ViLBERT's losses: those of pre-training and those of the 12 tasks, with their scores (specs: ViLBERT 2.3, 3.2)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vlx.errors import TrainingError
from vlx.objectives.pretraining import matched_loss, mlm_loss
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy, mean_bce, soft_target_bce

OTHERS, SAME = 0.7, 0.3  # the shares of NCE's negatives that other images and the same image give


def region_kl(scores: Tensor, targets: Tensor, masked: Tensor) -> Tensor:
    """Visual target 0: KL(targets || softmax(scores)), summed over classes, mean over masked regions.

    scores and targets [B,R,C], masked [B,R].
    """
    loss = F.kl_div(scores[masked].log_softmax(-1), targets[masked], reduction="sum")
    return loss / masked.sum().clamp(min=1)


def region_regression(scores: Tensor, features: Tensor, masked: Tensor) -> Tensor:
    """Visual target 1: mean squared error over the dims of masked regions; scores and features [B,R,D]."""
    loss = F.mse_loss(scores[masked], features[masked], reduction="sum") / scores.shape[-1]
    return loss / masked.sum().clamp(min=1)


def region_nce(scores: Tensor, features: Tensor, masked: Tensor, negatives: Tensor) -> Tensor:
    """Visual target 2: each masked region finds its own features among others', by dot product; scores and features
    [B,R,D], negatives [B,R,n]: where in B*R the others are (draw_negatives)."""
    own = torch.arange(masked.numel(), device=masked.device).view_as(masked)[masked]
    every = scores[masked] @ features.flatten(0, 1).T  # [K,B*R], less than the K*(1+n) candidates' features
    logits = every.gather(1, torch.cat([own[:, None], negatives[masked]], 1))
    return F.cross_entropy(logits, torch.zeros_like(own), reduction="sum") / masked.sum().clamp(min=1)


def draw_negatives(region_mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each region [B,R] about 70% of `count` regions of other images, then 30% of its own: [B,R,n] in B*R.

    None is the region itself nor, as some of the original's, padding; one alone in its image has all from others.
    """
    size, most = region_mask.shape
    if size < 2:
        raise TrainingError("visual_target=2: one image has no negatives from others; use a batch_size of at least 2.")
    real, others, own = region_mask.float(), int(OTHERS * count), int(SAME * count)
    elsewhere = ((1 - torch.eye(size))[..., None] * real).flatten(1)  # [B,B*R]
    far = elsewhere.multinomial(most * others, replacement=True, generator=generator).view(size, most, others)
    beside = real[:, None] * (1 - torch.eye(most))  # [B,R,R]
    alone = ~beside.any(-1, keepdim=True)
    near = (beside + alone).flatten(0, 1).multinomial(own, replacement=True, generator=generator)
    near = near.view(size, most, own) + torch.arange(size)[:, None, None] * most
    return torch.cat([far, torch.where(alone, far[..., :own], near)], -1)


REGION_LOSSES: dict[int, Any] = {0: region_kl, 1: region_regression, 2: region_nce}


def pretraining_losses(scores: dict[str, Tensor], batch: Batch, *, visual_target: int) -> dict[str, Tensor]:
    """A loss for each of the three heads of pre-training that `scores` has.

    batch: word_labels [B,T], -1 = none; masked_regions [B,R]; region_targets [B,R,C], soft classes or features;
    matched_labels [B], 1 = the image's own caption, which is the head's class 0; negatives [B,R,n] for visual target 2.
    """
    losses = {}
    if "words" in scores:
        losses["words"] = mlm_loss(scores["words"], batch["word_labels"])
    if "region_targets" in scores:
        extra = {"negatives": batch["negatives"]} if visual_target == 2 else {}
        regions = scores["region_targets"], batch["region_targets"], batch["masked_regions"]
        losses["regions"] = REGION_LOSSES[visual_target](*regions, **extra)
    if "aligned" in scores:
        losses["aligned"] = matched_loss(scores["aligned"], 1 - batch["matched_labels"])
    return losses


def only_matched(batch: Batch) -> Batch:
    """Objective 1, the paper's: nothing is to be guessed about a caption and an image that do not belong together."""
    other = batch["matched_labels"][:, None] != 1
    hidden = {"masked_regions": batch["masked_regions"] & ~other} if "masked_regions" in batch else {}
    return batch | {"word_labels": batch["word_labels"].masked_fill(other, -1)} | hidden


def chosen(logits: Tensor, batch: Batch) -> Tensor:
    """The scores [B,M] of the regions to choose from; logits [B,R], choices [B,M] in 0..R-1."""
    return logits.gather(1, batch["choices"])


def choice_bce(logits: Tensor, batch: Batch) -> Tensor:
    """Sum over the choices, mean over B; targets [B,M]."""
    return soft_target_bce(chosen(logits, batch), batch)


def target_at_best(logits: Tensor, batch: Batch) -> Tensor:
    """The target [B] of the answer with the highest score."""
    return batch["targets"].gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


def label_is_best(logits: Tensor, batch: Batch) -> Tensor:
    return (logits.argmax(1) == batch["labels"]).float()


def region_is_found(logits: Tensor, batch: Batch) -> Tensor:
    """Does the best region overlap the true box by more than half? targets [B,R] = IoU."""
    return (target_at_best(logits, batch) > 0.5).float()


def choice_is_best(logits: Tensor, batch: Batch) -> Tensor:
    return (chosen(logits, batch).argmax(1) == batch["targets"].argmax(1)).float()


class Kind(NamedTuple):
    """How a kind of task learns, and what each example of a batch scores, [B]."""

    loss: TaskLoss
    score: TaskLoss


KINDS = {  # by the original's names
    "VL-classifier": Kind(soft_target_bce, target_at_best),
    "VL-classifier-GQA": Kind(soft_target_bce, target_at_best),
    "VL-logit": Kind(cross_entropy, label_is_best),
    "V-logit": Kind(soft_target_bce, region_is_found),
    "V-logit-mc": Kind(choice_bce, choice_is_best),
    "VL-binary-classifier": Kind(mean_bce, target_at_best),
    "VL-tri-classifier": Kind(mean_bce, target_at_best),
}
