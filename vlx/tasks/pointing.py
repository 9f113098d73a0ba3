"""Referring expressions: which region does the text mean? RefCOCO, RefCOCO+, RefCOCOg, and pointing at one of several
boxes, Visual7W and GuessWhat (specs: ViLBERT, V-logit and V-logit-mc)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.errors import SubmissionError
from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, soft_target_bce
from vlx.tasks.base import Encoded, Splits, Tags, encode_texts, entries_of, in_order
from vlx.tokenization import WordPiece

HALF = 0.5  # a box with more overlap is the right one; one with less is no target


@dataclass(frozen=True)
class PointingTask:
    """`probabilities` are the box pointed at and its score [examples, 5]; of candidates, their scores [examples, C]."""

    name: str
    splits: Splits
    chooses: bool = False  # among the example's own boxes, of which `label` is right
    answers: tuple[str, ...] = ()
    head: Head = Head("point", 1)
    loss: TaskLoss = soft_target_bce
    metric: str = "accuracy"

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        rows = zip(*(examples[name] for name in ("text", "image_ids", "boxes", "label")), strict=True)
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        found = []
        for (ids, segments), (_, images, boxes, label) in zip(texts, rows, strict=True):
            right = tuple(boxes[label if self.chooses else 0]) if boxes else None
            candidates = tuple(map(tuple, boxes)) if self.chooses else ()
            found.append(Encoded(ids, tuple(images), label, segments, box=right, candidates=candidates))
        return found

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """A candidate's score is that of the region that covers it best."""
        regions = batch["boxes"][:, 0]  # [B,1,R,4] -> [B,R,4]
        if not self.chooses:
            scores, best = logits.sigmoid().max(1)
            return torch.cat([regions[torch.arange(len(best)), best], scores[:, None]], 1)
        candidates = batch["candidates"]
        scores = logits.gather(1, box_iou(candidates, regions).argmax(2))  # [B,C]
        real = (candidates[..., 2:] > candidates[..., :2]).all(-1)
        return scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(1)

    def labelled(self, examples: Dataset) -> bool:
        return bool(examples["label"][0] >= 0) if self.chooses else bool(examples["boxes"][0])

    def right(self, examples: Dataset, probabilities: np.ndarray) -> np.ndarray:
        if self.chooses:
            return probabilities.argmax(1) == np.asarray(examples["label"])
        wanted = torch.tensor([boxes[0] for boxes in examples["boxes"]])
        found = torch.from_numpy(np.asarray(probabilities[:, :4], np.float32))
        return (box_iou(wanted[:, None], found[:, None])[:, 0, 0] > HALF).numpy()

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        """Share of texts whose box is covered to a half, or whose candidate is chosen."""
        return {"accuracy": float(self.right(examples, probabilities).mean())}

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        chosen = self.boxes(examples, probabilities)
        labels = examples["label"] if self.chooses else [0] * len(examples)
        wanted = [boxes[label] for boxes, label in zip(examples["boxes"], labels, strict=True)]
        scores = probabilities.max(1) if self.chooses else probabilities[:, 4]
        return {
            "identifier": examples["identifier"],
            "text": examples["text"],
            "category": examples["category"],
            "image_ids": examples["image_ids"],
            "label": [corners(box) for box in wanted],
            "prediction": [corners(box) for box in chosen],
            "score": np.asarray(scores).round(4).tolist(),
            "right": self.right(examples, probabilities).tolist(),
            "drawn": [[list(right), list(found)] for right, found in zip(wanted, chosen, strict=True)],
        }

    def boxes(self, examples: Dataset, probabilities: np.ndarray) -> list[list[float]]:
        """The box pointed at."""
        if not self.chooses:
            return [[float(value) for value in row[:4]] for row in probabilities]
        return [boxes[place] for boxes, place in zip(examples["boxes"], probabilities.argmax(1), strict=True)]

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """A json list of identifier and the box pointed at, x1 y1 x2 y2 in 0..1; there is no official file."""
        rows = zip(examples["identifier"], self.boxes(examples, probabilities), strict=True)
        path = stem.with_suffix(".json")
        path.write_text(json.dumps([{"id": number, "box": box} for number, box in rows]), encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        boxes = in_order(examples, [(one["id"], one["box"]) for one in entries_of(path, "id", "box")], path)
        if not self.chooses:
            return self.score(examples, np.array([[*box, 1.0] for box in boxes], np.float32))
        pairs = list(zip(examples["boxes"], boxes, strict=True))
        if foreign := [box for known, box in pairs if box not in known]:
            raise SubmissionError(
                f"{path}: box {ascii(foreign[0])[:60]} is none of its example's, expected one of them."
            )
        places = [known.index(box) for known, box in pairs]
        return self.score(examples, np.eye(max(map(len, examples["boxes"])))[places])

    def chance_level(self, examples: Dataset) -> float:
        """Of choosing a candidate blindly; of pointing at the whole picture."""
        if self.chooses:
            return float(np.mean([1 / len(boxes) for boxes in examples["boxes"]]))
        whole = np.tile(np.array([[0, 0, 1, 1, 1]], np.float32), (len(examples), 1))
        return float(self.right(examples, whole).mean())


def corners(box: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in box)


def box_iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of every box [B,C,4] with every box [B,R,4] -> [B,C,R]; 0 where both are empty."""
    low = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    high = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    first, second = ((each[..., 2:] - each[..., :2]).prod(-1) for each in (one, other))
    return common / (first[:, :, None] + second[:, None] - common).clamp(min=1e-12)


REFERRING = tuple(
    PointingTask(name, Splits("train", "val", test))
    for name, test in (("refcoco", "testA"), ("refcoco+", "testA"), ("refcocog", "test"))
)
VISUAL7W = PointingTask("visual7w", Splits("train", "val", "test"), chooses=True)
GUESSWHAT_POINTING = PointingTask("guesswhat_pointing", Splits("train", "valid", "test"), chooses=True)
