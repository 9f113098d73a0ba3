"""What a task asks of a model, and the heads that the systems share, with the originals' parameter names."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Head(NamedTuple):
    """What a model must produce. classify: `labels` logits from `images` images; multiple_choice: one logit for each of
    several texts about an image; grounding: one logit for each region."""

    kind: str
    labels: int
    images: int = 1


class Sizes(NamedTuple):
    """Of a new model. region_layers, cross_layers, vision_layers, vision_width: of the systems that have such."""

    vocab_size: int
    positions: int
    region_dim: int
    hidden: int
    layers: int
    region_layers: int
    cross_layers: int
    heads: int
    intermediate: int
    initializer_range: float
    dropout: float
    attention_dropout: float
    classifier: str
    classifier_scale: int = 2
    vision_layers: tuple[int, ...] = ()
    vision_width: int = 0


class Targets(NamedTuple):
    """What pre-training guesses: the sizes of the heads that it needs; 0: there is no such head."""

    answers: int = 0
    objects: int = 0
    attributes: int = 0
    features: int = 0  # of a region, guessed whole
    regions: int = 0  # ViLBERT's one guess of a region: its classes or its features


class Transform(nn.Module):
    """LayerNorm(gelu(dense(x))): [...,H] -> [...,O]."""

    def __init__(self, hidden: int, outputs: int | None = None, *, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, outputs or hidden)
        self.LayerNorm = nn.LayerNorm(outputs or hidden, eps=eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(hidden)))


class WordHead(nn.Module):
    """Scores of every word: [...,H] -> [...,V]. The decoder is tied to the word embeddings, its bias stands beside."""

    def __init__(self, hidden: int, vocab_size: int, *, eps: float = 1e-12) -> None:
        super().__init__()
        self.transform = Transform(hidden, eps=eps)
        self.decoder = nn.Linear(hidden, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden)) + self.bias


def guessed(text: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """What the word head reads: [M,T,H]; or, since it costs most of all, the K places alone that `word_places` [K], in
    0..M*T-1, of the batch names: [K,H]."""
    return text.flatten(0, 1)[batch["word_places"]] if "word_places" in batch else text


def answer_head(inputs: int, hidden: int, answers: int, *, eps: float = 1e-12) -> nn.Sequential:
    """LXMERT's head over pooled vectors: [...,inputs] -> [...,answers]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.LayerNorm(hidden, eps=eps), nn.Linear(hidden, answers)
    )
