"""VCR: which of four answers is right, and which of four reasons (specs: ViLBERT and VLE)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.errors import SubmissionError
from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy
from vlx.tasks.base import Encoded, Splits, Tags, in_order
from vlx.tasks.metrics import accuracy
from vlx.tokenization import WordPiece


@dataclass(frozen=True)
class ChoiceTask:
    """A text and several to go with it, of which one is right. `probabilities` are of the choices."""

    name: str
    splits: Splits = Splits("train", "val", "test")
    answers: tuple[str, ...] = ()
    head: Head = Head("choose", 1)
    loss: TaskLoss = cross_entropy
    metric: str = "accuracy"

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """Each choice is [CLS] text [SEP] choice [SEP]; objects are named by their words, without tags."""
        rows = list(zip(*(examples[name] for name in ("text", "choices", "image_ids", "label")), strict=True))
        flat = [(text, choice) for text, choices, _, _ in rows for choice in choices]
        pairs = iter(tokenizer.encode_pairs([text for text, _ in flat], [choice for _, choice in flat], limit=limit))
        found = []
        for _, choices, images, label in rows:
            texts, segments = zip(*(next(pairs) for _ in choices), strict=True)
            found.append(Encoded(texts, tuple(images), label, segments))
        return found

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.softmax(-1)

    def labelled(self, examples: Dataset) -> bool:
        return min(examples["label"]) >= 0

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return {"accuracy": accuracy(examples["label"], probabilities.argmax(1).tolist())}

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        chosen, labels = probabilities.argmax(1), np.asarray(examples["label"])
        texts = list(zip(examples["choices"], chosen, labels, strict=True))
        return {
            "identifier": examples["identifier"],
            "text": examples["text"],
            "category": examples["category"],
            "image_ids": examples["image_ids"],
            "label": [choices[label] for choices, _, label in texts],
            "prediction": [choices[place] for choices, place, _ in texts],
            "score": probabilities.max(1).round(4).tolist(),
            "right": (chosen == labels).tolist(),
        }

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """A csv line an example with the probability of each choice, as VCR's leaderboard takes them."""
        path = stem.with_suffix(".csv")
        heads = ["annot_id", *(f"{self.name}_{index}" for index in range(probabilities.shape[1]))]
        rows = zip(examples["identifier"], probabilities.tolist(), strict=True)
        lines = [",".join(heads), *(",".join([number, *map(repr, scores)]) for number, scores in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        try:
            given = [(number, [float(score) for score in scores]) for number, *scores in rows]
        except ValueError as error:
            raise SubmissionError(f"{path}: {error}; expected the probabilities of the choices.") from None
        return self.score(examples, np.array(in_order(examples, given, path)))

    def chance_level(self, examples: Dataset) -> float:
        return float(np.mean([1 / len(choices) for choices in examples["choices"]]))


VCR = (ChoiceTask("vcr_q2a"), ChoiceTask("vcr_qa2r"))
