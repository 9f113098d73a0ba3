import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora.files_lxmert import (
    ANSWERS,
    BOTTOM_UP,
    DIM,
    LXMERT,
    NAMES,
    arrays,
    cells,
    encode,
    line,
    question,
    write_json,
    write_tsv,
)
from vlx import corpora
from vlx.corpora.formats.features import lxmert_tsv
from vlx.errors import CorpusError

TSV = "train2014_obj36.tsv"
COUNTS = (2, 3, 1)  # regions of NAMES


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "official")


def write_source(folder: Path) -> Path:
    """VQA over three images."""
    write_json(folder / "train.json", [question(number, name) for number, name in enumerate(NAMES)])
    write_json(folder / "trainval_label2ans.json", ANSWERS)
    write_tsv(folder / TSV, *map(cells, NAMES, COUNTS))
    return folder


def prepare(source: Path) -> corpora.Corpus:
    return corpora.prepare("lxmert-vqa", source, source.parent / "corpus", dtype="float32")


def check(corpus: corpora.Corpus, name: str, count: int) -> None:
    expected, scale = arrays(count), [200, 100, 200, 100]
    features, boxes = corpus.regions(name)
    assert np.array_equal(features, expected.pop("features"))
    assert np.allclose(boxes, expected.pop("boxes") / scale) and corpus.image_size(name) == (200, 100)
    fields = corpus.fields(name)
    assert all(np.array_equal(fields[key], values) for key, values in expected.items() if fields)


def refused(source: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        prepare(source)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in source.parent.iterdir()) == ["official"]


def test_every_field_comes_out_as_it_went_in(source: Path) -> None:
    corpus = prepare(source)
    for name, count in zip(NAMES, COUNTS, strict=True):
        check(corpus, name, count)
    assert set(corpus.fields(NAMES[0])) == {"objects_id", "objects_conf", "attrs_id", "attrs_conf"}
    assert corpus.image_ids() == list(NAMES) and corpus.detector == "external"


@pytest.mark.parametrize("name", [TSV, f"{TSV}.gz"])
@pytest.mark.parametrize("compressed", [True, False])
def test_gzip_is_known_by_its_first_bytes_not_by_its_name(source: Path, name: str, compressed: bool) -> None:
    content = (source / TSV).read_bytes()
    (source / TSV).unlink()
    (source / name).write_bytes(gzip.compress(content) if compressed else content)
    check(prepare(source), NAMES[1], 3)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_either_line_end_will_do_and_the_last_may_lack_it(source: Path, end: str, last: bool) -> None:
    content = "".join(line(cells(name, count), end=end) for name, count in zip(NAMES, COUNTS, strict=True))
    (source / TSV).write_text(content if last else content.rstrip("\r\n"), newline="")
    check(prepare(source), NAMES[2], 1)


@pytest.mark.parametrize("header", [None, BOTTOM_UP, BOTTOM_UP[::-1]])
def test_bottom_up_attention_is_told_by_its_fields(source: Path, header: tuple[str, ...] | None) -> None:
    names = header or BOTTOM_UP
    title = line({key: key.replace("img_", "image_") for key in names}, names) if header else ""
    rows = "".join(line(cells(str(number), count), names) for number, count in zip((10, 11, 12), COUNTS, strict=True))
    (source / TSV).unlink()
    (source / "trainval_resnet101_faster_rcnn_genome.tsv.0").write_text(title + rows, newline="")
    corpus = prepare(source)
    assert not corpus.fields(NAMES[0])
    for name, count in zip(NAMES, COUNTS, strict=True):
        check(corpus, name, count)


def test_boxes_beyond_the_image_by_rounding_are_clipped(source: Path) -> None:
    boxes = np.array([[-0.1, -0.05, 200.1, 100.05], [0, 0, 200, 100]])
    write_tsv(source / TSV, cells(NAMES[0], 2, boxes=boxes), *map(cells, NAMES[1:], COUNTS[1:]))
    assert prepare(source).regions(NAMES[0])[1].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


BOX = np.array([[0.0, 0, 100, 50], [0, 0, 100, 50], [0, 0, 100, 50]])
FEATURES = arrays(3)["features"].astype(np.float64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": encode(FEATURES, "features")[:-8]}, r"tsv:2: features has 66 bytes, expected 12 or a multiple"),
        ({"features": encode(FEATURES, "features")[:-5]}, "tsv:2: features is not base64"),
        ({"features": encode(FEATURES, "features").replace("A", "\xe9", 1)}, "tsv:2: features is not base64"),
        ({"features": encode(FEATURES[:2], "features")}, "tsv:2: features of 4 numbers, of 6 in the rows before"),
        ({"features": arrays(3, 4)["features"]}, "tsv:2: features of 4 numbers, of 6 in the rows before"),
        ({"features": ""}, "tsv:2: features has 0 bytes"),
        ({"features": FEATURES * np.nan}, "tsv:2: a feature is NaN"),
        ({"features": np.full(18, 0x7FA00000, np.uint32).view("<f4")}, "tsv:2: a feature is NaN, or beyond float32"),
        ({"boxes": BOX[:2]}, "tsv:2: boxes has 32 bytes, expected 48 for num_boxes 3"),
        ({"boxes": BOX * np.nan}, r"tsv:2: box .nan.* in an image of 200 x 100"),
        ({"boxes": BOX + [0, 0, 150, 0]}, r"tsv:2: box .0.0, 0.0, 250.0, 50.0. in an image of 200 x 100"),
        ({"boxes": BOX - [1, 0, 0, 0]}, r"tsv:2: box .-1.0"),
        ({"boxes": BOX[:, [2, 1, 0, 3]]}, "tsv:2: a box is not x1 <= x2"),
        ({"objects_id": np.arange(3).byteswap().view(">i8").view("<i8")}, "tsv:2: objects_id are not classes"),
        ({"objects_id": -np.arange(3)}, "tsv:2: objects_id are not classes"),
        ({"objects_conf": np.array([0.5, 1.5, 0.5])}, "tsv:2: objects_conf are not classes, or not in 0..1"),
        ({"attrs_conf": np.full(3, np.nan)}, "tsv:2: attrs_conf are not"),
        ({"attrs_id": np.arange(6)}, "tsv:2: attrs_id has 48 bytes, expected 24"),
        ({"num_boxes": 0}, "tsv:2: num_boxes is '0', expected a whole number above 0"),
        ({"num_boxes": 300}, "tsv:2: boxes has 48 bytes, expected 4,800 for num_boxes 300"),
        ({"num_boxes": "-3"}, "tsv:2: num_boxes is '-3'"),
        ({"num_boxes": "9" * 5_000}, "tsv:2: num_boxes is '9999"),
        ({"num_boxes": ""}, "tsv:2: num_boxes is ''"),
        ({"img_w": "wide"}, "tsv:2: img_w is 'wide'"),
        ({"img_h": 0}, "tsv:2: img_h is '0'"),
        ({"img_id": NAMES[0]}, f"tsv:2: image {NAMES[0]} found twice"),
        ({"img_id": " "}, "tsv:2: img_id is ' '"),
        ({"img_id": "\udcff"}, "tsv:2: img_id is "),
        ({"img_id": "zebra"}, f"names image {NAMES[1]}, absent from {TSV}"),
        ({"img_id": f"{NAMES[1]}\tmore"}, "tsv:2: found 11 fields, expected 10"),
        ({"features": f"\n{encode(FEATURES, 'features')}"}, "tsv:2: features has 0 bytes"),
    ],
)
def test_a_damaged_row_is_named(source: Path, changes: dict[str, Any], message: str) -> None:
    rows = [cells(name, count) for name, count in zip(NAMES, COUNTS, strict=True)]
    rows[1] = cells(NAMES[1], 3, **{key: value for key, value in changes.items() if key != "img_id"})
    rows[1] |= {key: value for key, value in changes.items() if key == "img_id"}
    write_tsv(source / TSV, *rows)
    refused(source, message)


@pytest.mark.parametrize("names", [LXMERT, BOTTOM_UP])
def test_numbers_in_the_other_byte_order_are_refused(source: Path, names: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (36, 2))
    arrays_of = {"boxes": np.concatenate([corners, corners + 50], 1), "features": random.exponential(size=(36, DIM))}
    swapped = {key: encode(values.astype("<f4").byteswap(), key) for key, values in arrays_of.items()}
    swapped["objects_id"] = encode(np.arange(36).byteswap(), "objects_id")
    row = cells(NAMES[0], 36, **swapped)
    (source / TSV).write_text(line(row, names), newline="")
    refused(source, "tsv:1: box ")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-30], "tsv:3: features "),
        (
            lambda content: content[: content.index(b"\n") + 60],
            "tsv:2: found [1-9] fields, expected 10. Is the row cut",
        ),
        (lambda content: content[: content.index(b"\n") + 1], "absent from train2014_obj36.tsv .2 of 3"),
        (lambda _: b"", "tsv: found no rows"),
        (lambda _: line({name: name for name in LXMERT}).encode(), "tsv: found no rows"),
        (lambda _: b"\x00" * 100, "tsv:1: found 1 fields, expected 10 .LXMERT. or 6"),
        (lambda content: gzip.compress(content)[:-20], "tsv: not a whole gzip file"),
        (lambda content: gzip.compress(content)[:40] + bytes(100), "tsv: not a whole gzip file"),
        (lambda content: content.replace(b"\t", b" "), "tsv:1: found 1 fields"),
        (lambda content: content + b"\r\n", "tsv:4: found 1 fields, expected 10"),
    ],
)
def test_a_damaged_file_is_named(source: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    (source / TSV).write_bytes(damage((source / TSV).read_bytes()))
    refused(source, message)


def test_a_file_without_line_ends_is_not_read_whole(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lxmert_tsv, "MAX_ROW_BYTES", 500)
    (source / TSV).write_bytes(b"x" * 2_000)
    assert [len(part) for part in lxmert_tsv.lines(source / TSV)] == [500] * 4
    refused(source, "tsv:1: found 1 fields")


@given(
    place=st.floats(0, 1), size=st.integers(0, 40),
    bytes_in=st.one_of(st.binary(max_size=4), st.sampled_from([b"\t", b"\r\n", b"0", b"=", b"AAAA", b"\xff", b"\x00"])),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_changed_bytes_are_refused_or_leave_every_count_and_dim_as_they_were(
    place: float, size: int, bytes_in: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_source(Path(folder) / "official")
        content = (source / TSV).read_bytes()
        start = int(place * len(content))
        (source / TSV).write_bytes(content[:start] + bytes_in + content[start + size :])
        try:
            corpus = prepare(source)
        except CorpusError as error:
            assert "\n" not in str(error)
        else:
            assert [corpus.num_regions(name) for name in NAMES] == list(COUNTS) and corpus.region_dim == DIM


def test_names_of_objects_beside_the_regions_become_tags(source: Path, tmp_path: Path) -> None:
    place = next(source.rglob(TSV))
    most = max(int(row.fields["objects_id"].max()) for row in lxmert_tsv.regions(place))
    assert all(row.tags == () for row in lxmert_tsv.regions(place))
    vocabulary = place.with_name("objects_vocab.txt")
    vocabulary.write_text("".join(f"thing {number},stuff\n" for number in range(most + 1)))
    for row in lxmert_tsv.regions(place):
        assert row.tags == tuple(f"thing {number}" for number in row.fields["objects_id"])
    vocabulary.write_text("thing 0\n" * most)
    with pytest.raises(CorpusError, match=f"object {most}, but objects_vocab.txt names {most}. Get its own"):
        list(lxmert_tsv.regions(place))
