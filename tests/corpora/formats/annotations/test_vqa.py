import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files_official import NO_JSON, edit, prepare, refused, row_of, vqa_annotation, write_vqa
from vlx.corpora import Example

TRAIN, ANSWERS = "v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_vqa(tmp_path / "official")


def test_official_files_come_out_as_they_went_in(source: Path) -> None:
    """val: dog by three of ten = 0.9, yes by one = 0.3; "a dog" of four is no answer of the vocabulary as it stands."""
    corpus = prepare("vqa", source)
    assert corpus.splits("vqa") == ["train", "val", "test", "testdev"]
    humans = ["dog"] * 3 + ["a dog"] * 4 + ["yes"] + ["cat"] * 2
    extra = json.dumps({"answers": humans, "question_type": "is it"})
    expected = Example(
        "42001", "Is it number 42001?", ["42"], ["dog", "yes"], pytest.approx([0.9, 0.3]), category="other", extra=extra
    )
    assert corpus.examples("vqa", "val")[1] == expected._asdict()
    assert corpus.examples("vqa", "test")[0] == Example("1000", "What is it?", ["1"])._asdict()
    assert corpus.image_ids() == ["9", "42", "1"] and corpus.image_size("42") == (10, 10)


def test_the_vocabulary_is_what_was_answered_nine_times_in_normal_form(source: Path) -> None:
    assert prepare("vqa", source).answers("vqa") == ["yes", "dog"]


def test_eight_times_are_too_few(source: Path) -> None:
    edit(source / ANSWERS, lambda file: [one.update(multiple_choice_answer="no") for one in file["annotations"][:2]])
    assert prepare("vqa", source).answers("vqa") == ["dog"]


def test_a_question_without_an_answer_in_the_vocabulary_stays(source: Path) -> None:
    edit(source / ANSWERS, lambda file: file["annotations"].__setitem__(0, vqa_annotation(9000, 9, "yes", ["x"] * 10)))
    row = row_of(prepare("vqa", source), "vqa", "train", "9000")
    assert row["answers"] == [] and json.loads(row["extra"])["answers"] == ["x"] * 10


def test_the_test_split_alone_is_a_corpus_without_a_vocabulary(source: Path) -> None:
    for path in [*source.glob("*train2014*.json"), *source.glob("*val2014*.json")]:
        path.unlink()
    corpus = prepare("vqa", source)
    assert corpus.splits("vqa") == ["test", "testdev"] and corpus.answers("vqa") == []


def test_ids_may_be_text_and_text_anything(source: Path) -> None:
    sentence = "שלום 🐕? " + "very " * 5_000
    edit(source / TRAIN, lambda file: file["questions"][0].update(question_id="9000", question=sentence))
    (source / TRAIN).write_bytes(b"\xef\xbb\xbf" + (source / TRAIN).read_bytes())
    assert row_of(prepare("vqa", source), "vqa", "train", "9000")["text"] == sentence


@pytest.mark.parametrize(("content", "message"), NO_JSON)
@pytest.mark.parametrize("name", [TRAIN, ANSWERS])
def test_a_file_that_is_not_the_official_json_is_named(source: Path, name: str, content: bytes, message: str) -> None:
    (source / name).write_bytes(content)
    refused("vqa", source, message.format(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.clear(), r"train2014_questions.json: questions is \[\], expected a list of objects"),
        (lambda rows: rows.append(5), "questions.json: questions 11: found int"),
        (lambda rows: rows[1].update(question_id=9000), "questions 2: question_id 9000 found twice"),
        (lambda rows: rows[1].update(question_id=True), "questions 2: question_id is True, expected a whole number"),
        (lambda rows: rows[1].pop("question_id"), "questions 2: question_id is None"),
        (lambda rows: rows[1].update(question_id=7), "questions 2: question 7 of image 9 is absent in the annotations"),
        (lambda rows: rows[1].update(image_id=5), "question 9001 of image 5 is of image 9 in the annotations"),
        (lambda rows: rows[1].pop("image_id"), "questions 2: image_id is None"),
        (lambda rows: rows[1].update(question=" "), "questions 2: question is ' ', expected text"),
        (lambda rows: rows[1].update(question="\ud800"), "questions 2: question is "),
        (lambda rows: rows.pop(), "questions.json: question 9009 of the annotations is absent"),
    ],
)
def test_a_wrong_question_is_named(source: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    edit(source / TRAIN, lambda file: change(file["questions"]))
    refused("vqa", source, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].update(question_id=9000), "annotations 2: question_id 9000 found twice"),
        (lambda rows: rows[1].update(answers=[]), r"annotations 2: answers is \[\], expected a list"),
        (lambda rows: rows[1]["answers"].pop(), "annotations 2: 9 answers, expected those of 10 people"),
        (lambda rows: rows[1]["answers"][3].pop("answer"), "annotations 2: answers 4: answer is None"),
        (lambda rows: rows[1].pop("multiple_choice_answer"), "annotations 2: multiple_choice_answer is None"),
        (lambda rows: rows[1].update(answer_type=3), "annotations 2: answer_type is 3"),
    ],
)
def test_a_wrong_annotation_is_named(source: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    edit(source / ANSWERS, lambda file: change(file["annotations"]))
    refused("vqa", source, f"{ANSWERS}: {message}")


def test_answers_too_rare_for_a_vocabulary_are_refused(source: Path) -> None:
    for path in [*source.glob("*val2014*.json")]:
        path.unlink()
    edit(source / ANSWERS, lambda file: [one.update(multiple_choice_answer="no") for one in file["annotations"][:5]])
    refused("vqa", source, "train2014_annotations.json: no answer is given to 9 questions")


def test_missing_files_and_images_are_named(source: Path) -> None:
    (source / "test2015" / "COCO_test2015_000000000001.png").rename(source / "COCO_test2015_000000000002.png")
    refused("vqa", source, "question 1000 names image 1, absent from .* .1 of 3 images")
    (source / ANSWERS).unlink()
    refused("vqa", source, f"found no {ANSWERS}")
    for path in source.glob("v2_OpenEnded*"):
        path.unlink()
    refused("vqa", source, f"found none of {TRAIN}, ")


def test_two_images_of_one_number_are_not_guessed_between(source: Path) -> None:
    """42 is COCO's, and another image of Visual Genome's."""
    (source / "images").mkdir()
    (source / "images" / "42.png").write_bytes(next((source / "val2014").iterdir()).read_bytes())
    refused("vqa", source, "two images are named")
