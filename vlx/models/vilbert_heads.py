"""ViLBERT's heads (Lu et al. 2020; vilbert/vilbert.py): their kinds, how each is built and applied."""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlx.models.heads import MlmHead, Transform, answer_head

PADDING_PENALTY = 10_000.0  # subtracted from a padded region's score, as in the original
# Heads of pre-training, always there: objective -> module.
PRETRAINING = {
    "mlm": "cls.predictions",
    "mrm": "cls.imagePredictions",
    "itm": "cls.bi_seq_relationship",
}
# Kinds of task heads. answers, classes: a text with its image [M,A]; pair, triple: a text with two or three images
# [B,A]; match: one score for each text and image [B,N]; regions: for each region [M,R]; tokens: for each token [M,T].
KINDS = ("answers", "classes", "pair", "triple", "match", "regions", "tokens")
IMAGES = {"answers": 1, "pair": 2, "triple": 3}  # number of images that a head with a hidden layer reads together
# The heads of the 12 tasks: kind and number of scores.
HEADS: dict[str, tuple[str, int]] = {
    "vil_prediction": ("answers", 3129),
    "vil_prediction_gqa": ("answers", 1533),
    "vil_binary_prediction": ("pair", 2),
    "vil_logit": ("match", 1),
    "vil_tri_prediction": ("classes", 3),
    "vision_logit": ("regions", 1),
    "linguisic_logit": ("tokens", 1),
}


class States(NamedTuple):
    """Inputs of the heads: pooled [M,P], text [M,T,H], regions [M,R,V]; M = rows of `shape`, (B,) or (B,N)."""

    pooled: Tensor
    text: Tensor
    regions: Tensor
    region_mask: Tensor  # [M,R]
    shape: torch.Size
    mlm: Tensor  # text states of the MLM head, [M,T,H] or [K,H] at the masked positions


def task_head(kind: str, size: int, *, text: int, regions: int, pooled: int, eps: float) -> nn.Module:
    """A new head; text, regions and pooled are the widths of the states."""
    if kind in IMAGES:
        return nn.Sequential(OrderedDict(logit_fc=answer_head(pooled * IMAGES[kind], pooled * 2, size, eps=eps)))
    return nn.Linear({"regions": regions, "tokens": text}.get(kind, pooled), size)


def pretraining_heads(vocab_size: int, targets: int, *, text: int, regions: int, pooled: int, eps: float) -> nn.Module:
    transform = Transform(regions, eps=eps)
    decoder = nn.Linear(regions, targets)
    return nn.ModuleDict(
        {
            "predictions": MlmHead(text, vocab_size, eps=eps),
            "bi_seq_relationship": nn.Linear(pooled, 2),
            "imagePredictions": nn.Sequential(OrderedDict(transform=transform, decoder=decoder)),
        }
    )


def score(head: nn.Module, kind: str, states: States, dropout: nn.Module) -> Tensor:
    """Apply a head of this kind, or a pre-training head by its objective."""
    if kind == "mlm":
        return head(states.mlm)
    if kind == "mrm":
        return head(states.regions)
    if kind == "tokens":
        return head(dropout(states.text)).squeeze(-1)
    if kind == "regions":
        return head(dropout(states.regions)).squeeze(-1) - PADDING_PENALTY * ~states.region_mask
    pooled = dropout(states.pooled)
    if IMAGES.get(kind, 1) > 1:
        return head(pooled.unflatten(0, states.shape).flatten(1))  # [M,P] -> [B,N*P]
    if kind == "match":
        return head(pooled).view(states.shape[0], -1)  # [M,1] -> [B,N]
    return head(pooled)
