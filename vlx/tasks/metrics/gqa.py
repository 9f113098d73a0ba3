"""GQA's official scores over the balanced questions, as the eval.py of the data set's authors computes them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

COMMON_ATTRIBUTES = ("color", "material", "shape")  # valid answers to what objects have in common, in any scene
Counts = Mapping[str, Counter[str]]  # group -> answer -> count


class Question(NamedTuple):
    """A question with the predicted answer. kind: the structural type; facts: what the official file says of it."""

    identifier: str
    answers: Sequence[str]
    kind: str
    facts: Mapping[str, Any]
    prediction: str

    @property
    def correct(self) -> bool:
        return self.prediction in self.answers


def gqa_scores(examples: Dataset, predictions: Sequence[str]) -> dict[str, float]:
    """0..1: accuracy, overall, of binary and open questions and by structural type; consistency, where correct answers
    entail others; validity and plausibility, where the file lists such answers; distribution, a hundredth of the
    chi-square of the answers within a group (0 is best)."""
    questions = read_questions(examples, predictions)
    by_identifier = {question.identifier: question for question in questions}
    balanced = [question for question in questions if question.facts.get("isBalanced", True)]
    values: defaultdict[str, list[float]] = defaultdict(list)
    for question in balanced:
        for name, value in question_scores(question, by_identifier):
            values[name].append(value)
    scores = {name: float(np.mean(each)) for name, each in values.items()}
    return scores | distribution(balanced)


def read_questions(examples: Dataset, predictions: Sequence[str]) -> list[Question]:
    columns = (examples[name] for name in ("identifier", "answers", "category", "extra"))
    return [
        Question(identifier, answers, kind, json.loads(extra) if extra else {}, prediction)
        for identifier, answers, kind, extra, prediction in zip(*columns, predictions, strict=True)
    ]


def question_scores(question: Question, questions: Mapping[str, Question]) -> Iterator[tuple[str, float]]:
    """The name and value of every score that the question counts in."""
    yield "accuracy", question.correct
    if question.kind:
        yield f"accuracy_{'open' if question.kind == 'query' else 'binary'}", question.correct
        yield f"accuracy_{question.kind}", question.correct
    for name, key in (("validity", "valid"), ("plausibility", "plausible")):
        if key in question.facts:
            allowed = COMMON_ATTRIBUTES if asks_in_common(question) else question.facts[key]
            yield name, question.prediction in allowed
    entailed = [
        questions[identifier].correct
        for identifier in question.facts.get("entailed") or ()
        if identifier in questions and identifier != question.identifier
    ]
    if question.correct and entailed:
        yield "consistency", float(np.mean(entailed))


def asks_in_common(question: Question) -> bool:
    """Whether it asks what objects have in common; the file lists no valid answers of such a question."""
    return "Common" in str(question.facts.get("types", {}).get("detailed"))


def distribution(questions: Sequence[Question]) -> dict[str, float]:
    """The `distribution` score; none where no question has a group."""
    gold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    predicted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        if group := (question.facts.get("groups") or {}).get("global"):
            gold[group].update(question.answers)
            predicted[group].update([question.prediction])
    return {"distribution": chi_square(gold, predicted) / 100} if gold else {}


def chi_square(gold: Counts, predicted: Counts) -> float:
    """Mean over the groups, weighted by size, of the sum over gold answers of (predicted - gold)^2 / gold."""
    distances = {
        group: sum((predicted[group][answer] - count) ** 2 / count for answer, count in counts.items())
        for group, counts in gold.items()
    }
    total = sum(counts.total() for counts in gold.values())
    return sum(distances[group] * counts.total() for group, counts in gold.items()) / total
