"""Statements with fixed labels: NLVR2 and NLVR (is it true of the images?), SNLI-VE (does the image entail it?) and
GuessWhat's questions (yes, no or not applicable)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset

from vlx.errors import SubmissionError
from vlx.models.heads import Head
from vlx.objectives.supervised import TaskLoss, mean_bce
from vlx.tasks.base import Encoded, ImageGroups, PredictionColumns, Splits, Task
from vlx.tasks.metrics.accuracy import accuracy, consistency, most_frequent_share
from vlx.tasks.submissions import answers_by_example
from vlx.tasks.texts import TagLookup, encode_texts
from vlx.tokenization import WordPiece


@dataclass(frozen=True)
class StatementTask(Task):
    """A statement about `num_images` images. submission_id: the identifier's form in the official csv."""

    num_images: int = 1
    submission_id: str = "{}"

    alternative_losses: ClassVar[Mapping[str, TaskLoss]] = {"bce": mean_bce}

    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers), self.num_images)

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        """Encode the statement once for all its images, or with the tags of each image (Oscar, oscar/run_nlvr.py)."""
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["label"], strict=True)
        return [
            Encoded(text.texts, tuple(image_ids), label, text.segments, self.targets(label))
            for text, image_ids, label in rows
        ]

    def targets(self, label: int) -> dict[int, float] | None:
        """Soft targets of a label: the label alone, none if it is unknown; None without a loss that needs them."""
        if not self.soft_targets:
            return None
        return {label: 1.0} if label >= 0 else {}

    def is_labeled(self, examples: Dataset) -> bool:
        return max(examples["label"]) >= 0

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return self.official_scores(examples, probabilities.argmax(1).tolist())

    def official_scores(self, examples: Dataset, predictions: Sequence[int]) -> dict[str, float]:
        """Accuracy and, where statements come in groups, consistency of the labeled statements, 0..1."""
        labeled = [row for row, label in enumerate(examples["label"]) if label >= 0]
        if not labeled:
            return {}
        statements = examples.select(labeled)
        labels = list(statements["label"])
        groups = list(statements["group"])
        answers = [predictions[row] for row in labeled]
        scores = {"accuracy": accuracy(labels, answers)}
        if any(groups):
            scores["consistency"] = consistency(groups, labels, answers)
        return scores

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        """The score of two labels is the probability of the second, of more that of the prediction."""
        labels = examples["label"]
        predictions = probabilities.argmax(1)
        return PredictionColumns(
            label=[self.answers[label] for label in labels],
            prediction=[self.answers[label] for label in predictions],
            score=probabilities[:, 1] if len(self.answers) == 2 else probabilities.max(1),
            correct=predictions == np.asarray(labels),
        )

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write the official csv: `identifier,True` a line, in the order of the examples."""
        rows = zip(examples["identifier"], probabilities.argmax(1), strict=True)
        lines = [f"{self.submission_id.format(identifier)},{self.answers[label]}" for identifier, label in rows]
        path = stem.with_suffix(".csv")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        rows = [line.rpartition(",") for line in path.read_text(encoding="utf-8").splitlines()]
        if unknown := [answer for _, _, answer in rows if answer not in self.answers]:
            raise SubmissionError(f"{path}: {unknown[0]!r}, expected one of {', '.join(self.answers)}.")
        prefix, _, suffix = self.submission_id.partition("{}")
        entries = [
            (name.removeprefix(prefix).removesuffix(suffix), self.answers.index(answer)) for name, _, answer in rows
        ]
        return self.official_scores(examples, answers_by_example(examples, entries, path))

    def majority_baseline(self, examples: Dataset) -> float:
        return most_frequent_share([label for label in examples["label"] if label >= 0])


class UnorderedTask(StatementTask):
    """A statement whose label does not depend on the order of its images."""

    examples_vary: ClassVar[bool] = True

    def training_pairs(
        self, encoded: Sequence[Encoded], groups: ImageGroups | None, index: int, rng: Random
    ) -> list[Encoded]:
        return [self.augment(encoded[index], rng)]

    def augment(self, row: Encoded, rng: Random) -> Encoded:
        """Return the images, each with its own text and segments, in a random order."""
        order = rng.sample(range(self.num_images), self.num_images)
        return row._replace(
            texts=reordered(row.texts, order),
            image_ids=reordered(row.image_ids, order),
            segments=reordered(row.segments, order),
        )


def reordered(parts: tuple[Any, ...], order: Sequence[int]) -> tuple[Any, ...]:
    """Return the parts in this order; a single part is shared by all images and stays."""
    return tuple(parts[index] for index in order) if len(parts) > 1 else parts


NLVR2 = StatementTask("nlvr2", Splits("train", "dev", "test1"), ("False", "True"), num_images=2)
NLVR = UnorderedTask(
    "nlvr",
    Splits("train", "val", "dev"),
    ("false", "true"),
    num_images=3,
    submission_id="dev-{}-0.png",  # an image file: the boxes in their published order, permutation 0 of six
)
SNLI_VE = StatementTask("snli_ve", Splits("train", "dev", "test"), ("contradiction", "neutral", "entailment"))
GUESSWHAT = StatementTask("guesswhat", Splits("train", "valid", "test"), ("yes", "no", "n/a"))
