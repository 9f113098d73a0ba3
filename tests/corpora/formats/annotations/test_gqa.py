import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.corpora.files_official import NO_JSON, edit, gqa_question, prepare, refused, row_of, write_gqa, write_json
from vlx.errors import CorpusError

TRAIN, GRAPHS = "train_balanced_questions.json", "train_sceneGraphs.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gqa(tmp_path / "official")


def test_official_files_come_out_as_they_went_in(source: Path) -> None:
    """Boxes in 100 x 50: (0, 10) 50 x 40 of object 77; (90, 0) 20 x 10, cut at the edge, of object 78."""
    corpus = prepare("gqa", source)
    assert corpus.splits("gqa") == ["train", "val", "testdev", "test"]
    row = row_of(corpus, "gqa", "train", "00401")
    assert (row["text"], row["image_ids"], row["category"]) == ("What is on 2375429?", ["2375429"], "query")
    assert (row["answers"], row["scores"]) == (["red"], [1.0])
    assert np.allclose(row["boxes"], [[0, 0.2, 0.5, 1], [0.9, 0, 1, 0.2]])
    said = gqa_question("2375429", "red", entailed=["00402"])
    kept = ("types", "semantic", "entailed", "equivalent", "groups", "isBalanced", "fullAnswer")
    assert json.loads(row["extra"]) == {key: said[key] for key in kept}
    assert row_of(corpus, "gqa", "val", "00500")["boxes"] == []


def test_a_test_split_needs_no_answers(source: Path) -> None:
    row = row_of(prepare("gqa", source), "gqa", "test", "3000")
    assert (row["answers"], row["scores"], row["category"], row["extra"]) == ([], [], "", "")


def test_what_is_valid_and_plausible_is_kept_for_the_official_metrics(source: Path) -> None:
    path, said = source / "val_choices.json", {"valid": ["red", "blue"], "plausible": ["red"]}
    write_json(path, {"00500": said, "unasked": {}})
    extra = json.loads(row_of(prepare("gqa", source), "gqa", "val", "00500")["extra"])
    assert said.items() <= extra.items() and "types" in extra
    (source.parent / "corpus").rename(source.parent / "first")
    write_json(path, {"00500": said | {"plausible": "red"}})
    with pytest.raises(CorpusError, match="val_choices.json: question 00500: plausible is 'red', expected answers"):
        prepare("gqa", source)
    write_json(path, {"00501": said})
    with pytest.raises(CorpusError, match="val_choices.json: question 00500"):
        prepare("gqa", source)


def test_the_vocabulary_is_of_train_and_val_in_the_order_of_the_files(source: Path) -> None:
    assert prepare("gqa", source).answers("gqa") == ["red", "no"]


def test_all_questions_are_read_where_there_are_no_balanced_ones(source: Path) -> None:
    for number in (0, 1):
        path = source / "train_all_questions" / f"train_all_questions_{number}.json"
        write_json(path, {f"0{number}": gqa_question("9", str(number), annotations={})})
    write_json(source / "val_all_questions.json", {"5": gqa_question("9", "x"), "6": gqa_question("9", "x")})
    assert prepare("gqa", source).manifest["examples"]["gqa"] == {"train": 2, "val": 1, "testdev": 1, "test": 1}
    (source / TRAIN).unlink(), (source / "val_balanced_questions.json").unlink()
    (source.parent / "corpus").rename(source.parent / "balanced")
    corpus = prepare("gqa", source)
    assert list(corpus.examples("gqa", "train")["identifier"]) == ["00", "01"] and corpus.answers("gqa")[:2] == [
        "0",
        "1",
    ]
    assert corpus.examples("gqa", "val").num_rows == 2
    write_json(path, {"00": gqa_question("9", "1", annotations={})})
    (source.parent / "corpus").rename(source.parent / "all")
    with pytest.raises(CorpusError, match="train_all_questions_1.json: question 00: question 00 found twice"):
        prepare("gqa", source)


def test_unusual_text_is_kept(source: Path) -> None:
    sentence = "שלום 🐕? " + "very " * 5_000
    edit(source / TRAIN, lambda file: file["00402"].update(question=sentence))
    (source / TRAIN).write_bytes(b"\xef\xbb\xbf" + (source / TRAIN).read_bytes())
    assert row_of(prepare("gqa", source), "gqa", "train", "00402")["text"] == sentence


@pytest.mark.parametrize(("content", "message"), NO_JSON)
@pytest.mark.parametrize("name", [TRAIN, GRAPHS])
def test_a_file_that_is_not_the_official_json_is_named(source: Path, name: str, content: bytes, message: str) -> None:
    (source / name).write_bytes(content)
    refused("gqa", source, message.format(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.pop("answer"), "answer is None, expected text"),
        (lambda one: one.update(question=""), "question is ''"),
        (lambda one: one.update(question="\udfff"), "question is "),
        (lambda one: one.pop("imageId"), "imageId is None"),
        (lambda one: one.update(types=[]), r"types is \[\], expected dict"),
        (lambda one: one.update(types={"semantic": "attr"}), "structural is None"),
        (lambda one: one.update(entailed=[402]), r"entailed is \[402\], expected list"),
        (lambda one: one.update(annotations=[]), r"annotations: found \[\], expected a JSON object"),
        (lambda one: one.update(annotations={"question": 3}), "annotations: found 3, expected a JSON object"),
        (
            lambda one: one["annotations"]["question"].update({"1": "99"}),
            "object '99' is not in its image's scene graph",
        ),
    ],
)
def test_a_wrong_question_is_named(source: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(source / TRAIN, lambda file: change(file["00402"]))
    refused("gqa", source, f"{TRAIN}: question 00402: {message}")


def test_an_image_that_is_not_there_is_named(source: Path) -> None:
    edit(source / "testdev_balanced_questions.json", lambda file: file["2011"].update(imageId="n5"))
    refused("gqa", source, "question 2011 names image n5, absent from images .1 of 4 images are")


def test_a_question_that_is_no_object_is_named(source: Path) -> None:
    edit(source / TRAIN, lambda file: file.update({"00402": "red"}))
    refused("gqa", source, f"{TRAIN}: question 00402: found 'red', expected a JSON object")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: graph.update(width=0), "image 2375429: width, height are .0, 50., expected pixels"),
        (lambda graph: graph.update(height="50"), "image 2375429: width, height are "),
        (lambda graph: graph.pop("objects"), "image 2375429: objects: found None, expected a JSON object"),
        (lambda graph: graph["objects"].update({"77": []}), r"object 77: found \[\]"),
        (lambda graph: graph["objects"]["77"].pop("w"), "object 77: x, y, w, h are .0, 10, None, 40., expected pixels"),
        (lambda graph: graph["objects"]["77"].update(h=-1), "object 77: x, y, w, h are .0, 10, 50, -1."),
        (lambda graph: graph["objects"]["77"].update(x=float("nan")), "object 77: x, y, w, h are .nan, 10"),
        (lambda graph: graph["objects"]["77"].update(x=10**30), "object 77: x, y, w, h are .10000"),
    ],
)
def test_a_wrong_scene_graph_is_named(source: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(source / GRAPHS, lambda graphs: change(graphs["2375429"]))
    refused("gqa", source, message)


def test_missing_files_are_named(source: Path) -> None:
    for path in source.glob("*_questions.json"):
        path.unlink()
    refused("gqa", source, "found none of train_balanced_questions.json, val_balanced_questions.json, ")
