import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files_vilbert import (
    CLASSES,
    DIM,
    HEIGHT,
    WIDTH,
    as_text,
    boxes_of,
    datapoint,
    features_of,
    item,
    pack,
    write_datapoints,
    write_lmdb,
    write_values,
)
from vlx.corpora.formats.features import tensorpack
from vlx.corpora.formats.features.lmdb_file import entries, look_up
from vlx.corpora.formats.features.vilbert_lmdb import append, regions
from vlx.errors import CorpusError

WRITER = """
import lmdb, sys
with lmdb.open(sys.argv[1], map_size=1 << 26) as database, database.begin(write=True) as transaction:
    transaction.put(b"2", b"not yet")
    print("written", flush=True)
    sys.stdin.readline()
"""
SOME = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def refused(path: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        list(regions(path))
    assert "\n" not in str(error.value) and path.name in str(error.value)


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("make", [item, lambda count: as_text(item(count)), lambda count: OrderedDict(item(count))])
def test_items_come_out_as_they_went_in(tmp_path: Path, make: Callable[[int], Any], folder: bool) -> None:
    path = write_lmdb(tmp_path / "x.lmdb", {"42": make(3), "7": make(1)}, folder=folder)
    first, second = regions(path)
    assert (first.image_id, first.image_size, second.image_id) == ("42", (WIDTH, HEIGHT), "7")
    assert np.array_equal(first.features, features_of(3)) and np.array_equal(second.features, features_of(1))
    assert np.allclose(first.boxes, boxes_of(3) / [WIDTH, HEIGHT, WIDTH, HEIGHT]) and first.fields == {}
    assert first.where == f"{path}: item 42"


def test_arrays_of_python_2_and_numbers_of_numpy_are_read(tmp_path: Path) -> None:
    old = pickle.dumps(item(image_w=np.float64(WIDTH), num_boxes=np.int64(3)), protocol=2)
    (row,) = regions(write_values(tmp_path / "x.lmdb", {b"v7w_1": old}))
    assert row.image_id == "v7w_1" and row.image_size == (WIDTH, HEIGHT) and row.features.shape == (3, DIM)


def test_conceptual_captions_come_with_the_probabilities_of_classes(tmp_path: Path) -> None:
    path = write_datapoints(tmp_path / "x.lmdb", {301: "a dog", 300: "a cat"})
    rows = list(regions(path))
    assert [row.image_id for row in rows] == ["301", "300"] and rows[0].where == f"{path}: item 00000000"
    assert np.array_equal(rows[1].features, features_of(3)) and rows[1].fields["class_probs"].shape == (3, CLASSES)


def test_a_database_that_another_process_writes_is_read_as_it_was(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "x.lmdb", {"1": item()})
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"written\n"
        assert [row.image_id for row in regions(path)] == ["1"]
        writer.communicate(b"\n")


def test_regions_of_annotated_boxes_follow_the_detectors(tmp_path: Path) -> None:
    path = write_lmdb(tmp_path / "x.lmdb", {str(number): item(3) for number in range(40)})
    annotated = write_lmdb(tmp_path / "x_gt_.lmdb", {str(number): item(2) for number in range(39)})
    rows = {row.image_id: row for row in regions(path)}
    row = append(annotated, rows["17"])
    assert np.array_equal(row.features, np.concatenate([features_of(3), features_of(2)]))
    assert np.allclose(row.boxes[3:], boxes_of(2) / [WIDTH, HEIGHT, WIDTH, HEIGHT])
    with pytest.raises(CorpusError, match="x_gt_.lmdb: no item 39, which .*x.lmdb: item 39 has"):
        append(annotated, rows["39"])
    other = write_lmdb(tmp_path / "y.lmdb", {"1": item(2, features=features_of(2, DIM + 1))})
    with pytest.raises(CorpusError, match=r"y.lmdb: item 1: features \[2, 6\], the detector's are \[3, 5\]"):
        append(other, rows["1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_boxes": 2}, r"item 1: features \[3, 5\], boxes \[3, 4\] for num_boxes 2"),
        ({"num_boxes": 0}, "item 1: num_boxes is '0', expected a whole number above 0"),
        ({"num_boxes": "many"}, "item 1: num_boxes is 'many'"),
        ({"image_w": -1}, "item 1: image_w is '-1'"),
        ({"image_h": 2.5}, "item 1: image_h is '2.5'"),
        ({"image_w": None}, "item 1: image_w is 'None'"),
        ({"image_w": 10**30}, "item 1: image_w is '1000"),
        ({"image_w": "٣"}, "item 1: image_w is "),
        ({"boxes": boxes_of(3)[:, :3]}, r"boxes \[3, 3\]"),
        ({"boxes": boxes_of(3) + 600}, "item 1: box .* in an image of 640 x 480"),
        ({"boxes": boxes_of(3) * np.nan}, "item 1: box .*nan"),
        ({"features": features_of(3)[0]}, r"features is float32\[5\], expected floats"),
        ({"features": features_of(2)}, r"features \[2, 5\]"),
        ({"features": np.ones((3, DIM), int)}, r"features is int64\[3, 5\]"),
        ({"features": [1.0]}, "features is list"),
        ({"features": "AAAA" * 3 + "!"}, "features is not base64"),
        ({"features": "é"}, "features is not base64"),
        ({"features": "AAAA"}, "features has 3 bytes for 3 boxes"),
        ({"features": ""}, "features has 0 bytes"),
        ({"features": np.array([object()])}, "dtype"),
    ],
)
def test_a_wrong_item_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refused(write_lmdb(tmp_path / "x.lmdb", {"1": item(**changes)}), message)


@pytest.mark.parametrize("missing", ["boxes", "features", "num_boxes", "image_h"])
def test_a_missing_field_is_named(tmp_path: Path, missing: str) -> None:
    found = item()
    del found[missing]
    expected = (
        "found dict, expected a dict with features" if missing in ("boxes", "features") else f"{missing} is 'None'"
    )
    refused(write_lmdb(tmp_path / "x.lmdb", {"1": found}), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "found no images"),
        ({b"keys": pickle.dumps([])}, "found no images"),
        (
            {b"1": pickle.dumps(item()), b"keys": pickle.dumps([b"1", b"2"])},
            "found 1 images, but its list of keys says 2",
        ),
        ({b"1": pickle.dumps(item()), b"keys": pickle.dumps(3)}, "its list of keys says int"),
        ({b"1": b""}, "item 1: "),
        ({b"1": pickle.dumps([1, 2])}, "item 1: found list, expected a dict"),
        ({b"\xff\n": pickle.dumps(item())[:40]}, r"item .*xff.n: "),
        ({b"1": datapoint(1, "a")[:-1]}, "item 1: not msgpack .*incomplete"),
        ({b"1": datapoint(1, "a") + b"\0"}, "item 1: found bytes after its end"),
        ({b"1": b"\x98" + pack([]) * 8}, "item 1: num_boxes is"),
    ],
)
def test_a_wrong_database_is_named(tmp_path: Path, values: dict[bytes, bytes], message: str) -> None:
    refused(write_values(tmp_path / "x.lmdb", values), message)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("hacked"),)


def test_nothing_in_an_item_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(write_lmdb(tmp_path / "x.lmdb", {"1": item(features=Hostile())}), "item 1: .*not allowed")
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    "value",
    [
        *[0, 127, 128, -1, -32, 2.5, True, None, "é", b"\xff", [], {}, [1, [2, [3]]], {"a": {b"b": 1}}],
        *[np.arange(6, dtype="<f4").reshape(2, 3), np.float64(0.5), np.zeros((0, 4), "<i8")],
    ],
)
def test_msgpack_is_read_as_its_specification_says(value: Any) -> None:
    written = {-1: b"\xff", -32: b"\xe0", 2.5: b"\xcb\x40\x04\0\0\0\0\0\0", None: b"\xc0"}
    plain = isinstance(value, int | float | None) and not isinstance(value, bool) and value in written
    found = tensorpack.unpack(written[value] if plain else pack(value), "here")
    assert type(found) is type(value) and repr(found) == repr(value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x81\x90\x01",
        b"\xd4\x01\x01",
        b"\x91" * 9_999 + b"\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xa1\xff",
    ],
)
def test_what_is_not_msgpack_is_refused(content: bytes) -> None:
    with pytest.raises(CorpusError, match="here: not msgpack"):
        tensorpack.unpack(content, "here")


@pytest.mark.parametrize("kind", ["O", "|O", "<U9", "<f4,<f4", "V8", 3, b"|O"])
def test_only_arrays_of_numbers_are_made_of_msgpack(kind: str | bytes | int) -> None:
    with pytest.raises(CorpusError, match="an array of"):
        tensorpack.unpack(pack({b"nd": True, b"type": kind, b"shape": [1], b"data": b"\0" * 8}), "here")


@SOME
@given(
    values=st.dictionaries(st.binary(min_size=1, max_size=500), st.binary(max_size=9_000), max_size=60),
    gone=st.integers(0, 60),
)
def test_every_entry_is_read_that_the_library_writes(
    tmp_path_factory: pytest.TempPathFactory, values: dict[bytes, bytes], gone: int
) -> None:
    path = write_values(tmp_path_factory.mktemp("lmdb") / "x", values)
    with lmdb.open(str(path), map_size=1 << 26) as database, database.begin(write=True) as transaction:
        for key in sorted(values)[:gone]:
            transaction.delete(key)
    kept = {key: values[key] for key in sorted(values)[gone:]}
    assert list(entries(path / "data.mdb")) == list(kept.items())
    assert all(look_up(path / "data.mdb", key) == kept.get(key) for key in values)


@pytest.fixture(scope="module", params=["pickle", "msgpack"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if request.param == "msgpack":
        captions = {number: "a dog" for number in range(120)}
        return write_datapoints(tmp_path_factory.mktemp("lmdb") / "x.lmdb", captions).read_bytes()
    items = {str(number): item(1 + number % 4, features=features_of(1 + number % 4, 400)) for number in range(120)}
    path = write_lmdb(tmp_path_factory.mktemp("lmdb") / "x.lmdb", items, folder=False)
    return path.read_bytes()


def outcome(tmp_path: Path, content: bytes) -> bool:
    """Whether it is read, and then nothing is of the wrong shape; anything but a CorpusError is a failure."""
    path = tmp_path / "x.lmdb"
    path.write_bytes(content)
    try:
        rows = list(regions(path))
    except CorpusError as error:
        assert "\n" not in str(error) and "x.lmdb" in str(error)
        return False
    assert len(rows) == 120 and all(len(row.features) == len(row.boxes) > 0 for row in rows)
    assert all(row.boxes.shape[1] == 4 and row.features.ndim == 2 for row in rows)
    return True


@SOME
@given(data=st.data())
def test_a_cut_database_is_refused(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    assert not outcome(tmp_path, whole[: data.draw(st.integers(0, len(whole) - 4096))])


@SOME
@given(data=st.data())
def test_damaged_bytes_are_refused_or_are_numbers(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    changed = bytearray(whole)
    pages = st.integers(0, len(whole) // 4096 - 1)
    for _ in range(data.draw(st.integers(1, 30))):
        place = data.draw(pages) * 4096 + data.draw(st.integers(0, 60) | st.integers(0, 4095))
        changed[place] = data.draw(st.integers(0, 255))
    outcome(tmp_path, bytes(changed))


@pytest.mark.parametrize("content", [b"", b"hello" * 4000, bytes(20_000)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    assert not outcome(tmp_path, content)
