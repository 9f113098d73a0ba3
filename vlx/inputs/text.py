"""Token ids and labels as padded tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlx.tasks.base import Encoded


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """[B,width]."""
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def broadcast_pairs(row: Encoded, part: str) -> tuple[Any, ...]:
    """The texts, images or segments of an example, one for each text-image pair; a single one serves every pair."""
    values = getattr(row, part)
    pairs = max(len(row.texts), len(row.image_ids))
    return values if len(values) == pairs else values * pairs


def text_tensors(rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """input_ids and text_mask [B,N,T] for N pairs an example; token_type_ids [B,N,T] where texts have segments."""
    texts = [broadcast_pairs(row, "texts") for row in rows]
    lengths = torch.tensor([[len(text) for text in row] for row in texts])
    tokens = int(lengths.max())
    batch = {
        "input_ids": filled(texts, tokens),
        "text_mask": torch.arange(tokens) < lengths[..., None],
    }
    if rows[0].segments:
        batch["token_type_ids"] = filled([broadcast_pairs(row, "segments") for row in rows], tokens)
    return batch


def filled(rows: Sequence[Sequence[Sequence[int]]], width: int) -> Tensor:
    """[B,N,width], zeros beyond each row's end."""
    values = np.zeros((len(rows), len(rows[0]), width), np.int64)
    for b, row in enumerate(rows):
        for s, ids in enumerate(row):
            values[b, s, : len(ids)] = ids
    return torch.from_numpy(values)


def label_tensors(rows: Sequence[Encoded], labels: int) -> dict[str, Tensor]:
    """labels [B], and targets [B,labels] where answers have soft scores."""
    batch = {"labels": torch.tensor([row.label for row in rows])}
    if rows[0].scores is not None:
        batch["targets"] = soft_targets(rows, labels)
    return batch


def soft_targets(rows: Sequence[Encoded], labels: int) -> Tensor:
    """[B,labels]: the score of every label, 0 where an example names none."""
    targets = torch.zeros(len(rows), labels)
    for number, row in enumerate(rows):
        for label, score in (row.scores or {}).items():
            targets[number, label] = score
    return targets
