"""vqa_metric/cases.json: the official answer normalisation and accuracy."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from vlx.corpora.answers import WORDS, normalize_word, one_line, strip_punctuation
from vlx.tasks.metrics.vqa import vqa_accuracy


def check(case: Path) -> None:
    golden = json.loads(case.read_text(encoding="utf-8"))
    tables = case.parent / "tables.json"
    if tables.is_file():
        assert json.loads(tables.read_text(encoding="utf-8")) == WORDS
    for row in golden["normalisation"]:
        assert normalize_word(row["input"]) == row["output"], row
    for row in golden["normalisation_stages"]:
        assert strip_punctuation(one_line(row["input"])) == row["after_punctuation"], row
    values = defaultdict(list)
    for question in golden["questions"]:
        value = vqa_accuracy(question["prediction"], question["answers"])
        assert round(100 * value, 2) == question["accuracy_percent"], question
        values["overall"].append(value)
        values[f"perQuestionType {question['question_type']}"].append(value)
        values[f"perAnswerType {question['answer_type']}"].append(value)
    summary = golden["summary"]
    expected = {"overall": summary["overall"]} | {
        f"{kind} {name}": value
        for kind in ("perQuestionType", "perAnswerType")
        for name, value in summary[kind].items()
    }
    assert {name: round(100 * float(np.mean(each)), 2) for name, each in values.items()} == pytest.approx(expected)
