"""Yes-or-no questions about one image. Recall of yes is reported beside accuracy."""

import json
from pathlib import Path

import numpy as np
from datasets import Dataset

from vlx.models.heads import Head
from vlx.tasks.base import Encoded, PredictionColumns, Splits, Task
from vlx.tasks.metrics.accuracy import accuracy, most_frequent_share
from vlx.tasks.submissions import answers_by_example, read_entries
from vlx.tasks.texts import TagLookup, encode_texts
from vlx.tokenization import WordPiece


class YesNoTask(Task):
    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers))

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["label"], strict=True)
        return [Encoded(text.texts, tuple(image_ids), label, text.segments) for text, image_ids, label in rows]

    def is_labeled(self, examples: Dataset) -> bool:
        return min(examples["label"]) >= 0

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return self.official_scores(examples, probabilities.argmax(1).tolist())

    def official_scores(self, examples: Dataset, predictions: list[int]) -> dict[str, float]:
        labels = list(examples["label"])
        scores = {"accuracy": accuracy(labels, predictions)}
        if predictions_of_yes := [prediction for label, prediction in zip(labels, predictions, strict=True) if label]:
            scores["recall_of_yes"] = float(np.mean(predictions_of_yes))
        return scores

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        predictions = probabilities.argmax(1)
        return PredictionColumns(
            label=[self.answers[label] for label in examples["label"]],
            prediction=[self.answers[label] for label in predictions],
            score=probabilities.max(1),
            correct=predictions == np.asarray(examples["label"]),
        )

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        rows = zip(examples["identifier"], probabilities.argmax(1), strict=True)
        path = stem.with_suffix(".json")
        path.write_text(json.dumps([{"id": identifier, "answer": self.answers[label]} for identifier, label in rows]))
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        entries = [(entry["id"], self.answers.index(entry["answer"])) for entry in read_entries(path, "id", "answer")]
        return self.official_scores(examples, answers_by_example(examples, entries, path))

    def majority_baseline(self, examples: Dataset) -> float:
        return most_frequent_share(examples["label"])


TOY = YesNoTask("toy", Splits("train", "val", "test"), answers=("no", "yes"))
