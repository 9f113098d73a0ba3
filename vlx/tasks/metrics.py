"""The official numbers."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def accuracy(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Share of right predictions, 0..1 (the NLVR scripts call it precision)."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def consistency(groups: Sequence[str], labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Share of groups (one sentence with all its pictures) with every prediction right, 0..1."""
    right: defaultdict[str, bool] = defaultdict(lambda: True)
    for group, label, prediction in zip(groups, labels, predictions, strict=True):
        right[group] &= label == prediction
    return float(np.mean(list(right.values())))
