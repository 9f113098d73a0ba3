import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.corpora.files import FEATURES, names_of, nlvr2_rows, png, regions, write_lines, write_nlvr2, write_tar
from vlx import corpora
from vlx.corpora import Example
from vlx.errors import CorpusError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    folder.mkdir()
    return write_nlvr2(folder)


def prepare(source: Path) -> corpora.Corpus:
    return corpora.prepare("nlvr2", source, source.parent / "corpus")


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the second line of a json lines file."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[1])
    write_lines(path, rows)


def change_features(source: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    features = torch.load(source / FEATURES, weights_only=True)
    change(features)
    torch.save(features, source / FEATURES)


def refused(source: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(source)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in source.parent.iterdir()) == ["official"]


def test_official_files_come_out_as_they_went_in(source: Path) -> None:
    corpus = prepare(source)
    assert corpus.splits("nlvr2") == ["train", "dev", "test1"] and corpus.detector == "external"
    images = ["dev-0-1-img0", "dev-0-1-img1"]
    expected = Example("dev-0-1-0", "There is a dog in set 0.", images, label=0, group="dev-0--0", category="dog")
    assert corpus.examples("nlvr2", "dev")[1] == expected._asdict()
    features, boxes = corpus.regions("dev-0-0-img1")
    rows = regions(3)
    assert np.array_equal(features, rows[:, :-6].half()) and np.array_equal(boxes, rows[:, -6:-2])
    assert corpus.image("dev-0-0-img1") is None


def test_the_four_pairs_of_a_sentence_are_a_group(source: Path) -> None:
    groups = prepare(source).examples("nlvr2", "train")["group"]
    assert list(groups) == ["train-0--0", "train-0--0", "train-1--0", "train-1--0"]


def test_files_saved_by_old_torch_are_read(source: Path) -> None:
    features = torch.load(source / FEATURES, weights_only=True)
    torch.save(features, source / FEATURES, _use_new_zipfile_serialization=False)
    assert prepare(source).num_regions("dev-0-0-img1") == 3


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_images_are_kept_as_they_are(source: Path, kind: str) -> None:
    names = [name for split in ("train", "dev", "test1") for name in names_of(nlvr2_rows(split))]
    pictures = {f"images/{name}.png": png((20 + index, 10)) for index, name in enumerate(names)}
    write_tar(source / "images.tar", pictures)
    if kind == "folder":
        (source / "images.tar").unlink()
        (source / "images").mkdir()
        for name, data in pictures.items():
            (source / name).write_bytes(data)
    picture = prepare(source).image(names[3])
    assert picture is not None and picture.size == (23, 10)


def test_the_manifest_names_every_source_with_size_and_checksum(source: Path) -> None:
    corpus = prepare(source)
    noted = {entry["name"]: entry for entry in corpus.manifest["source"]}
    assert set(noted) == {FEATURES, "train.json", "dev.json", "test1.json"}
    assert noted["dev.json"]["bytes"] == (source / "dev.json").stat().st_size
    assert re.fullmatch("[0-9a-f]{64}", noted["dev.json"]["sha256"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(label="maybe"), r"dev.json:2: label is 'maybe', expected true or false"),
        (lambda row: row.pop("label"), "dev.json:2: label is None"),
        (lambda row: row.update(identifier="dev-0-0-0"), "dev.json:2: identifier dev-0-0-0 found twice"),
        (lambda row: row.update(identifier="dev-0-0"), "dev.json:2: identifier is 'dev-0-0', expected <split>-<set>"),
        (lambda row: row.update(identifier="../../etc-0-0-0"), "dev.json:2: identifier "),
        (lambda row: row.update(identifier="dev-٣-0-0"), "dev.json:2: identifier "),
        (
            lambda row: row.update(identifier="dev-7-0-0"),
            "statement dev-7-0-0 names image dev-7-0-img0, absent from nlvr2_img_frcnn_feats.pt .2 of 24",
        ),
        (lambda row: row.update(sentence=""), "dev.json:2: sentence is ''"),
        (lambda row: row.update(sentence=3), "dev.json:2: sentence is 3"),
        (lambda row: row.update(sentence="\ud800"), "dev.json:2: sentence is "),
    ],
)
def test_a_wrong_line_is_named(source: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(source / "dev.json", change)
    refused(source, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "dev.json: found no lines"),
        (b'{"identifier": "dev-0', "dev.json:1: not JSON"),
        (b"[1]\n", "dev.json:1: found list, expected one JSON object"),
        (b"\xff\xfe\x00", "dev.json:1: not JSON"),
        (b"[" * 100_000, "dev.json:1: not JSON"),
    ],
)
def test_a_file_that_is_not_json_lines_is_named(source: Path, content: bytes, message: str) -> None:
    (source / "dev.json").write_bytes(content)
    refused(source, message)


def test_unusual_but_right_text_is_kept(source: Path) -> None:
    sentence = "שלום 🐕 " + "very " * 5_000 + "long\u2028dog\n"
    edit(source / "dev.json", lambda row: row.update(sentence=sentence))
    (source / "dev.json").write_bytes(b"\xef\xbb\xbf" + (source / "dev.json").read_bytes().replace(b"\n", b"\r\n"))
    assert prepare(source).examples("nlvr2", "dev")[1]["text"] == sentence


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(0, 11), r"dev-0-0-img0: features \[0, 5\]"),
        (torch.zeros(2, 6), r"dev-0-0-img0: found \[2, 6\], expected floats \[R,D\+6\]"),
        (torch.zeros(11), r"dev-0-0-img0: found \[11\]"),
        (torch.zeros(2, 11, dtype=torch.int64), "dev-0-0-img0: found"),
        (regions(2, dim=9), r"dev-0-0-img0: features \[2, 9\].*expected \[R,5\]"),
        (regions(2) * torch.nan, "dev-0-0-img0: its last six columns"),
        (torch.cat([torch.full((2, 5), torch.inf), regions(2)[:, -6:]], 1), "dev-0-0-img0: a feature is NaN"),
        (torch.cat([regions(2)[:, :5], regions(2)[:, -6:] * 640], 1), "dev-0-0-img0: its last six columns"),
        (regions(2)[:, [0, 1, 2, 3, 4, 7, 6, 5, 8, 9, 10]], "dev-0-0-img0: a box is not x1 <= x2"),
        ("text", "dev-0-0-img0: found str"),
    ],
)
def test_wrong_features_are_named_with_their_image(source: Path, rows: Any, message: str) -> None:
    change_features(source, lambda features: features.update({"dev-0-0-img0": rows}))
    refused(source, message)


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("modern", [True, False])
def test_code_in_a_feature_file_does_not_run(source: Path, modern: bool) -> None:
    torch.save({"dev-0-0-img0": Attack()}, source / FEATURES, _use_new_zipfile_serialization=modern)
    refused(source, "holds more than tensors; it was not run")
    assert not Path("hacked").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "list"])
def test_a_damaged_feature_file_is_named(source: Path, damage: str) -> None:
    data = (source / FEATURES).read_bytes()
    damaged = {"cut": data[: len(data) // 2], "empty": b"", "text": b"hello" * 99}
    if damage == "list":
        torch.save([1], source / FEATURES)
    else:
        (source / FEATURES).write_bytes(damaged[damage])
    refused(source, FEATURES)


def test_missing_files_are_named(source: Path, tmp_path: Path) -> None:
    (source / FEATURES).rename(source / "kept.pt")
    refused(source, "no region files and no images")
    (source / "kept.pt").rename(source / FEATURES)
    for split in ("train", "dev", "test1"):
        (source / f"{split}.json").unlink()
    refused(source, "found none of train.json, dev.json, test1.json")
    with pytest.raises(CorpusError, match="no such folder"):
        corpora.prepare("nlvr2", tmp_path / "nowhere", tmp_path / "corpus")
    with pytest.raises(CorpusError, match="format vqa9: expected some of nlvr2, nlvr"):
        corpora.prepare("vqa9", source, tmp_path / "corpus")


@pytest.mark.parametrize("damage", ["missing", "cut image", "cut tar", "gz", "text", "twice"])
def test_damaged_images_are_named(source: Path, damage: str) -> None:
    names = [name for split in ("train", "dev", "test1") for name in names_of(nlvr2_rows(split))]
    pictures = {
        f"images/{name}.png": png((90, 90), lambda pen: pen.ellipse((9, 9, 70, 70), fill="red")) for name in names
    }
    first = f"images/{names[0]}.png"
    if damage == "missing":
        del pictures[first]
    elif damage == "cut image":
        pictures[first] = pictures[first][:100]
    elif damage == "text":
        pictures[first] = b"hello"
    elif damage == "twice":
        pictures[f"other/{names[0]}.png"] = pictures[first]
    write_tar(source / "images.tar", pictures)
    if damage == "cut tar":
        os.truncate(source / "images.tar", 700)
    elif damage == "gz":
        (source / "images.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    refused(source, names[0] if "tar" not in damage and damage != "gz" else "images.tar: not a whole uncompressed tar")


def test_killed_while_preparing_it_can_be_done_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(source)
    monkeypatch.undo()
    assert sorted(path.name for path in source.parent.iterdir()) == ["official"]
    assert prepare(source).splits("nlvr2")


def test_a_full_disk_is_one_line(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused(source, "corpus: No space left on device")
