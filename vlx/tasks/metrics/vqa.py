"""VQA v2's official accuracy (GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py)."""

import json
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from vlx.corpora.answers import normalize_word, one_line

FULL_AGREEMENT = 3  # annotators that make an answer fully correct


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """0..1: the mean over every left-out annotator of min(1, agreeing annotators / 3).

    Answers are normalized unless all annotators gave exactly the same answer.
    """
    answer = one_line(answer)
    humans = [one_line(human) for human in human_answers]
    if len(set(humans)) > 1:
        answer = normalize_word(answer)
        humans = [normalize_word(human) for human in humans]
    agreeing = sum(human == answer for human in humans)
    left_out = [agreeing - (human == answer) for human in humans]
    return sum(min(1.0, count / FULL_AGREEMENT) for count in left_out) / len(humans)


def vqa_scores(examples: Dataset, predictions: Sequence[str]) -> dict[str, float]:
    """Accuracy, overall and by answer type: official where the ten human answers are in the corpus, else the mean soft
    score of the predictions (LXMERT, src/tasks/vqa_data.py)."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    soft = soft_scores(examples, predictions)
    for answer, extra, score, category in zip(predictions, examples["extra"], soft, examples["category"], strict=True):
        humans = json.loads(extra).get("answers") if extra else None
        value = vqa_accuracy(answer, humans) if humans else score
        values["accuracy"].append(value)
        if category:
            values[f"accuracy_{category.replace('/', '_')}"].append(value)
    return {name: float(np.mean(each)) for name, each in values.items()}


def soft_scores(examples: Dataset, predictions: Sequence[str]) -> list[float]:
    """The soft score, 0..1, of every predicted answer."""
    rows = zip(examples["answers"], examples["scores"], predictions, strict=True)
    return [dict(zip(answers, scores, strict=True)).get(answer, 0.0) for answers, scores, answer in rows]


def best_answer_share(examples: Dataset) -> float:
    """The mean soft score of always giving the answer with the highest total."""
    totals: defaultdict[str, float] = defaultdict(float)
    for answers, scores in zip(examples["answers"], examples["scores"], strict=True):
        for answer, score in zip(answers, scores, strict=True):
            totals[answer] += score
    return max(totals.values(), default=0.0) / max(len(examples), 1)
