"""Accuracy and consistency, as the official NLVR and NLVR2 evaluation scripts compute them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def accuracy(labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Share of correct predictions, 0..1 (the NLVR scripts call it precision)."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def consistency(groups: Sequence[str], labels: Sequence[int], predictions: Sequence[int]) -> float:
    """Share of groups (one sentence with all its images) with every prediction correct, 0..1."""
    correct: defaultdict[str, bool] = defaultdict(lambda: True)
    for group, label, prediction in zip(groups, labels, predictions, strict=True):
        correct[group] &= label == prediction
    return float(np.mean(list(correct.values())))


def most_frequent_share(labels: Sequence[int]) -> float:
    """Accuracy of always predicting the most frequent of the labels."""
    return float(np.bincount(labels).max() / len(labels))
