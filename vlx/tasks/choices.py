"""VCR: which of four answers is correct, and which of four rationales (ViLBERT, vilbert/datasets/vcr_dataset.py)."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from datasets import Dataset

from vlx.errors import SubmissionError
from vlx.models.heads import Head
from vlx.tasks.base import Encoded, PredictionColumns, Splits, Task
from vlx.tasks.metrics.accuracy import accuracy
from vlx.tasks.submissions import answers_by_example
from vlx.tasks.texts import TagLookup, encode_text_pairs
from vlx.tokenization import WordPiece


class ChoiceTask(Task):
    """A text and several choices, one of them correct. `probabilities` are [examples, choices]."""

    answers_one_text: ClassVar[bool] = False

    @property
    def head(self) -> Head:
        return Head("multiple_choice", 1)

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        """Encode [CLS] text [SEP] choice [SEP] for each choice, without tags: the texts themselves name the objects."""
        texts = encode_text_pairs(examples["text"], examples["choices"], tokenizer, limit=limit)
        rows = zip(texts, examples["image_ids"], examples["label"], strict=True)
        return [Encoded(text.texts, tuple(image_ids), label, text.segments) for text, image_ids, label in rows]

    def is_labeled(self, examples: Dataset) -> bool:
        return min(examples["label"]) >= 0

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return {"accuracy": accuracy(examples["label"], probabilities.argmax(1).tolist())}

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        labels = examples["label"]
        predictions = probabilities.argmax(1)
        choices = list(examples["choices"])
        return PredictionColumns(
            label=[texts[label] for texts, label in zip(choices, labels, strict=True)],
            prediction=[texts[choice] for texts, choice in zip(choices, predictions, strict=True)],
            score=probabilities.max(1),
            correct=predictions == np.asarray(labels),
        )

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write a csv with the probability of each choice, as VCR's leaderboard takes them."""
        header = ["annot_id", *(f"{self.name}_{index}" for index in range(probabilities.shape[1]))]
        rows = zip(examples["identifier"], probabilities.tolist(), strict=True)
        lines = [",".join(header), *(",".join([identifier, *map(repr, scores)]) for identifier, scores in rows)]
        path = stem.with_suffix(".csv")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        try:
            entries = [(identifier, [float(score) for score in scores]) for identifier, *scores in rows]
        except ValueError as error:
            raise SubmissionError(f"{path}: {error}; expected the probabilities of the choices.") from None
        return self.score(examples, np.array(answers_by_example(examples, entries, path)))

    def majority_baseline(self, examples: Dataset) -> float:
        """Accuracy of a random choice."""
        return float(np.mean([1 / len(choices) for choices in examples["choices"]]))


VCR_Q2A = ChoiceTask("vcr_q2a", Splits("train", "val", "test"))
VCR_QA2R = ChoiceTask("vcr_qa2r", Splits("train", "val", "test"))
