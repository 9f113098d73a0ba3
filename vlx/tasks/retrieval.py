"""Image-text retrieval: find the picture of a caption and the captions of a picture (specs: Oscar b.5).

A cross-encoder reads a caption with a picture and says whether they belong together; every pair is scored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy
from vlx.tasks.base import Encoded, Groups, Splits, Tags
from vlx.tasks.retrieval_sampling import draw_negative
from vlx.tokenization import WordPiece

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class RetrievalTask:
    """An example is a caption. `probabilities` are scores [captions, images], images in order of first appearance."""

    name: str = "retrieval"
    answers: tuple[str, ...] = ("apart", "together")
    head: Head = Head("classify", 2)
    splits: Splits = Splits("train", "val", "test")
    loss: TaskLoss = cross_entropy
    metric: str = "recall_mean"

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """Without tags: a caption meets every picture, and its tokens are the same beside each."""
        texts = tokenizer.encode(examples["text"], limit=limit)
        return [Encoded((ids,), tuple(images), 1) for ids, images in zip(texts, examples["image_ids"], strict=True)]

    def groups(self, encoded: Sequence[Encoded]) -> Groups:
        """Captions by picture."""
        members: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(encoded):
            members.setdefault(row.image_ids, []).append(index)
        place = {images: number for number, images in enumerate(members)}
        return Groups([place[row.image_ids] for row in encoded], list(members.values()))

    def negative(self, encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> Encoded:
        """A pair that does not belong together: another picture's caption, or another picture."""
        drawn = draw_negative(groups.own[index], rng, captions=list(map(len, groups.members)))
        others = groups.members[drawn.image]
        if drawn.caption is None:
            return encoded[index]._replace(image_ids=encoded[others[0]].image_ids, label=0)
        return encoded[index]._replace(texts=encoded[others[drawn.caption]].texts, label=0)

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.softmax(-1)

    def labelled(self, examples: Dataset) -> bool:
        return True

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        """R@1, R@5 and R@10 both ways and their mean."""
        names, belongs = pairs_of(examples)
        ways = {"i2t": recalls_of(probabilities.T, belongs.T), "t2i": recalls_of(probabilities, belongs)}
        recalls = {f"{way}_recall_at_{k}": value for way, found in ways.items() for k, value in found.items()}
        return {"recall_mean": float(np.mean(list(recalls.values())))} | recalls

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        names, belongs = pairs_of(examples)
        best = probabilities.argmax(1)
        rank = ranks_of(probabilities, belongs)
        return {
            "identifier": examples["identifier"],
            "text": examples["text"],
            "category": examples["category"],
            "image_ids": [[names[index]] for index in best],
            "label": [images[0] for images in examples["image_ids"]],
            "prediction": [names[index] for index in best],
            "score": probabilities.max(1).round(4).tolist(),
            "right": (rank < 1).tolist(),
        }

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Oscar's .eval.json; a test set of captions has no official file."""
        scores, path = self.score(examples, probabilities), stem.with_suffix(".eval.json")
        ways = {"i2t_retrieval": "i2t", "t2i_retrieval": "t2i"}
        found = {title: {f"R@{k}": scores[f"{way}_recall_at_{k}"] for k in CUTOFFS} for title, way in ways.items()}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        """What the file says: it holds the metrics, not the scores they come from."""
        found, ways = json.loads(path.read_text(encoding="utf-8")), {"i2t": "i2t_retrieval", "t2i": "t2i_retrieval"}
        recalls = {f"{way}_recall_at_{k}": found[title][f"R@{k}"] for way, title in ways.items() for k in CUTOFFS}
        return {"recall_mean": float(np.mean(list(recalls.values())))} | recalls

    def chance_level(self, examples: Dataset) -> float:
        """The mean recall of a random order."""
        names, belongs = pairs_of(examples)
        captions, images = belongs.shape
        each = captions // images  # captions of a picture
        found = [min(1.0, k / images) for k in CUTOFFS]
        found += [1 - comb(captions - each, min(k, captions)) / comb(captions, min(k, captions)) for k in CUTOFFS]
        return float(np.mean(found))


def pairs_of(examples: Dataset) -> tuple[list[str], np.ndarray]:
    """Image ids in order of first appearance, and which caption belongs to which [captions, images]."""
    own = [images[0] for images in examples["image_ids"]]
    names = list(dict.fromkeys(own))
    place = {name: index for index, name in enumerate(names)}
    belongs = np.zeros((len(own), len(names)), bool)
    belongs[np.arange(len(own)), [place[name] for name in own]] = True
    return names, belongs


def recalls_of(scores: np.ndarray, belongs: np.ndarray) -> dict[int, float]:
    """K -> the share of rows with a right candidate among the first K."""
    ranks = ranks_of(scores, belongs)
    return {k: float(np.mean(ranks < k)) for k in CUTOFFS}


def ranks_of(scores: np.ndarray, belongs: np.ndarray) -> np.ndarray:
    """For each row the place, from 0, of its first right candidate; of equal scores the later candidate comes first
    (as Oscar's compute_ranks). A row without a right candidate: the number of candidates."""
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1]
    hits = np.take_along_axis(belongs, order, axis=1)
    return np.where(hits.any(1), hits.argmax(1), belongs.shape[1])


RETRIEVAL = RetrievalTask()
