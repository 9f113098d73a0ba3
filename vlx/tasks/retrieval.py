"""Image-text retrieval: find the picture of a caption and the captions of a picture (specs: Oscar b.5, ViLBERT 3.3).

A cross-encoder reads a caption with a picture and says whether they belong together; every pair is scored, or those
that the split lists.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy
from vlx.tasks.base import Encoded, Groups, Splits, Tags
from vlx.tasks.retrieval_sampling import draw_negative, draw_three
from vlx.tokenization import WordPiece

CUTOFFS = (1, 5, 10)
Learn = Callable[[Sequence[Encoded], Groups, int, Random], list[Encoded]]


def together(text: Encoded, picture: Encoded) -> Encoded:
    """The caption of one example with the picture of another, and its tags in the room that the caption leaves."""
    if not text.segments:
        return text._replace(image_ids=picture.image_ids)
    words = text.texts[0][: len(text.texts[0]) - sum(text.segments[0])]
    tags = [*picture.tags[: text.room - 1], words[-1]] if picture.tags and text.room else []
    segments = [0] * len(words) + [1] * len(tags)
    return text._replace(texts=([*words, *tags],), segments=(segments,), image_ids=picture.image_ids, tags=picture.tags)


def right_and_wrong(encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> list[Encoded]:
    """Oscar's: the pair and one that does not belong together, of another picture's caption or another picture."""
    drawn, own = draw_negative(groups.own[index], rng, captions=list(map(len, groups.members))), encoded[index]
    others = groups.members[drawn.image]
    if drawn.caption is None:
        wrong = together(own, encoded[others[0]])
    else:
        wrong = together(encoded[others[drawn.caption]], own)
    return [own, wrong._replace(label=0)]


def right_of_four(encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> list[Encoded]:
    """ViLBERT 12-in-1's: the pair, first of four; the others have another caption, another picture, and a caption of a
    picture that looks like its own."""
    own, place = encoded[index], groups.own[index]
    drawn = draw_three(place, rng, captions=list(map(len, groups.members)), near=groups.near[place])
    caption, picture, hard = (encoded[groups.members[one.image][one.caption or 0]] for one in drawn)
    pairs = [own, together(caption, own), together(own, picture), together(hard, own)]
    texts, images, segments = (tuple(chain(*(getattr(one, part) for one in pairs))) for part in PARTS)
    return [Encoded(texts, images, 0, segments)]


def right_of_batch(encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> list[Encoded]:
    """Two towers': the pair, labelled with the number of its picture; the batch's others are what it is told from."""
    return [encoded[index]._replace(label=groups.own[index])]


PARTS = ("texts", "image_ids", "segments")


@dataclass(frozen=True)
class RetrievalTask:
    """An example is a caption. `probabilities` are scores [captions, images], images in order of first appearance; of
    pairs that are not asked they say nothing."""

    name: str = "retrieval"
    answers: tuple[str, ...] = ("apart", "together")
    head: Head = Head("classify", 2)
    splits: Splits = Splits("train", "val", "test")
    loss: TaskLoss = cross_entropy
    metric: str = "recall_mean"
    learn: Learn = right_and_wrong
    alike: int = 0

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """[CLS] caption [SEP], and of pictures with tags these and [SEP], cut to what room the caption leaves."""
        texts = tokenizer.encode(examples["text"], limit=limit)
        images = list(map(tuple, examples["image_ids"]))
        names = [name for (name,) in dict.fromkeys(images)] if tags else []
        found = dict(
            zip(names, tokenizer.pieces([" ".join(tags(name)) for name in names]), strict=True) if tags else ()
        )
        if not any(found.values()):
            return [Encoded((ids,), about, 1) for ids, about in zip(texts, images, strict=True)]
        rows = [
            Encoded((ids,), about, 1, ([0] * len(ids),), tags=tuple(found[about[0]]), room=limit - len(ids))
            for ids, about in zip(texts, images, strict=True)
        ]
        return [together(row, row) for row in rows]

    def groups(self, encoded: Sequence[Encoded]) -> Groups:
        """Captions by picture."""
        members: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(encoded):
            members.setdefault(row.image_ids, []).append(index)
        place = {images: number for number, images in enumerate(members)}
        return Groups([place[row.image_ids] for row in encoded], list(members.values()))

    def learnt(self, encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> list[Encoded]:
        return self.learn(encoded, groups, index, rng)

    def pair(self, text: Encoded, picture: Encoded) -> Encoded:
        return together(text, picture)

    def asked(self, examples: Dataset) -> np.ndarray | None:
        """Of Oscar's caption_indexs: the captions that a picture's own are to be found among."""
        names, belongs = pairs_of(examples)
        place = {identifier: row for row, identifier in enumerate(examples["identifier"])}
        found = np.zeros_like(belongs)
        for column, first in enumerate(belongs.argmax(0)):
            extra = examples[int(first)]["extra"]
            rows = [place[one] for one in json.loads(extra or "{}").get("candidates", ()) if one in place]
            found[rows, column] = True
        return found if found.any() else None

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """The last is that of belonging together, and all there is of a model that chose among pairs."""
        return logits.softmax(-1) if logits.shape[1] > 1 else torch.cat([-logits, logits], 1).sigmoid()

    def labelled(self, examples: Dataset) -> bool:
        return True

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        """R@1, R@5 and R@10 both ways and their mean; among listed captions, of pictures alone."""
        ways = ways_of(probabilities, pairs_of(examples)[1], self.asked(examples))
        recalls = {
            f"{way}_recall_at_{k}": value for way, pair in ways.items() for k, value in recalls_of(*pair).items()
        }
        return {"recall_mean": float(np.mean(list(recalls.values())))} | recalls

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        """A row a caption, with the picture it finds; among listed captions a row a picture, with what it finds."""
        names, belongs = pairs_of(examples)
        ways = ways_of(probabilities, belongs, self.asked(examples))
        scores, right = ways.get("t2i", ways["i2t"])
        best = scores.argmax(1)
        shared = {"score": scores.max(1).round(4).tolist(), "right": (ranks_of(scores, right) < 1).tolist()}
        if "t2i" in ways:
            found, own = [names[index] for index in best], [images[0] for images in examples["image_ids"]]
            about = examples.select_columns(["identifier", "text", "category"]).to_dict()
            return about | {"image_ids": [[name] for name in found], "label": own, "prediction": found} | shared
        texts, first = examples["text"], [examples["text"][int(row)] for row in belongs.argmax(0)]
        about = {
            "identifier": names,
            "text": first,
            "category": [""] * len(names),
            "image_ids": [[one] for one in names],
        }
        return about | {"label": first, "prediction": [texts[int(row)] for row in best]} | shared

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Oscar's .eval.json; a test set of captions has no official file."""
        scores, path = self.score(examples, probabilities), stem.with_suffix(".eval.json")
        ways = {"i2t_retrieval": "i2t", "t2i_retrieval": "t2i"}
        ways = {title: way for title, way in ways.items() if f"{way}_recall_at_1" in scores}
        found = {title: {f"R@{k}": scores[f"{way}_recall_at_{k}"] for k in CUTOFFS} for title, way in ways.items()}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        """What the file says: it holds the metrics, not the scores they come from."""
        found, ways = json.loads(path.read_text(encoding="utf-8")), {"i2t": "i2t_retrieval", "t2i": "t2i_retrieval"}
        ways = {way: title for way, title in ways.items() if title in found}
        recalls = {f"{way}_recall_at_{k}": found[title][f"R@{k}"] for way, title in ways.items() for k in CUTOFFS}
        return {"recall_mean": float(np.mean(list(recalls.values())))} | recalls

    def chance_level(self, examples: Dataset) -> float:
        """The mean recall of a random order."""
        belongs, asked = pairs_of(examples)[1], self.asked(examples)
        ways = ways_of(belongs, belongs, asked)
        among = {"t2i": np.full(len(belongs), belongs.shape[1])}
        among["i2t"] = np.full(belongs.shape[1], len(belongs)) if asked is None else asked.sum(0)
        return float(np.mean([chance_of(right.sum(1), among[way]) for way, (_, right) in ways.items()]))


def ways_of(
    scores: np.ndarray, belongs: np.ndarray, asked: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and what is right, both with a row for each picture, i2t, and for each caption, t2i; where pairs are
    listed for each picture, i2t alone."""
    if asked is None:
        return {"i2t": (scores.T, belongs.T), "t2i": (scores, belongs)}
    return {"i2t": (np.where(asked, scores, -np.inf).T, (belongs & asked).T)}


def chance_of(right: np.ndarray, among: np.ndarray) -> float:
    """Mean recall at CUTOFFS of rows in a random order, with so many right ones among so many."""
    rows = Counter(zip(map(int, right), map(int, among), strict=True))
    drawn = [
        (1 - comb(n - m, min(k, n)) / comb(n, min(k, n)), times) for (m, n), times in rows.items() for k in CUTOFFS
    ]
    return sum(share * times for share, times in drawn) / (len(CUTOFFS) * rows.total())


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
IN_BATCH = RetrievalTask(learn=right_of_batch)
HARD_RETRIEVAL = RetrievalTask(answers=(), head=Head("choose", 1), learn=right_of_four, alike=99)  # ViLBERT 12-in-1's
