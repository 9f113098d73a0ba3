"""lxmert/data_mini: the original's evaluators and dump files, byte for byte."""

import json
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from tests.parity.adapters.lxmert_formats import copy_without_absent
from vlx import corpora, tasks
from vlx.corpora import Corpus


def check(case: Path) -> None:
    expected = json.loads((case / "expected.json").read_text())
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = scratch / "data"
        copy_without_absent(case / "data", data)
        for name in ("vqa", "gqa"):
            corpus = corpora.prepare(f"lxmert-{name}", data, scratch / name)
            check_answers(corpus, name, expected[f"{name}_eval"], case, scratch)
        corpus = corpora.prepare("lxmert-nlvr2", data, scratch / "nlvr2")
        check_statements(corpus, expected["nlvr2_eval"], case, scratch)
        corpus = corpora.prepare("lxmert-pretrain", data, scratch / "pretrain")
        check_pretraining(corpus, expected["pretrain_eval"])


def examples_of(corpus: Corpus, name: str, identifiers: set[str]) -> Dataset:
    """The examples of these identifiers, whatever their split, in the order of the files."""
    rows = concatenate_datasets([corpus.examples(name, split) for split in corpus.splits(name)])
    indices = [index for index, identifier in enumerate(rows["identifier"]) if identifier in identifiers]
    assert len(indices) == len(identifiers)
    return rows.select(indices)


def check_answers(corpus: Corpus, name: str, evaluations: Any, case: Path, scratch: Path) -> None:
    task = tasks.load(name, corpus.answers(name))
    dumped = json.loads((case / f"{name}_predict.json").read_text())
    id_key, answer_key = task.submission_entry("0", "")
    dump = {str(entry[id_key]): entry[answer_key] for entry in dumped}
    for predictions, score in evaluations:
        examples = examples_of(corpus, name, set(predictions))
        chosen = [predictions[identifier] for identifier in examples["identifier"]]
        assert task.official_scores(examples, chosen)["accuracy"] == pytest.approx(score)
        if predictions == dump:
            writer = tasks.load(name, list(dict.fromkeys(chosen)))  # answers outside the vocabulary are written too
            probabilities = np.eye(len(writer.answers))[[writer.answers.index(answer) for answer in chosen]]
            path = writer.write_submission(examples, probabilities, scratch / name)
            assert path.read_bytes() == (case / f"{name}_predict.json").read_bytes()
            dump = {}
    assert not dump, "the dump's predictions were never evaluated"


def check_statements(corpus: Corpus, evaluation: Any, case: Path, scratch: Path) -> None:
    task = tasks.load("nlvr2")
    dump = [line.split(",") for line in (case / "nlvr2_predict.csv").read_text().split()]
    examples = examples_of(corpus, "nlvr2", {identifier for identifier, _ in dump})
    answers = dict(dump)
    probabilities = np.eye(2)[[int(answers[identifier] == "True") for identifier in examples["identifier"]]]
    scores = task.score(examples, probabilities)
    official = evaluation["official"]
    assert scores == pytest.approx({"accuracy": official["precision"], "consistency": official["consistency"]})
    assert scores["accuracy"] == pytest.approx(evaluation["accuracy"])
    path = task.write_submission(examples, probabilities, scratch / "nlvr2_predict")
    assert path.read_bytes() == (case / "nlvr2_predict.csv").read_bytes()
    assert task.score_submission(examples, path) == scores


def check_pretraining(corpus: Corpus, evaluation: Any) -> None:
    """The mean soft score of the answers given, overall and by the sentences' source."""
    examples = examples_of(corpus, "pretrain", set(evaluation["predictions"]))
    task = tasks.load("vqa", corpus.answers("pretrain"))
    chosen = [evaluation["predictions"][identifier] for identifier in examples["identifier"]]
    assert task.official_scores(examples, chosen)["accuracy"] == pytest.approx(evaluation["accuracy"])
    by_source: defaultdict[str, list[int]] = defaultdict(list)
    for index, source in enumerate(examples["category"]):
        by_source[source].append(index)
    for source, score in evaluation["per_dset"].items():
        rows = by_source[source]
        assert task.official_scores(examples.select(rows), [chosen[row] for row in rows])["accuracy"] == pytest.approx(
            score
        )
