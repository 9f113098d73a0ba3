import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.corpora.files_official import (
    NO_JSON,
    edit,
    prepare,
    refused,
    row_of,
    write_json,
    write_pictures,
    write_vqa_rad,
)
from vlx import corpora, tasks
from vlx.corpora import Example

NAME = "VQA_RAD Dataset Public.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_vqa_rad(tmp_path / "official")


def images_of(corpus: corpora.Corpus, split: str) -> set[str]:
    return {image for images in corpus.examples("vqa_rad", split)["image_ids"] for image in images}


def split_of(corpus: corpora.Corpus, image: str) -> str:
    return next(split for split in corpus.splits("vqa_rad") if image in images_of(corpus, split))


def test_official_files_come_out_as_they_went_in(source: Path) -> None:
    corpus = prepare("vqa-rad", source)
    extra = json.dumps({"question_type": "POS", "phrase_type": "freeform", "image_organ": "HEAD"})
    expected = Example("15", "Which?", ["synpic7"], ["7"], [1.0], category="open", extra=extra)  # "the 7" as VQA has it
    assert row_of(corpus, "vqa_rad", split_of(corpus, "synpic7"), "15") == expected._asdict()
    closed = row_of(corpus, "vqa_rad", split_of(corpus, "synpic7"), "14")
    assert (closed["answers"], closed["category"]) == (["yes"], "closed")
    assert corpus.image_size("synpic7") == (17, 10)


def test_without_official_test_rows_images_are_held_out(source: Path) -> None:
    corpus = prepare("vqa-rad", source)
    assert corpus.manifest["examples"] == {"vqa_rad": {"train": 32, "val": 4, "test": 4}}
    splits = [images_of(corpus, split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 20
    edit(source / NAME, lambda rows: rows.reverse())
    (source.parent / "corpus").rename(source.parent / "first")
    again = prepare("vqa-rad", source)
    assert [images_of(again, split) for split in ("train", "val", "test")] == splits, "the order of the file decides"


def test_official_test_rows_are_the_test_split_and_need_no_answer(source: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[3].update(phrase_type="test_freeform")
        rows[4].update(phrase_type="test_para")
        del rows[4]["answer"]

    edit(source / NAME, change)
    corpus = prepare("vqa-rad", source)
    assert corpus.manifest["examples"] == {"vqa_rad": {"train": 34, "val": 4, "test": 2}}
    assert list(corpus.examples("vqa_rad", "test")["answers"]) == [["1"], []]


def test_the_vocabulary_is_every_answer_of_train(source: Path) -> None:
    corpus = prepare("vqa-rad", source)
    rows = corpus.examples("vqa_rad", "train")
    assert corpus.answers("vqa_rad")[0] == "yes"
    assert sorted(corpus.answers("vqa_rad")) == sorted({answer for row in rows["answers"] for answer in row})
    assert len(corpus.answers("vqa_rad")) == 17


def test_the_task_has_the_splits_and_scores_by_answer_type(source: Path) -> None:
    corpus = prepare("vqa-rad", source)
    task = tasks.load("vqa_rad", corpus.answers("vqa_rad"))
    assert [*task.splits] == corpus.splits("vqa_rad")
    right = corpus.examples("vqa_rad", "train")
    says = [[float(answer in row["answers"]) for answer in corpus.answers("vqa_rad")] for row in right]
    assert task.score(right, np.array(says)) == {"accuracy": 1.0, "accuracy_closed": 1.0, "accuracy_open": 1.0}


def test_own_questions_need_no_more_than_four_fields(tmp_path: Path) -> None:
    rows = [{"qid": n, "image_name": f"{n}.png", "question": "Wie viele? 🐕 שלום", "answer": n} for n in range(4)]
    write_json(tmp_path / "own" / "questions.json", rows)
    write_pictures(tmp_path / "own" / "images", *(f"{n}.png" for n in range(4)))
    corpus = prepare("vqa-rad", tmp_path / "own")
    expected = Example("2", "Wie viele? 🐕 שלום", ["2"], ["2"], [1.0])
    assert row_of(corpus, "vqa_rad", split_of(corpus, "2"), "2") == expected._asdict()


@pytest.mark.parametrize(
    ("given", "expected"), [("A", "a"), ("  The ", "the"), ("Yes.", "yes"), (3, "3"), (5.6, "5.6"), ("two", "2")]
)
def test_answers_are_in_normal_form_unless_nothing_is_left(source: Path, given: Any, expected: str) -> None:
    edit(source / NAME, lambda rows: rows[0].update(answer=given))
    corpus = prepare("vqa-rad", source)
    assert row_of(corpus, "vqa_rad", split_of(corpus, "synpic0"), "0")["answers"] == [expected]


@pytest.mark.parametrize(("content", "message"), NO_JSON)
def test_a_file_that_is_not_the_official_json_is_named(source: Path, content: bytes, message: str) -> None:
    (source / NAME).write_bytes(content)
    refused("vqa-rad", source, message.format(NAME))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.__setitem__(1, "x"), ": record 2: found str"),
        (lambda rows: rows[1].update(qid=0), ": record 2: qid 0 found twice"),
        (lambda rows: rows[1].pop("qid"), ": record 2: qid is None"),
        (lambda rows: rows[1].pop("answer"), ": record 2: answer is None, expected text"),
        (lambda rows: rows[1].update(answer=["yes"]), r": record 2: answer is \['yes'\]"),
        (lambda rows: rows[1].update(question=""), ": record 2: question is ''"),
        (lambda rows: rows[1].update(image_name=None), ": record 2: image_name is None"),
        (
            lambda rows: rows[1].update(image_name="other.jpg"),
            "question 1 names image other, absent from VQA_RAD Image",
        ),
        (lambda rows: rows[1].update(answer_type=3), ": record 2: answer_type is 3"),
        (lambda rows: rows[1].update(phrase_type=[]), r": record 2: phrase_type is \[\]"),
        (lambda rows: [row.update(image_name="synpic1.jpg") for row in rows], ": 1 images, expected 3 or more"),
    ],
)
def test_a_wrong_record_is_named(source: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    edit(source / NAME, change)
    refused("vqa-rad", source, message)


def test_missing_files_are_named(source: Path) -> None:
    (source / NAME).unlink()
    refused("vqa-rad", source, "found no VQA_RAD Dataset Public.json or questions.json")
