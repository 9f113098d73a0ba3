import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files import png, write_lines
from tests.corpora.files_official import edit, prepare, refused, write_json
from tests.corpora.files_vilbert import HEIGHT, WIDTH, boxes_of, features_of, item, write_lmdb, write_npz
from vlx.corpora import Example
from vlx.errors import CorpusError

QUESTIONS = "dataset_v7w_pointing.json"


def write_visual7w(source: Path) -> Path:
    """Two questions about image 1, one about image 2; box 10 + N starts at N, N; box 15 ends beyond the image."""

    def asked(number: int, first: int) -> dict[str, Any]:
        boxes = {"answer": first + 1, "multiple_choices": [first + 3, first, first + 2]}
        return {"qa_id": number, "question": f"Which {number}?", "type": "which"} | boxes

    images = [
        {"image_id": 1, "split": "train", "filename": "v7w_1.jpg", "qa_pairs": [asked(100, 10), asked(101, 12)]},
        {"image_id": 2, "split": "test", "filename": "v7w_2.jpg", "qa_pairs": [asked(102, 10)]},
    ]
    boxes = [
        {
            "box_id": 10 + number,
            "name": "dog",
            "x": number,
            "y": number,
            "width": 100 + 900 * (number == 5),
            "height": 48,
        }
        for number in range(6)
    ]
    write_json(source / QUESTIONS, {"images": images, "boxes": boxes})
    write_lmdb(source / "visual7w_x.lmdb", {"v7w_1": item(3), "v7w_2": item(2)})
    write_lmdb(source / "visual7w_gt_x.lmdb", {"v7w_2": item(4), "v7w_1": item(6)})
    return source


def game(number: int, image: int) -> dict[str, Any]:
    """Two questions about the second of two objects, listed last id first."""
    objects = [{"id": number * 10 + place, "bbox": [place * 10, 0, 10, 20.0], "category": "dog"} for place in (1, 0)]
    qas = [
        {"id": number * 100 + place, "question": f"Is it {place}?", "answer": answer}
        for place, answer in enumerate(("Yes", "N/A"))
    ]
    about = {"id": image, "width": 100, "height": 50}
    return {
        "id": number,
        "image": about,
        "objects": objects,
        "object_id": number * 10 + 1,
        "qas": qas,
        "status": "success",
    }


def write_guesswhat(source: Path) -> Path:
    write_lines(source / "guesswhat.train.jsonl", [game(1, 7), game(2, 7), game(3, 9)])
    write_lines(source / "guesswhat.valid.jsonl", [game(4, 9)])
    write_lmdb(source / "COCO_x.lmdb", {"7": item(3), "9": item(1)})
    write_lmdb(source / "guesswhat_gt_x.lmdb", {"7": item(4), "9": item(2)})
    return source


def vcr(split: str, number: int, **changes: Any) -> dict[str, Any]:
    found = {
        "annot_id": f"{split}-{number}",
        "img_id": f"{split}-{number}",
        "metadata_fn": "movie/image@0.json",
        "objects": ["person", "dog"],
        "question": ["Why", "is", [0], "looking", "at", [0, 1], "?"],
        "answer_choices": [["Because", [1], str(choice)] for choice in range(4)],
        "rationale_choices": [["It", "is", str(choice)] for choice in range(4)],
    }
    labels = {} if split == "test" else {"answer_label": 2, "rationale_label": 3}
    return found | labels | changes


def write_vcr(source: Path) -> Path:
    for split in ("train", "val", "test"):
        write_lines(source / f"{split}.jsonl", [vcr(split, 5)])
    metadata = {
        "width": 100,
        "height": 50,
        "names": ["person", "dog"],
        "boxes": [[0, 0, 50, 50, 0.9], [10, 5, 30, 25.0, 1]],
    }
    write_json(source / "vcr1images" / "movie" / "image@0.json", metadata)
    (source / "vcr1images" / "movie" / "image@0.jpg").write_bytes(png((100, 50)))
    write_npz(source, "5", "1000005", "2000005")
    return source


def test_visual7w_gives_the_boxes_to_choose_from(tmp_path: Path) -> None:
    corpus = prepare("vilbert-visual7w", write_visual7w(tmp_path / "official"))
    assert corpus.splits("visual7w") == ["train", "test"]
    extra = json.dumps({"box_ids": [12, 13, 14, 15], "size": [WIDTH, HEIGHT]})
    row = corpus.examples("visual7w", "train")[1]
    boxes = np.array(row.pop("boxes"))
    assert row | {"boxes": []} == Example("101", "Which 101?", ["v7w_1"], label=1, extra=extra)._asdict()
    pixels = [[2, 2, 102, 50], [3, 3, 103, 51], [4, 4, 104, 52], [5, 5, WIDTH, 53]]
    assert np.allclose(boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT], pixels), "in the order of ids; cut off at the edge"
    assert corpus.num_regions("v7w_1") == 3 + 6 and np.allclose(
        corpus.regions("v7w_2")[0][2:], features_of(4), atol=1e-3
    )


def test_without_regions_of_annotated_boxes_the_detectors_are_all(tmp_path: Path) -> None:
    source = write_visual7w(tmp_path / "official")
    (source / "visual7w_gt_x.lmdb").rename(source / "kept")
    assert prepare("vilbert-visual7w", source).num_regions("v7w_1") == 3


def test_two_files_of_annotated_boxes_are_one_too_many(tmp_path: Path) -> None:
    source = write_visual7w(tmp_path / "official")
    write_lmdb(source / "other_gt_x.lmdb", {"v7w_1": item(1)})
    refused("vilbert-visual7w", source, "found other_gt_x.lmdb and visual7w_gt_x.lmdb, expected one file")


def test_an_image_without_annotated_boxes_is_named(tmp_path: Path) -> None:
    source = write_visual7w(tmp_path / "official")
    for name in ("data.mdb", "lock.mdb"):
        (source / "visual7w_gt_x.lmdb" / name).unlink()
    write_lmdb(source / "visual7w_gt_x.lmdb", {"v7w_2": item(4)})
    refused("vilbert-visual7w", source, "visual7w_gt_x.lmdb: no item v7w_1, which .*visual7w_x.lmdb: item v7w_1 has")


@pytest.mark.parametrize("name", ["vilbert-visual7w", "vilbert-guesswhat", "vilbert-guesswhat-pointing"])
def test_training_examples_about_images_of_other_tests_are_apart(tmp_path: Path, name: str) -> None:
    write, task = (write_visual7w, "visual7w") if "7w" in name else (write_guesswhat, name[8:].replace("-", "_"))
    source = write(tmp_path / "official")
    (source / "cache").mkdir()
    np.save(source / "cache" / f"{'genome' if '7w' in name else 'coco'}_test_ids.npy", np.array([9, 2]))
    corpus = prepare(name, source)
    found = {split: corpus.examples(task, split).num_rows for split in corpus.splits(task)}
    expected = {"visual7w": {"train": 2, "test": 1}, "guesswhat": {"train": 4, "valid": 2, "mteval": 2}}
    assert found == expected.get(task, {"train": 2, "valid": 1, "mteval": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda qa: qa.update(answer=99), r"multiple_choices \[13, 10, 12\], answer 99, expected 4 boxes of the file"),
        (lambda qa: qa.update(answer=10), ".*answer 10, expected 4 boxes"),
        (lambda qa: qa.update(answer=None), ".*answer None, expected 4 boxes"),
        (lambda qa: qa.update(multiple_choices=[]), r"multiple_choices \[\]"),
        (lambda qa: qa.update(multiple_choices=["a", [], {}]), "multiple_choices .'a', "),
        (lambda qa: qa.update(multiple_choices=None), "multiple_choices None"),
        (lambda qa: qa.pop("qa_id"), "qa_id is None"),
        (lambda qa: qa.update(question=" "), "question is ' '"),
    ],
)
def test_a_wrong_question_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    source = write_visual7w(tmp_path / "official")
    edit(source / QUESTIONS, lambda content: change(content["images"][0]["qa_pairs"][0]))
    refused("vilbert-visual7w", source, f"{QUESTIONS}: images 1: qa_pairs 1: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["images"][0].update(split="dev"),
            "images 1: split is 'dev', expected train or val or test",
        ),
        (lambda content: content["images"][0].update(qa_pairs=[]), r"images 1: qa_pairs is \[\]"),
        (
            lambda content: content["images"][0].update(image_id=3),
            "images 1 names image v7w_3, absent from visual7w_x.lmdb",
        ),
        (lambda content: content["boxes"][0].update(width=-1), "images 1: qa_pairs 1: box is "),
        (lambda content: content["boxes"][0].pop("x"), r"images 1: qa_pairs 1: box is \[None"),
        (lambda content: content.update(boxes=[]), r"boxes is \[\]"),
        (lambda content: content.update(images={}), "images is {}"),
    ],
)
def test_a_wrong_record_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    source = write_visual7w(tmp_path / "official")
    edit(source / QUESTIONS, change)
    refused("vilbert-visual7w", source, message)


def test_a_size_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    source = write_visual7w(tmp_path / "official")
    for name in ("visual7w_x.lmdb", "visual7w_gt_x.lmdb"):
        (source / name).rename(tmp_path / name[:-5])
    (source / "regions").mkdir()
    for name in ("v7w_1", "v7w_2"):
        np.savez(source / "regions" / f"{name}.npz", features=features_of(1), boxes=boxes_of(1) / 640)
    with pytest.raises(CorpusError, match="the size of image v7w_1 is not known. Add images"):
        prepare("vilbert-visual7w", source)


def test_guesswhat_asks_about_the_object_to_find(tmp_path: Path) -> None:
    corpus = prepare("vilbert-guesswhat", write_guesswhat(tmp_path / "official"))
    rows = list(corpus.examples("guesswhat", "train"))
    assert [(row["identifier"], row["label"], row["group"]) for row in rows[:3]] == [
        ("100", 0, "1"),
        ("101", 2, "1"),
        ("200", 0, "2"),
    ]
    assert rows[0]["text"] == "Is it 0?" and np.allclose(rows[0]["boxes"], [[0.1, 0, 0.2, 0.4]])
    assert corpus.num_regions("7") == 3, "the whole image is asked about"


def test_guesswhat_points_at_one_of_the_objects(tmp_path: Path) -> None:
    corpus = prepare("vilbert-guesswhat-pointing", write_guesswhat(tmp_path / "official"))
    row = corpus.examples("guesswhat_pointing", "valid")[0]
    assert (row["identifier"], row["image_ids"], row["label"]) == ("4", ["9"], 1)
    assert row["text"] == "start Is it 0? answer Yes stop start Is it 1? answer N/A stop"
    assert np.allclose(row["boxes"], [[0, 0, 0.1, 0.4], [0.1, 0, 0.2, 0.4]]), "in the order of ids"
    assert json.loads(row["extra"]) == {"object_ids": [40, 41], "size": [100, 50], "status": "success"}
    assert corpus.num_regions("7") == 3 + 4


def test_a_game_given_up_at_once_has_no_text(tmp_path: Path) -> None:
    source = write_guesswhat(tmp_path / "official")
    edit(source / "guesswhat.valid.jsonl", lambda rows: rows[0].update(qas=[]))
    assert prepare("vilbert-guesswhat-pointing", source).examples("guesswhat_pointing", "valid")["text"][0] == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda game: game["qas"][0].update(answer="Maybe"), "qas 1: answer is 'Maybe', expected Yes or No or N/A"),
        (lambda game: game["qas"][0].update(id=200), "qas 1: question 200 found twice"),
        (lambda game: game["qas"][0].pop("question"), "qas 1: question is None"),
        (lambda game: game.update(qas=None), "qas is None"),
        (lambda game: game.update(image=3), "image is 3, expected an object"),
        (lambda game: game["image"].update(width=0), "width 0 and height 50"),
        (lambda game: game["image"].update(id=5), "train 300 names image 5"),
        (lambda game: game.update(objects=[]), r"objects is \[\]"),
        (lambda game: game["objects"][0].update(bbox=[90, 0, 20, 20]), "objects 1: box .* of 100 x 50"),
        (lambda game: game["objects"][0].update(id=30), "objects 2: object 30 found twice"),
        (lambda game: game["objects"][0].update(id="x"), "objects 1: id is 'x', expected a number"),
        (lambda game: game.update(object_id=99), "object_id 99 is none of its 2 objects"),
        (lambda game: game.pop("object_id"), "object_id is 'None'"),
    ],
)
def test_a_wrong_game_is_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    source = write_guesswhat(tmp_path / "official")
    edit(source / "guesswhat.train.jsonl", lambda rows: change(rows[2]))
    refused("vilbert-guesswhat", source, message)


def test_vcr_asks_for_an_answer(tmp_path: Path) -> None:
    corpus = prepare("vilbert-vcr-q2a", write_vcr(tmp_path / "official"))
    assert corpus.splits("vcr_q2a") == ["train", "val", "test"]
    row = corpus.examples("vcr_q2a", "val")[0]
    assert row["text"] == "Why is [person1] looking at [person1, dog2] ?" and row["label"] == 2
    assert row["choices"][3] == "Because [dog2] 3" and row["image_ids"] == ["1000005"]
    assert np.allclose(row["boxes"], [[0, 0, 0.5, 1], [0.1, 0.1, 0.3, 0.5]])
    extra = json.loads(row["extra"])
    assert extra["question"] == vcr("val", 5)["question"] and extra["objects"] == ["person", "dog"]
    assert corpus.examples("vcr_q2a", "test")["label"][0] == -1 and corpus.image("1000005") is None


def test_vcr_asks_for_a_reason_of_the_right_answer_or_of_each(tmp_path: Path) -> None:
    corpus = prepare("vilbert-vcr-qa2r", write_vcr(tmp_path / "official"))
    (row,) = corpus.examples("vcr_qa2r", "train")
    assert (row["identifier"], row["group"], row["label"], row["choices"][1]) == ("train-5", "train-5", 3, "It is 1")
    assert row["text"].endswith("? Because [dog2] 2") and json.loads(row["extra"])["answer"] == 2
    hidden = list(corpus.examples("vcr_qa2r", "test"))
    assert [row["identifier"] for row in hidden] == [f"test-5#{answer}" for answer in range(4)]
    assert {(row["group"], row["label"]) for row in hidden} == {("test-5", -1)}
    assert hidden[1]["text"].endswith("Because [dog2] 1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": ["Is", [2]]}, r"question: \[2\] is no word and no list of 0..1"),
        ({"question": ["Is", [-1]]}, r"question: \[-1\] is no word"),
        ({"question": ["Is", []]}, r"question: \[\] is no word"),
        ({"question": []}, "question: text is ''"),
        ({"question": "Why?"}, "question: None is no word"),
        ({"question": ["\ud800"]}, "question: text is "),
        ({"answer_choices": [["a"]] * 3}, "answer_choices is .*expected 4 texts"),
        ({"rationale_choices": [["a"], ["b"], ["c"], [[9]]]}, r"rationale_choices: \[9\] is no word"),
        ({"answer_label": 4}, "answer_label is 4, expected 0..3"),
        ({"rationale_label": "1"}, "rationale_label is '1'"),
        ({"objects": ["person"]}, "objects are not those of movie/image@0.json"),
        ({"img_id": "dev-5"}, "img_id is 'dev-5', expected train-7"),
        ({"img_id": "val-6"}, "train train-6 names image 1000006, absent from regions"),
        ({"metadata_fn": "../secret.json"}, "metadata_fn is '../secret.json', expected a file of vcr1images"),
        ({"metadata_fn": "/etc/passwd"}, "metadata_fn is '/etc/passwd'"),
        ({"metadata_fn": "other.json"}, "vcr1images: found no other.json"),
        ({"annot_id": "train-5"}, "annot_id train-5 found twice"),
    ],
)
def test_a_wrong_line_of_vcr_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    source = write_vcr(tmp_path / "official")
    write_lines(source / "train.jsonl", [vcr("train", 5), vcr("train", 6, img_id="train-5") | changes])
    refused("vilbert-vcr-q2a", source, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["boxes"].pop(), "boxes and names are not lists of one length"),
        (lambda found: found.update(names=[3, 4]), "some of names are not text"),
        (lambda found: found["boxes"][0].pop(), r"box is \[0, 0, 50, 50\], expected x1 y1 x2 y2 and confidence"),
        (lambda found: found["boxes"][0].__setitem__(2, 500), "in an image of 100 x 50"),
        (lambda found: found["boxes"][1].__setitem__(2, 5), "box is "),
        (lambda found: found.pop("width"), "width None and height 50"),
    ],
)
def test_wrong_metadata_are_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    source = write_vcr(tmp_path / "official")
    edit(source / "vcr1images" / "movie" / "image@0.json", change)
    refused("vilbert-vcr-q2a", source, f"image@0.json: .*{message}")


def test_missing_files_are_named(tmp_path: Path) -> None:
    source = write_vcr(tmp_path / "official")
    (source / "vcr1images").rename(source / "kept")
    refused("vilbert-vcr-q2a", source, "found no vcr1images")
    for path in source.glob("*.jsonl"):
        path.unlink()
    refused("vilbert-vcr-q2a", source, "found none of train.jsonl, val.jsonl, test.jsonl")


def mutated(content: Any, data: st.DataObject) -> None:
    """Somewhere in it a value becomes another one, or is gone."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = content
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        place[key] = data.draw(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([])
        )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(["vilbert-visual7w", "vilbert-guesswhat-pointing", "vilbert-vcr-qa2r"]))
def test_whatever_is_wrong_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    source = tmp_path_factory.mktemp("boxes") / "official"
    files = {
        "vilbert-visual7w": (write_visual7w, [QUESTIONS]),
        "vilbert-guesswhat-pointing": (write_guesswhat, ["guesswhat.train.jsonl"]),
        "vilbert-vcr-qa2r": (write_vcr, ["val.jsonl", "vcr1images/movie/image@0.json"]),
    }
    write, names = files[name]
    edit(write(source) / data.draw(st.sampled_from(names)), lambda content: mutated(content, data))
    try:
        corpus = prepare(name, source)
    except CorpusError as error:
        assert "\n" not in str(error)
        return
    task = name.removeprefix("vilbert-").replace("-", "_")
    for row in (row for split in corpus.splits(task) for row in corpus.examples(task, split)):
        boxes = np.array(row["boxes"])
        assert boxes.shape[1] == 4 and ((boxes >= 0) & (boxes <= 1)).all() and corpus.num_regions(row["image_ids"][0])
        assert -1 <= row["label"] < len(row["choices"] or boxes)
