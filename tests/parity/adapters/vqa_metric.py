"""vqa_metric/cases.json: the official answer normalisation and accuracy."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from vlx.corpora.answers import WORDS, normalize_word, one_line, strip_punctuation
from vlx.tasks.vqa_metric import accuracy_of


def check(case: Path) -> None:
    golden = json.loads(case.read_text(encoding="utf-8"))
    tables = case.parent / "tables.json"
    assert not tables.is_file() or json.loads(tables.read_text(encoding="utf-8")) == WORDS
    for one in golden["normalisation"]:
        assert normalize_word(one["input"]) == one["output"], one
    for one in golden["normalisation_stages"]:
        assert strip_punctuation(one_line(one["input"])) == one["after_punctuation"], one
    values = defaultdict(list)
    for one in golden["questions"]:
        value = accuracy_of(one["prediction"], one["answers"])
        assert round(100 * value, 2) == one["accuracy_percent"], one
        for name in ("overall", f"perQuestionType {one['question_type']}", f"perAnswerType {one['answer_type']}"):
            values[name].append(value)
    summary = golden["summary"]
    expected = {"overall": summary["overall"]} | {
        f"{kind} {name}": value
        for kind in ("perQuestionType", "perAnswerType")
        for name, value in summary[kind].items()
    }
    assert {name: round(100 * float(np.mean(found)), 2) for name, found in values.items()} == pytest.approx(expected)
