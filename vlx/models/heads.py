"""What a task needs of a model, and the heads that architectures share, with the originals' parameter names."""

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


class PretrainingSizes(NamedTuple):
    """Outputs of the pre-training heads by objective; 0: there is no such head."""

    qa: int = 0
    mrc_objects: int = 0
    mrc_attributes: int = 0
    mrfr: int = 0
    mrm: int = 0  # classes or feature dimensions


class Transform(nn.Module):
    """LayerNorm(gelu(dense(x))): [...,H] -> [...,O]."""

    def __init__(self, hidden: int, outputs: int | None = None, *, eps: float = 1e-12) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, outputs or hidden)
        self.LayerNorm = nn.LayerNorm(outputs or hidden, eps=eps)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(hidden)))


class MlmHead(nn.Module):
    """MLM scores: [...,H] -> [...,V]. The decoder is tied to the word embeddings; its bias is separate."""

    def __init__(self, hidden: int, vocab_size: int, *, eps: float = 1e-12) -> None:
        super().__init__()
        self.transform = Transform(hidden, eps=eps)
        self.decoder = nn.Linear(hidden, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden)) + self.bias


def mlm_states(text: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The text states [M,T,H] that the MLM head reads. It is the most expensive head, so a batch may name the K masked
    positions, `masked_positions` [K] in 0..M*T-1: [K,H]."""
    return text.flatten(0, 1)[batch["masked_positions"]] if "masked_positions" in batch else text


def qa_head(model: nn.Module) -> nn.Sequential | None:
    """The answer head over one pooled vector, fine-tuned or of pre-training; None: the model has none."""
    modules = dict(model.named_modules())
    head = modules.get("answer_head.logit_fc") or modules.get("logit_fc")
    return head if isinstance(head, nn.Sequential) else None


def answer_head(inputs: int, hidden: int, answers: int, *, eps: float = 1e-12) -> nn.Sequential:
    """LXMERT's head over pooled vectors: [...,inputs] -> [...,answers]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.LayerNorm(hidden, eps=eps), nn.Linear(hidden, answers)
    )
