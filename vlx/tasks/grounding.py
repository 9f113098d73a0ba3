"""Which box does a text refer to? RefCOCO, RefCOCO+ and RefCOCOg among all regions (ViLBERT,
vilbert/datasets/refer_expression_dataset.py); Visual7W and GuessWhat among given boxes (ViLBERT,
vilbert/datasets/visual7w_pointing_dataset.py, guesswhat_pointing_dataset.py)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.batch import Batch
from vlx.boxes import IOU_THRESHOLD, iou
from vlx.errors import SubmissionError
from vlx.models.heads import Head
from vlx.objectives.supervised import TaskLoss, soft_target_bce
from vlx.tasks.base import Encoded, PredictionColumns, Splits, Task
from vlx.tasks.submissions import answers_by_example, read_entries
from vlx.tasks.texts import TagLookup, encode_texts
from vlx.tokenization import WordPiece

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class GroundingTask(Task):
    """The best of all regions. `probabilities` are the predicted box and its score [examples, 5]."""

    loss: TaskLoss = soft_target_bce

    alternative_losses: ClassVar[Mapping[str, TaskLoss]] = {"bce": soft_target_bce}

    @property
    def head(self) -> Head:
        return Head("grounding", 1)

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["boxes"], examples["label"], strict=True)
        return [
            Encoded(
                text.texts,
                tuple(image_ids),
                label,
                text.segments,
                box=tuple(self.target_box(boxes, label)) if boxes else None,
                candidates=self.candidate_boxes(boxes),
            )
            for text, image_ids, boxes, label in rows
        ]

    def target_box(self, boxes: Sequence[Any], label: int) -> Any:
        """Return the box that the text refers to, of an example's boxes."""
        return boxes[0]

    def candidate_boxes(self, boxes: Sequence[Any]) -> tuple[Any, ...]:
        """Return the boxes to choose from, of an example's boxes; empty: any region."""
        return ()

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        regions = batch["boxes"][:, 0]  # [B,1,R,4] -> [B,R,4]
        scores, best = logits.sigmoid().max(1)
        return torch.cat([regions[torch.arange(len(best)), best], scores[:, None]], 1)

    def is_labeled(self, examples: Dataset) -> bool:
        return bool(examples["boxes"][0])

    def correct(self, examples: Dataset, probabilities: np.ndarray) -> np.ndarray:
        """Whether the predicted box overlaps the target by more than half, [examples]."""
        targets = torch.tensor(self.target_boxes(examples))
        predictions = torch.from_numpy(np.asarray(probabilities[:, :4], np.float32))
        return (iou(targets[:, None], predictions[:, None])[:, 0, 0] > IOU_THRESHOLD).numpy()

    def target_boxes(self, examples: Dataset) -> list[list[float]]:
        rows = zip(examples["boxes"], examples["label"], strict=True)
        return [list(self.target_box(boxes, label)) for boxes, label in rows]

    def predicted_boxes(self, examples: Dataset, probabilities: np.ndarray) -> list[list[float]]:
        return [[float(value) for value in row[:4]] for row in probabilities]

    def best_scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Scores of the predicted boxes, [examples]."""
        return probabilities[:, 4]

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return {"accuracy": float(self.correct(examples, probabilities).mean())}

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        targets = self.target_boxes(examples)
        predictions = self.predicted_boxes(examples, probabilities)
        return PredictionColumns(
            label=[corners(box) for box in targets],
            prediction=[corners(box) for box in predictions],
            score=np.asarray(self.best_scores(probabilities)),
            correct=self.correct(examples, probabilities),
            drawn_boxes=[list(pair) for pair in zip(targets, predictions, strict=True)],
        )

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write a json list of identifiers and predicted boxes, x1 y1 x2 y2 in 0..1; there is no official file."""
        rows = zip(examples["identifier"], self.predicted_boxes(examples, probabilities), strict=True)
        entries = [{"id": identifier, "box": box} for identifier, box in rows]
        path = stem.with_suffix(".json")
        path.write_text(json.dumps(entries), encoding="utf-8")
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        boxes = self.submitted_boxes(examples, path)
        return self.score(examples, np.array([[*box, 1.0] for box in boxes], np.float32))

    def submitted_boxes(self, examples: Dataset, path: Path) -> list[list[float]]:
        entries = [(entry["id"], entry["box"]) for entry in read_entries(path, "id", "box")]
        return answers_by_example(examples, entries, path)

    def majority_baseline(self, examples: Dataset) -> float:
        """Accuracy of always predicting the whole image."""
        predictions = np.tile(np.array([[*WHOLE_IMAGE, 1]], np.float32), (len(examples), 1))
        return float(self.correct(examples, predictions).mean())

    def describe_answers(self, scores: list[float], top_k: int) -> list[tuple[str, float]]:
        """Return the predicted box, x1 y1 x2 y2 in 0..1, with its probability."""
        return [(" ".join(f"{value:.3f}" for value in scores[:4]), scores[4])]


class CandidateGroundingTask(GroundingTask):
    """The best of an example's own boxes, `label` is the correct one. `probabilities` are [examples, candidates]."""

    answers_one_text: ClassVar[bool] = False

    def target_box(self, boxes: Sequence[Any], label: int) -> Any:
        return boxes[label]

    def candidate_boxes(self, boxes: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(map(tuple, boxes))

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """A candidate has the score of the region that covers it best; candidates of padding, without area, have 0."""
        candidates = batch["candidates"]
        regions = batch["boxes"][:, 0]  # [B,1,R,4] -> [B,R,4]
        scores = logits.gather(1, iou(candidates, regions).argmax(2))  # [B,C]
        real = (candidates[..., 2:] > candidates[..., :2]).all(-1)
        return scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(1)

    def is_labeled(self, examples: Dataset) -> bool:
        return bool(examples["label"][0] >= 0)

    def correct(self, examples: Dataset, probabilities: np.ndarray) -> np.ndarray:
        """Whether the best candidate is the target, [examples]."""
        return probabilities.argmax(1) == np.asarray(examples["label"])

    def predicted_boxes(self, examples: Dataset, probabilities: np.ndarray) -> list[list[float]]:
        rows = zip(examples["boxes"], probabilities.argmax(1), strict=True)
        return [boxes[candidate] for boxes, candidate in rows]

    def best_scores(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.max(1)

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        rows = list(zip(examples["boxes"], self.submitted_boxes(examples, path), strict=True))
        if foreign := [box for boxes, box in rows if box not in boxes]:
            raise SubmissionError(
                f"{path}: box {ascii(foreign[0])[:60]} is none of its example's, expected one of them."
            )
        candidates = [boxes.index(box) for boxes, box in rows]
        return self.score(examples, np.eye(max(map(len, examples["boxes"])))[candidates])

    def majority_baseline(self, examples: Dataset) -> float:
        """Accuracy of a random choice."""
        return float(np.mean([1 / len(boxes) for boxes in examples["boxes"]]))


def corners(box: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in box)


REFCOCO = GroundingTask("refcoco", Splits("train", "val", "testA"))
REFCOCO_PLUS = GroundingTask("refcoco+", Splits("train", "val", "testA"))
REFCOCOG = GroundingTask("refcocog", Splits("train", "val", "test"))
VISUAL7W = CandidateGroundingTask("visual7w", Splits("train", "val", "test"))
GUESSWHAT_POINTING = CandidateGroundingTask("guesswhat_pointing", Splits("train", "valid", "test"))
