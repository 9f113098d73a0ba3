"""VQA v2, questions of one's own in its form (VQA-RAD), and GQA: answers from a vocabulary."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.errors import SubmissionError
from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss, cross_entropy, soft_target_bce
from vlx.tasks.base import Encoded, Splits, Tags, encode_texts, entries_of, in_order
from vlx.tasks.vqa_metric import accuracy_of
from vlx.tokenization import WordPiece

COMMON = ("color", "material", "shape")
Scores = Callable[[Dataset, Sequence[str]], dict[str, float]]


@dataclass(frozen=True)
class QuestionTask:
    """A question about a picture. answers: the vocabulary, by label; official(examples, predicted answers): scores;
    entry(question id, answer): a line of the submission file."""

    name: str
    answers: tuple[str, ...]
    splits: Splits
    loss: TaskLoss
    official: Scores
    entry: Callable[[str, str], dict[str, Any]]
    metric: str = "accuracy"

    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers))

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """Targets of the answers in the vocabulary; the label is the best of them, -1 without any."""
        index = {answer: label for label, answer in enumerate(self.answers)}
        texts = encode_texts(examples, tokenizer, limit=limit, tags=tags)
        rows = zip(texts, examples["image_ids"], examples["answers"], examples["scores"], strict=True)
        found = []
        for (ids, segments), images, answers, scores in rows:
            targets = {index[answer]: score for answer, score in zip(answers, scores, strict=True) if answer in index}
            label = max(targets, key=lambda key: targets[key]) if targets else -1
            found.append(Encoded(ids, tuple(images), label, segments, targets))
        return found

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.sigmoid() if self.loss is soft_target_bce else logits.softmax(-1)

    def labelled(self, examples: Dataset) -> bool:
        return any(len(answers) for answers in examples["answers"])

    def chosen(self, probabilities: np.ndarray) -> list[str]:
        return [self.answers[label] for label in probabilities.argmax(1)]

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        return self.official(examples, self.chosen(probabilities))

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        chosen = self.chosen(probabilities)
        best = [list(answers[:1]) or [""] for answers in examples["answers"]]
        credit = [
            dict(zip(answers, scores, strict=True)).get(answer, 0.0)
            for answers, scores, answer in zip(examples["answers"], examples["scores"], chosen, strict=True)
        ]
        return {
            "identifier": examples["identifier"],
            "text": examples["text"],
            "category": examples["category"],
            "image_ids": examples["image_ids"],
            "label": [answers[0] for answers in best],
            "prediction": chosen,
            "score": probabilities.max(1).round(4).tolist(),
            "right": [value >= 0.5 for value in credit],
        }

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """The official json list, one entry a question, laid out as LXMERT's."""
        rows = zip(examples["identifier"], self.chosen(probabilities), strict=True)
        path = stem.with_suffix(".json")
        entries = [self.entry(number, answer) for number, answer in rows]
        path.write_text(json.dumps(entries, indent=4, sort_keys=True), encoding="utf-8")
        return path

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        number, answer = self.entry("0", "")
        given = [(one[number], one[answer]) for one in entries_of(path, number, answer)]
        if wrong := [said for _, said in given if not isinstance(said, str)]:
            raise SubmissionError(f"{path}: {answer} is {ascii(wrong[0])[:60]}, expected text.")
        return self.official(examples, in_order(examples, given, path))

    def chance_level(self, examples: Dataset) -> float:
        """The score of always giving the answer that is right most often."""
        credit: defaultdict[str, float] = defaultdict(float)
        for answers, scores in zip(examples["answers"], examples["scores"], strict=True):
            for answer, score in zip(answers, scores, strict=True):
                credit[answer] += score
        return max(credit.values(), default=0.0) / max(len(examples), 1)


def vqa_scores(examples: Dataset, predicted: Sequence[str]) -> dict[str, float]:
    """Official accuracy, overall and by answer type, where the ten human answers are known; else the mean soft score
    of the answers given (LXMERT's and Oscar's own evaluation)."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    columns = (examples[name] for name in ("extra", "answers", "scores", "category"))
    for answer, extra, answers, scores, category in zip(predicted, *columns, strict=True):
        humans = json.loads(extra).get("answers") if extra else None
        credit = dict(zip(answers, scores, strict=True)).get(answer, 0.0)
        value = accuracy_of(answer, humans) if humans else credit
        for name in ("accuracy", *([f"accuracy_{category.replace('/', '_')}"] if category else [])):
            values[name].append(value)
    return {name: float(np.mean(found)) for name, found in values.items()}


def gqa_scores(examples: Dataset, predicted: Sequence[str]) -> dict[str, float]:
    """As the official script, over the balanced questions, 0..1: accuracy, overall, of binary and open questions and by
    structural type; consistency, where right answers entail others; validity and plausibility, where the source tells
    what is; distribution, a hundredth of the chi-square of the answers within a group (0 is best)."""
    columns = (examples[name] for name in ("identifier", "answers", "category", "extra"))
    rows = list(zip(*columns, predicted, strict=True))
    right = {number: answer in answers for number, answers, _, _, answer in rows}
    known = {number: json.loads(extra) if extra else {} for number, _, _, extra, _ in rows}
    values: defaultdict[str, list[float]] = defaultdict(list)
    gold, given = (defaultdict[str, Counter[str]](Counter) for _ in range(2))
    for number, answers, category, _, answer in rows:
        about = known[number]
        if not about.get("isBalanced", True):
            continue
        kinds = ("open" if category == "query" else "binary", category) if category else ()
        for name in ("accuracy", *(f"accuracy_{kind}" for kind in kinds)):
            values[name].append(right[number])
        for name, among in (("validity", "valid"), ("plausibility", "plausible")):
            if among in about:
                values[name].append(answer in (COMMON if asks_in_common(about) else about[among]))
        implied = [one for one in about.get("entailed") or () if one in right and one != number]
        if right[number] and implied:
            values["consistency"].append(float(np.mean([right[one] for one in implied])))
        if group := (about.get("groups") or {}).get("global"):
            gold[group].update(answers)
            given[group].update([answer])
    scores = {name: float(np.mean(found)) for name, found in values.items()}
    return scores | ({"distribution": chi_square(gold, given) / 100} if gold else {})


def asks_in_common(about: Mapping[str, Any]) -> bool:
    """What objects share: whatever the file says, a colour, a material or a shape is an answer."""
    return "Common" in str(about.get("types", {}).get("detailed"))


def chi_square(gold: Mapping[str, Counter[str]], given: Mapping[str, Counter[str]]) -> float:
    """Of every group (given - gold)^2 / gold summed over its right answers; the mean, weighed by the groups' sizes."""
    found = {
        group: sum((given[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in gold.items()
    }
    total = sum(counts.total() for counts in gold.values())
    return sum(found[group] * counts.total() for group, counts in gold.items()) / total


VQA_SPLITS = Splits("train", "val", "testdev")


def vqa(answers: Sequence[str], *, name: str = "vqa", splits: Splits = VQA_SPLITS) -> QuestionTask:
    entry = lambda number, answer: {"question_id": as_number(number), "answer": answer}  # noqa: E731
    return QuestionTask(name, tuple(answers), splits, soft_target_bce, vqa_scores, entry)


def gqa(answers: Sequence[str]) -> QuestionTask:
    entry = lambda number, answer: {"questionId": number, "prediction": answer}  # noqa: E731
    return QuestionTask("gqa", tuple(answers), Splits("train", "val", "testdev"), cross_entropy, gqa_scores, entry)


def as_number(identifier: str) -> int | str:
    """Official VQA ids are numbers; one's own may be any text."""
    return int(identifier) if identifier.isdecimal() else identifier
