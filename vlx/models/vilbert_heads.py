"""ViLBERT's heads: what kinds there are, how one is built, what it reads. Names are the original's."""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlx.models.heads import Transform, WordHead, answer_head

MASKED = 10_000.0  # taken from a padded region's score
# Heads of pre-training, always there: their places in the model.
PRETRAINING = {
    "words": "cls.predictions",
    "region_targets": "cls.imagePredictions",
    "aligned": "cls.bi_seq_relationship",
}
# Kinds of task heads: answers and classes of a text with its image [M,A]; pair, triple: of a text with so many [B,A];
# match: how well each text and image go together [B,N]; regions, tokens: of each [M,R], [M,T].
KINDS = ("answers", "classes", "pair", "triple", "match", "regions", "tokens")
IMAGES = {"answers": 1, "pair": 2, "triple": 3}  # that a head with a hidden layer reads together
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
    """What heads read: M = rows of `lead`, (B,) or (B,N); pooled [M,P], text [M,T,H], regions [M,R,V]."""

    pooled: Tensor
    text: Tensor
    regions: Tensor
    region_mask: Tensor  # [M,R]
    lead: torch.Size
    guessed: Tensor  # the text's states of which the words are guessed, [M,T,H] or [K,H]


def task_head(kind: str, size: int, *, text: int, regions: int, pooled: int, eps: float) -> nn.Module:
    """A new head; text, regions and pooled are the widths of the states it may read."""
    if kind in IMAGES:
        return nn.Sequential(OrderedDict(logit_fc=answer_head(pooled * IMAGES[kind], pooled * 2, size, eps=eps)))
    return nn.Linear({"regions": regions, "tokens": text}.get(kind, pooled), size)


def pretraining_heads(vocab_size: int, targets: int, *, text: int, regions: int, pooled: int, eps: float) -> nn.Module:
    transform, decoder = Transform(regions, eps=eps), nn.Linear(regions, targets)
    return nn.ModuleDict(
        {
            "predictions": WordHead(text, vocab_size, eps=eps),
            "bi_seq_relationship": nn.Linear(pooled, 2),
            "imagePredictions": nn.Sequential(OrderedDict(transform=transform, decoder=decoder)),
        }
    )


def score(head: nn.Module, kind: str, states: States, dropout: nn.Module) -> Tensor:
    """What a head of this kind, or a pre-training head by its name, says of the states."""
    if kind == "words":
        return head(states.guessed)
    if kind == "region_targets":
        return head(states.regions)
    if kind == "tokens":
        return head(dropout(states.text)).squeeze(-1)
    if kind == "regions":
        return head(dropout(states.regions)).squeeze(-1) - MASKED * ~states.region_mask
    pooled = dropout(states.pooled)
    if IMAGES.get(kind, 1) > 1:
        return head(pooled.unflatten(0, states.lead).flatten(1))  # [M,P] -> [B,N*P]
    if kind == "match":
        return head(pooled).view(states.lead[0], -1)  # [M,1] -> [B,N]
    return head(pooled)
