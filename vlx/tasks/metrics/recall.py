"""Recall at K from image to text (i2t) and from text to image (t2i) (Oscar, oscar/run_retrieval.py)."""

from collections import Counter
from math import comb
from typing import NamedTuple

import numpy as np

CUTOFFS = (1, 5, 10)


class Ranking(NamedTuple):
    """scores and relevant, both [queries, candidates]."""

    scores: np.ndarray
    relevant: np.ndarray


def rankings(scores: np.ndarray, matches: np.ndarray, candidate_mask: np.ndarray | None) -> dict[str, Ranking]:
    """Rankings by direction, i2t and t2i, of [captions, images]; i2t alone where candidates are listed per image."""
    if candidate_mask is None:
        return {"i2t": Ranking(scores.T, matches.T), "t2i": Ranking(scores, matches)}
    return {"i2t": Ranking(np.where(candidate_mask, scores, -np.inf).T, (matches & candidate_mask).T)}


def best_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank, from 0, of each query's first relevant candidate; without any, the number of candidates.

    Among equal scores the later candidate comes first (compute_ranks of Oscar, oscar/run_retrieval.py).
    """
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    hits = np.take_along_axis(relevant, order, axis=1)
    return np.where(hits.any(1), hits.argmax(1), relevant.shape[1])


def recalls(scores: np.ndarray, relevant: np.ndarray) -> dict[int, float]:
    """K -> the share of queries with a relevant candidate among the first K."""
    ranks = best_ranks(scores, relevant)
    return {k: float(np.mean(ranks < k)) for k in CUTOFFS}


def random_recall(num_relevant: np.ndarray, num_candidates: np.ndarray) -> float:
    """Mean recall over CUTOFFS of queries [Q] whose candidates are in a random order."""
    queries = Counter(zip(map(int, num_relevant), map(int, num_candidates), strict=True))
    terms = [
        random_hit_probability(relevant, candidates, k) * count
        for (relevant, candidates), count in queries.items()
        for k in CUTOFFS
    ]
    return sum(terms) / (len(CUTOFFS) * queries.total())


def random_hit_probability(num_relevant: int, num_candidates: int, k: int) -> float:
    """Probability that the first k of randomly ordered candidates contain a relevant one."""
    length = min(k, num_candidates)
    return 1 - comb(num_candidates - num_relevant, length) / comb(num_candidates, length)
