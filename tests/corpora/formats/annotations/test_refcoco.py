import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files_official import edit, prepare, refused
from tests.corpora.files_vilbert import write_npz, write_pickle, write_refcoco
from vlx import corpora
from vlx.corpora import Example
from vlx.errors import CorpusError

REFS = "refs(unc).p"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_refcoco(tmp_path / "official")


def change_refs(source: Path, change: Callable[[Any], Any]) -> None:
    refs = pickle.loads((source / REFS).read_bytes())
    write_pickle(source / REFS, change(refs) or refs)


@pytest.mark.parametrize(("name", "by"), [("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")])
def test_official_files_come_out_as_they_went_in(tmp_path: Path, name: str, by: str) -> None:
    corpus = prepare(name, write_refcoco(tmp_path / "official", by))
    assert corpus.splits(name) == ["train", "testA"]
    train, test = (list(corpus.examples(name, split)) for split in ("train", "testA"))
    extra = json.dumps({"ann_id": "10", "size": [100, 50]})
    expected = Example("1", "The dog 0 1.", ["7"], group="40", category="dog", extra=extra)
    assert np.allclose(train[1].pop("boxes"), [[0, 0.1, 0.2, 0.6]]) and train[1] | {"boxes": []} == expected._asdict()
    assert [row["identifier"] for row in train] == ["0", "1", "100"]
    assert np.allclose(test[0]["boxes"], [[0.2, 0.1, 0.4, 0.6]])
    assert corpus.num_regions("9") == 2, "regions named as COCO's file are found by its number"


def test_files_may_lie_in_a_folder_named_as_the_format(source: Path) -> None:
    (source / "refcoco").mkdir()
    for name in (REFS, "instances.json"):
        (source / name).rename(source / "refcoco" / name)
    assert prepare("refcoco", source).splits("refcoco") == ["train", "testA"]


def test_of_two_ways_to_split_the_usual_one_is_read(source: Path) -> None:
    write_pickle(source / "refs(google).p", [])
    assert len(prepare("refcoco", source).examples("refcoco", "train")) == 3
    (source / REFS).unlink()
    with pytest.raises(CorpusError, match=r"refs\(google\).p: refs is \[\]"):
        corpora.prepare("refcoco", source, source.parent / "other")


def test_without_training_images_of_other_tests_the_rest_is_mteval(source: Path) -> None:
    (source / "cache").mkdir()
    np.save(source / "cache" / "coco_test_ids.npy", np.array([7, 9, 12]))
    assert prepare("vilbert-refcoco", source).splits("refcoco") == ["testA", "mteval"]


def test_of_region_files_named_by_data_set_its_own_is_read(source: Path) -> None:
    for name in ("refcoco_x", "refcoco+_x"):
        write_npz(source / name, "7", "9")
        (source / name / "regions").rename(source / f"{name}.lmdb")
    with pytest.raises(CorpusError, match="refcoco_x.lmdb/data.mdb: No such file"):
        prepare("vilbert-refcoco", source)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"[]", pickle.dumps({}), pickle.dumps([]), pickle.dumps([1]), pickle.dumps(print)]
)
def test_refs_of_another_kind_are_named(source: Path, content: bytes) -> None:
    (source / REFS).write_bytes(content)
    refused("refcoco", source, r"refs\(unc\).p: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ref: ref.update(split="dev"), "refs 2: annotation 11 of image 7 in split 'dev', expected one of inst"),
        (lambda ref: ref.update(ann_id=99), "refs 2: annotation 99 of image 7"),
        (lambda ref: ref.update(image_id=9), "refs 2: annotation 11 of image 9"),
        (lambda ref: ref.pop("ref_id"), "refs 2: ref_id is None"),
        (lambda ref: ref.update(sentences=[]), r"refs 2: sentences is \[\]"),
        (lambda ref: ref.update(sentences=["dog"]), "refs 2: sentences 1: found str"),
        (lambda ref: ref["sentences"][0].update(raw=""), "refs 2: sentences 1: raw is ''"),
        (lambda ref: ref["sentences"][0].update(raw="\ud800"), "refs 2: sentences 1: raw is "),
        (lambda ref: ref["sentences"][0].update(sent_id=1), "refs 2: sentences 1: sentence 1 found twice"),
        (lambda ref: ref["sentences"][0].update(sent_id=None), "refs 2: sentences 1: sent_id is None"),
    ],
)
def test_a_wrong_expression_is_named(source: Path, change: Callable[[Any], Any], message: str) -> None:
    change_refs(source, lambda refs: change(refs[1]) and None)
    refused("refcoco", source, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: found["annotations"][0].update(bbox=[]),
            r"annotations 1: box is \[\], expected x y width height",
        ),
        (lambda found: found["annotations"][0].update(bbox=[1, 2, 3]), r"annotations 1: box is \[1, 2, 3\]"),
        (lambda found: found["annotations"][0].update(bbox=[1, 2, -3, 4]), "annotations 1: box is "),
        (lambda found: found["annotations"][0].update(bbox=[1, 2, True, 4]), "annotations 1: box is "),
        (lambda found: found["annotations"][0].update(bbox=[1, 2, 10**400, 4]), "annotations 1: box is "),
        (lambda found: found["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), "annotations 1: box"),
        (
            lambda found: found["annotations"][0].update(bbox=[90, 2, 20, 4]),
            "annotations 1: box .* in an image of 100 x 50",
        ),
        (lambda found: found["annotations"][0].update(image_id=3), "annotations 1: image 3 or category 1 is not in"),
        (lambda found: found["annotations"][0].update(category_id=3), "annotations 1: image 7 or category 3 is not in"),
        (lambda found: found["images"][0].update(width=0), "images 1: width 0 and height 50, expected pixels"),
        (lambda found: found["images"][0].update(height="50"), "images 1: width 100 and height '50'"),
        (lambda found: found["images"][0].update(height=10**400), "images 1: width 100 and height 1000"),
        (lambda found: found["images"][1].update(id=7), "images 2: image 7 found twice"),
        (lambda found: found["annotations"][1].update(id=10), "annotations 2: annotation 10 found twice"),
        (lambda found: found["categories"][0].pop("name"), "categories 1: name is None"),
        (lambda found: found.pop("images"), "instances.json: images is None"),
        (lambda found: found.update(annotations=[]), r"instances.json: annotations is \[\]"),
    ],
)
def test_a_wrong_annotation_is_named(source: Path, change: Callable[[Any], Any], message: str) -> None:
    edit(source / "instances.json", change)
    refused("refcoco", source, message)


def test_missing_files_and_images_are_named(source: Path) -> None:
    (source / "regions" / "7.npz").rename(source / "regions" / "8.npz")
    refused("refcoco", source, "expression 0 names image 7, absent from regions")
    (source / "instances.json").unlink()
    refused("refcoco", source, "found no instances.json")
    refused("refcocog", source, r"found no refs\(umd\).p or refs\(google\).p")


def mutated(refs: list[dict[str, Any]], data: st.DataObject) -> None:
    """Some field of some object or expression becomes another value, or is gone."""
    places = [*refs, *(said for ref in refs for said in ref["sentences"])]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places))
        key = data.draw(st.sampled_from(sorted(place)))
        values = st.none() | st.integers() | st.text(max_size=3) | st.floats() | st.just([]) | st.just({})
        place[key] = data.draw(values)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_wrong_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    source = write_refcoco(tmp_path_factory.mktemp("refcoco") / "official")
    change_refs(source, lambda refs: mutated(refs, data))
    try:
        corpus = prepare("refcoco", source)
    except CorpusError as error:
        assert "\n" not in str(error)
        return
    rows = [row for split in corpus.splits("refcoco") for row in corpus.examples("refcoco", split)]
    assert len(rows) == 4 and len({row["identifier"] for row in rows}) == 4
    assert all(len(row["boxes"]) == 1 and row["text"].strip() and row["image_ids"][0] in ("7", "9") for row in rows)
