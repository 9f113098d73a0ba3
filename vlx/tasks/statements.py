"""Statements with a fixed label: NLVR2 and NLVR (true of these pictures?), SNLI-VE (does the picture entail it?) and
GuessWhat's questions (yes, no or not applicable)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.errors import SubmissionError
from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy
from vlx.objectives.vilbert import mean_bce
from vlx.tasks.base import Encoded, Splits, Tags, encode_texts, in_order
from vlx.tasks.metrics import accuracy, consistency
from vlx.tokenization import WordPiece


@dataclass(frozen=True)
class StatementTask:
    """A statement over `num_images` pictures. answers: the labels' names; submission: a line of the official csv."""

    name: str
    num_images: int
    splits: Splits
    submission: str
    answers: tuple[str, ...]
    loss: TaskLoss = cross_entropy
    metric: str = "accuracy"

    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers), self.num_images)

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """Every image of a statement sees the same statement, and its own tags (specs: Oscar b.1, b.4)."""
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["label"], strict=True)
        targets = [({number: 1.0} if number >= 0 else {}) for number in examples["label"]]
        soft = targets if self.loss is mean_bce else [None] * len(targets)
        return [
            Encoded(ids, tuple(images), label, segments, scores)
            for ((ids, segments), images, label), scores in zip(rows, soft, strict=True)
        ]

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.sigmoid() if self.loss is mean_bce else logits.softmax(-1)

    def labelled(self, examples: Dataset) -> bool:
        return max(examples["label"]) >= 0

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return self.official(examples, probabilities.argmax(1).tolist())

    def official(self, examples: Dataset, chosen: Sequence[int]) -> dict[str, float]:
        """Of the labelled statements: accuracy and, where they come in groups, consistency, 0..1."""
        known = [row for row in zip(examples["label"], examples["group"], chosen, strict=True) if row[0] >= 0]
        if not known:
            return {}
        labels, groups, said = [row[0] for row in known], [row[1] for row in known], [row[2] for row in known]
        scores = {"accuracy": accuracy(labels, said)}
        return scores | ({"consistency": consistency(groups, labels, said)} if any(groups) else {})

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        """One row an example, for the predictions table."""
        chosen = probabilities.argmax(1)
        return {
            "identifier": examples["identifier"],
            "text": examples["text"],
            "category": examples["category"],
            "image_ids": examples["image_ids"],
            "label": [self.answers[label] for label in examples["label"]],
            "prediction": [self.answers[label] for label in chosen],
            "score": (probabilities[:, 1] if len(self.answers) == 2 else probabilities.max(1)).round(4).tolist(),
            "right": (chosen == np.asarray(examples["label"])).tolist(),
        }

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """The official csv: `identifier,True` a line, in the order of the examples."""
        rows = zip(examples["identifier"], probabilities.argmax(1), strict=True)
        lines = [f"{self.submission.format(identifier)},{self.answers[label]}" for identifier, label in rows]
        path = stem.with_suffix(".csv")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        rows = [line.rpartition(",") for line in path.read_text(encoding="utf-8").splitlines()]
        wrong = [word for _, _, word in rows if word not in self.answers]
        if wrong:
            raise SubmissionError(f"{path}: {wrong[0]!r}, expected one of {', '.join(self.answers)}.")
        before, _, after = self.submission.partition("{}")
        given = [(name.removeprefix(before).removesuffix(after), self.answers.index(word)) for name, _, word in rows]
        return self.official(examples, in_order(examples, given, path))

    def chance_level(self, examples: Dataset) -> float:
        """Accuracy of always giving the more frequent answer."""
        known = [label for label in examples["label"] if label >= 0]
        return float(np.bincount(known).max() / len(known))


class UnorderedTask(StatementTask):
    """A statement that is as true of its pictures in any other order."""

    def varied(self, row: Encoded, rng: Random) -> Encoded:
        """The pictures, and what belongs to each, in another order."""
        order = rng.sample(range(self.num_images), self.num_images)

        def ordered(parts: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(parts[place] for place in order) if len(parts) > 1 else parts

        return row._replace(texts=ordered(row.texts), image_ids=ordered(row.image_ids), segments=ordered(row.segments))


NLVR2 = StatementTask("nlvr2", 2, Splits("train", "dev", "test1"), "{}", ("False", "True"))
# Official NLVR files name the picture; its boxes are scored in their published order, permutation 0, of six.
NLVR = UnorderedTask("nlvr", 3, Splits("train", "val", "dev"), "dev-{}-0.png", ("false", "true"))
SNLI_VE = StatementTask("snli_ve", 1, Splits("train", "dev", "test"), "{}", ("contradiction", "neutral", "entailment"))
GUESSWHAT = StatementTask("guesswhat", 1, Splits("train", "valid", "test"), "{}", ("yes", "no", "n/a"))
