"""Questions answered from a vocabulary: VQA v2, corpora in its form (VQA-RAD, Visual Genome QA), and GQA."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset

from vlx.errors import CorpusError, SubmissionError
from vlx.models.heads import Head
from vlx.objectives.supervised import TaskLoss, cross_entropy, soft_target_bce
from vlx.tasks.base import Encoded, PredictionColumns, Splits, Task
from vlx.tasks.metrics.gqa import gqa_scores
from vlx.tasks.metrics.vqa import best_answer_share, soft_scores, vqa_scores
from vlx.tasks.submissions import answers_by_example, read_entries
from vlx.tasks.texts import TagLookup, encode_texts
from vlx.tokenization import WordPiece

CORRECT_SCORE = 0.5  # soft score from which the predictions table marks an answer as correct


@dataclass(frozen=True, kw_only=True)
class QuestionTask(Task):
    """A question about an image; `answers` is the vocabulary of a corpus or a model.

    official_scores(examples, predicted answers); submission_entry(identifier, answer): an object of the official file.
    """

    official_scores: Callable[[Dataset, Sequence[str]], dict[str, float]]
    submission_entry: Callable[[str, str], dict[str, Any]]

    alternative_losses: ClassVar[Mapping[str, TaskLoss]] = {"bce": soft_target_bce}

    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers))

    def with_answers(self, answers: Sequence[str]) -> Task:
        if not answers:
            raise CorpusError(
                f"task {self.name}: the corpus has no answer vocabulary. Prepare it from the task's own files."
            )
        return replace(self, answers=tuple(answers))

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        """Targets are the soft scores of the answers in the vocabulary; the label is the best of them, -1 if none."""
        index = {answer: label for label, answer in enumerate(self.answers)}
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["answers"], examples["scores"], strict=True)
        encoded = []
        for text, image_ids, answers, scores in rows:
            targets = {index[answer]: score for answer, score in zip(answers, scores, strict=True) if answer in index}
            label = max(targets, key=lambda key: targets[key]) if targets else -1
            encoded.append(Encoded(text.texts, tuple(image_ids), label, text.segments, targets))
        return encoded

    def is_labeled(self, examples: Dataset) -> bool:
        return any(len(answers) for answers in examples["answers"])

    def best_answers(self, probabilities: np.ndarray) -> list[str]:
        return [self.answers[label] for label in probabilities.argmax(1)]

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return self.official_scores(examples, self.best_answers(probabilities))

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        predictions = self.best_answers(probabilities)
        return PredictionColumns(
            label=[answers[0] if len(answers) else "" for answers in examples["answers"]],
            prediction=predictions,
            score=probabilities.max(1),
            correct=[score >= CORRECT_SCORE for score in soft_scores(examples, predictions)],
        )

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write the official json list, one entry per question, laid out as by LXMERT (src/tasks/vqa_data.py)."""
        rows = zip(examples["identifier"], self.best_answers(probabilities), strict=True)
        entries = [self.submission_entry(identifier, answer) for identifier, answer in rows]
        path = stem.with_suffix(".json")
        path.write_text(json.dumps(entries, indent=4, sort_keys=True), encoding="utf-8")
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        id_key, answer_key = self.submission_entry("0", "")
        entries = [(entry[id_key], entry[answer_key]) for entry in read_entries(path, id_key, answer_key)]
        if invalid := [answer for _, answer in entries if not isinstance(answer, str)]:
            raise SubmissionError(f"{path}: {answer_key} is {ascii(invalid[0])[:60]}, expected text.")
        return self.official_scores(examples, answers_by_example(examples, entries, path))

    def majority_baseline(self, examples: Dataset) -> float:
        return best_answer_share(examples)


def vqa_entry(identifier: str, answer: str) -> dict[str, Any]:
    """Official ids are numbers; those of other corpora in this form may be any text."""
    return {"question_id": int(identifier) if identifier.isdecimal() else identifier, "answer": answer}


def gqa_entry(identifier: str, answer: str) -> dict[str, Any]:
    return {"questionId": identifier, "prediction": answer}


VQA = QuestionTask(
    "vqa",
    Splits("train", "val", "testdev"),
    loss=soft_target_bce,
    official_scores=vqa_scores,
    submission_entry=vqa_entry,
)
VQA_RAD = replace(VQA, name="vqa_rad", splits=Splits("train", "val", "test"))
GENOME_QA = replace(VQA, name="genome_qa", splits=Splits("train", "val", "val"))  # the corpus has no test split
GQA = QuestionTask(
    "gqa",
    Splits("train", "val", "testdev"),
    loss=cross_entropy,
    official_scores=gqa_scores,
    submission_entry=gqa_entry,
)
