import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.corpora.files import nlvr_rows, png, three_boxes, write_lines, write_nlvr, write_tar
from vlx import corpora
from vlx.corpora.formats.images import ImageFiles
from vlx.corpora.regions import detect
from vlx.errors import CorpusError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_nlvr(tmp_path / "official")


def prepare(source: Path) -> corpora.Corpus:
    return corpora.prepare("nlvr", source, source.parent / "corpus")


def refused(source: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(source)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in source.parent.iterdir()) == ["official"]


def test_an_image_becomes_three_images_with_the_regions_seen_in_them(source: Path) -> None:
    corpus = prepare(source)
    row = corpus.examples("nlvr", "dev")[3]
    assert row["image_ids"] == [f"dev-1-1-0-box{box}" for box in range(3)]
    assert (row["identifier"], row["group"], row["label"], row["category"]) == ("1-1", "1", 0, "")
    square, circle, nothing = (corpus.regions(image)[1] for image in row["image_ids"])
    assert np.allclose(square, [[0.1, 0.2, 0.3, 0.4]]) and np.allclose(circle, [[0.5, 0.5, 0.8, 0.8]])
    assert np.array_equal(nothing, [[0, 0, 1, 1]]) and corpus.detector == "components-v1"
    picture = corpus.image(row["image_ids"][1])
    assert picture is not None and picture.size == (100, 100) and picture.getpixel((65, 65)) == (255, 255, 0)


def test_val_is_whole_directories_of_train_always_the_same(source: Path) -> None:
    corpus = prepare(source)
    assert corpus.splits("nlvr") == ["train", "val", "dev"]
    train, val = (set(corpus.examples("nlvr", split)["group"]) for split in ("train", "val"))
    assert len(val) == 1 and len(train) == 9 and not train & val  # a group is a directory here
    assert corpora.prepare("nlvr", source, source.parent / "again").fingerprint == corpus.fingerprint


def test_structured_rep_and_evals_change_nothing(source: Path) -> None:
    before = prepare(source).fingerprint
    path = source / "train" / "train.json"
    rows = [
        json.loads(line) | {"structured_rep": [[{"type": "lie"}]], "evals": {}}
        for line in path.read_text().splitlines()
    ]
    write_lines(path, rows)
    assert corpora.prepare("nlvr", source, source.parent / "again").fingerprint == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(label="2"), "dev.json:2: label is '2', expected true or false"),
        (lambda row: row.update(identifier="0-0"), "dev.json:2: identifier 0-0 found twice"),
        (
            lambda row: row.update(identifier="../0-0"),
            "dev.json:2: identifier is '../0-0', expected <sentence>-<image>",
        ),
        (
            lambda row: row.update(identifier="0-7"),
            r"statement 0-7: image dev-0-7-0 is not in .*images.tar \(4 images\)",
        ),
        (lambda row: row.pop("directory"), "dev.json:2: directory is None, expected text"),
    ],
)
def test_a_wrong_line_is_named(source: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    rows = nlvr_rows(2)
    change(rows[1])
    write_lines(source / "dev" / "dev.json", rows)
    refused(source, message)


def test_a_cut_line_is_named(source: Path) -> None:
    path = source / "train" / "train.json"
    os.truncate(path, path.stat().st_size - 20)
    refused(source, "train.json:20: not JSON .*is it cut")


@pytest.mark.parametrize("name", ["train/train.json", "dev/dev.json", "dev/images.tar", "train/images"])
def test_missing_files_are_named(source: Path, name: str) -> None:
    (source / name).rename(source / "elsewhere")
    refused(source, f"{name.split('/')[0]}: found no .*{name.split('/')[1]}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (three_boxes()[:200], "train-3-1-0 cannot be decoded"),
        (b"", "train-3-1-0 cannot be decoded"),
        (png((100, 400)), r"train-3-1-0 is \(100, 400\), expected \(400, 100\)"),
    ],
)
def test_a_damaged_image_is_named(source: Path, data: bytes, message: str) -> None:
    (source / "train" / "images" / "3" / "train-3-1-0.png").write_bytes(data)
    refused(source, message)


def test_a_cut_tar_is_named(source: Path) -> None:
    os.truncate(source / "dev" / "images.tar", 1_300)
    refused(source, "images.tar: not a whole uncompressed tar")


def test_one_directory_cannot_be_split(tmp_path: Path) -> None:
    refused(write_nlvr(tmp_path / "official", groups=1), "all statements are of one directory")


def first_rows(path: Path, count: int) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in itertools.islice(lines, count)]


def test_real_images_have_the_shapes_that_were_drawn(data_dir: Path, tmp_path: Path) -> None:
    """Object counts of structured_rep, used here only as the truth to compare with."""
    pictures = ImageFiles(data_dir / "nlvr" / "dev" / "images.tar")
    for row in first_rows(data_dir / "nlvr" / "dev" / "dev.json", 60):
        _, picture = pictures.read(f"dev-{row['identifier']}-0", "test")
        for box, shapes in enumerate(row["structured_rep"]):
            features, boxes = detect(picture.crop((150 * box, 0, 150 * box + 100, 100)))
            assert len(features) == max(1, len(shapes)), row["identifier"]
            for shape in shapes:
                corner = np.array([shape["x_loc"], shape["y_loc"]])
                assert np.abs(boxes[:, :2] * 100 - corner).max(1).min() <= 3, row["identifier"]


def test_a_slice_of_the_real_corpus_is_prepared(data_dir: Path, tmp_path: Path) -> None:
    for split, count in (("train", 30), ("dev", 10)):
        rows = first_rows(data_dir / "nlvr" / split / f"{split}.json", count)
        pictures = ImageFiles(data_dir / "nlvr" / split / "images.tar")
        names = [f"{split}-{row['identifier']}-0" for row in rows]
        write_lines(tmp_path / "official" / split / f"{split}.json", rows)
        write_tar(
            tmp_path / "official" / split / "images.tar",
            {f"images/{name}.png": pictures.read(name, "")[0] for name in names},
        )
    corpus = prepare(tmp_path / "official")
    sizes = {split: corpus.examples("nlvr", split).num_rows for split in corpus.splits("nlvr")}
    assert sizes["train"] + sizes["val"] == 30 and sizes["val"] >= 3 and sizes["dev"] == 10
