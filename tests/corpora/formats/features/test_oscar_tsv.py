import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.corpora.files import regions
from tests.corpora.files_oscar import CAPTIONS, SIDES, row_of, write_nlvr2, write_tsv
from vlx import corpora
from vlx.corpora.formats.features import oscar_tsv
from vlx.errors import CorpusError

IMAGES = {"42": regions(2), "7": regions(3), "n5": regions(1)}
SEEN = {"42": ["dog", "traffic light"], "7": ["man"], "n5": ["cat"]}
TSV, VINVL = "train_img_frcnn_feats.tsv", "features.tsv"


def write_vinvl(folder: Path, images: dict[str, Tensor] = IMAGES, seen: dict[str, list[str]] = SEEN) -> Path:
    starts = write_tsv(folder / VINVL, images)
    (folder / "features.lineidx").write_text("".join(f"{start}\n" for start in starts))
    objects = {name: {"objects": [{"class": one, "rect": [0, 0, 1, 1]} for one in seen[name]]} for name in seen}
    lines = "".join(f"{name}\t{json.dumps(found)}\n" for name, found in objects.items())
    (folder / "predictions.tsv").write_text(lines)
    return folder / VINVL


def write_oscar(folder: Path, images: dict[str, Tensor] = IMAGES, end: bytes = b"\n") -> Path:
    starts = dict(zip(images, write_tsv(folder / TSV, images, end), strict=True))
    (folder / "train_img_frcnn_feats_offset_map.json").write_text(json.dumps(starts))
    return folder / TSV


def refused(path: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        list(oscar_tsv.regions(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [write_oscar, write_vinvl])
@pytest.mark.parametrize("alone", [True, False])
def test_rows_are_read_in_their_order(tmp_path: Path, write: Callable[[Path], Path], alone: bool) -> None:
    path = write(tmp_path)
    for other in tmp_path.iterdir() if alone else ():
        if other != path:
            other.unlink()
    found = list(oscar_tsv.regions(path))
    assert [row.image_id for row in found] == list(IMAGES)
    for row, rows in zip(found, IMAGES.values(), strict=True):
        assert np.array_equal(row.features, rows[:, :5]) and np.array_equal(row.boxes, rows[:, 5:9])
    tags = SEEN if write is write_vinvl and not alone else dict.fromkeys(IMAGES, ())
    assert [row.tags for row in found] == [tuple(one) for one in tags.values()]


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    assert len(list(oscar_tsv.regions(write_oscar(tmp_path, end=b"\r\n")))) == 3


def test_a_corpus_of_rows_is_one_of_saved_tensors(tmp_path: Path) -> None:
    tensors = torch.load(write_nlvr2(tmp_path / "pt") / "nlvr2_img_frcnn_feats.pt", weights_only=True)
    write_nlvr2(tmp_path / "tsv")
    (tmp_path / "tsv/nlvr2_img_frcnn_feats.pt").unlink()
    write_tsv(tmp_path / "tsv/nlvr2_img_frcnn_feats.tsv", tensors)
    one, other = (
        corpora.prepare("oscar-nlvr2", tmp_path / kind, tmp_path / f"{kind}-corpus") for kind in ("pt", "tsv")
    )
    assert one.fingerprint == other.fingerprint and one.num_regions(SIDES["right"]) == 3


def test_tags_of_vinvl_are_those_of_the_images(tmp_path: Path) -> None:
    torch.save(CAPTIONS, tmp_path / "minival_captions.pt")
    write_vinvl(tmp_path, {"21": regions(2), "5": regions(1)}, {"21": ["dog", "traffic light"], "5": ["man"]})
    corpus = corpora.prepare("oscar-retrieval", tmp_path, tmp_path / "corpus")
    assert (corpus.tags("21"), corpus.tags("5")) == (["dog", "traffic light"], ["man"])


def two_rows(second: bytes) -> bytes:
    return row_of("1", regions(2)) + b"\n" + second + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found 0 rows, expected some"),
        (two_rows(row_of("1", regions(2))), ":2: image 1 found twice"),
        (two_rows(row_of("2", regions(2, dim=7))), ":2: features of 7 numbers, of 5 in the rows before"),
        (two_rows(row_of("", regions(2))), ":2: id is ''"),
        (two_rows(b"2\t2"), ":2: found 2 fields, expected id, num_boxes, features"),
        (two_rows(row_of("2", regions(2))[:-9]), ":2: features "),
        (two_rows(row_of("2", regions(2)).replace(b"\t2\t", b"\t0\t")), ":2: num_boxes is '0'"),
        (two_rows(row_of("2", regions(2)).replace(b"\t2\t", b"\t300\t")), ":2: features has 88 bytes"),
        (two_rows(row_of("2", regions(2)).replace(b"\t2\t", b"\tx\t")), ":2: num_boxes is 'x'"),
        (two_rows(b"2\t2\t*"), ":2: features is not base64"),
        (two_rows(row_of("2", torch.zeros(2, 6))), r":2: found \[2, 6\], expected floats \[R,D\+6\]"),
        (two_rows(row_of("2", regions(2) * torch.nan)), ":2: its last six columns"),
        (two_rows(row_of("2", regions(2) * 2)), ":2: its last six columns"),
        (two_rows(row_of("2", regions(2).flip(1))), ":2: its last six columns"),
        (two_rows(row_of("2", torch.from_numpy((0.9 * regions(2)).numpy().byteswap()))), ":2: its last six columns"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / TSV).write_bytes(content)
    refused(tmp_path / TSV, f"{TSV}.*{message}")


@pytest.mark.parametrize(
    ("write", "file", "content", "message"),
    [
        (write_vinvl, "features.lineidx", "0\n5\n9\n", ":2: starts at byte .* its index has another"),
        (write_vinvl, "features.lineidx", "0\n", ":2: starts at byte"),
        (write_vinvl, "features.lineidx", "zero\n", ":1: starts at byte 0"),
        (write_oscar, "train_img_frcnn_feats_offset_map.json", '{"42": 1}', ":1: starts at byte 0"),
        (write_oscar, "train_img_frcnn_feats_offset_map.json", '{"42": "0"}', ":1: starts at byte 0"),
        (write_oscar, "train_img_frcnn_feats_offset_map.json", "[0]", "found list, expected a JSON dict"),
        (write_vinvl, "predictions.tsv", "42\t{}\n", ":1: objects is None, expected a list"),
        (write_vinvl, "predictions.tsv", "42\t\n", ":1: not JSON"),
        (write_vinvl, "predictions.tsv", '42\t{"objects": [{"class": 3}]}', "objects 1: class is 3"),
        (
            write_vinvl,
            "predictions.tsv",
            '7\t{"objects": [{"class": "a"}]}',
            ":1: row of '7', but of 42 in features.tsv",
        ),
        (write_vinvl, "predictions.tsv", "", ":1: row of '', but of 42 in features.tsv"),
    ],
)
def test_what_lies_beside_must_agree(
    tmp_path: Path, write: Callable[[Path], Path], file: str, content: str, message: str
) -> None:
    path = write(tmp_path)
    (tmp_path / file).write_text(content)
    refused(path, f"{file if 'starts' not in message else path.name}.*{message}")


@pytest.mark.parametrize("write", [write_oscar, write_vinvl])
def test_rows_that_are_missing_at_the_end_are_missed(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    (tmp_path / "predictions.tsv").unlink(missing_ok=True)
    refused(path, "found 2 rows, expected 3")
    write(tmp_path)
    (tmp_path / "features.lineidx").unlink(missing_ok=True)
    if write is write_vinvl:
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
        refused(path, "predictions.tsv:3: row of 'n5', but of nothing in features.tsv")


@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_refused_or_has_the_same_boxes(at: int, byte: int, cut: bool, data: Any) -> None:
    with TemporaryDirectory() as folder:
        path = write_vinvl(Path(folder))
        damaged = data.draw(st.sampled_from(sorted(Path(folder).iterdir())))
        content = bytearray(damaged.read_bytes())
        at %= len(content)
        content[at : None if cut else at + 1] = b"" if cut else bytes([byte])
        damaged.write_bytes(content)
        try:
            found = list(oscar_tsv.regions(path))
        except CorpusError as error:
            assert "\n" not in str(error)
        else:
            assert [row.features.shape for row in found] == [(len(rows), 5) for rows in IMAGES.values()]
