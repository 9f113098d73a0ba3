import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpora.files import nlvr2_rows, write_lines
from tests.corpora.files_official import prepare
from vlx.corpora.formats.features import npz
from vlx.corpora.formats.features.npz import regions
from vlx.errors import CorpusError

BOXES = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]], np.float32)
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


def save(folder: Path, name: str = "a", **arrays: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", **({"features": FEATURES, "boxes": BOXES} | arrays))
    return folder


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        list(regions(folder))
    assert "\n" not in str(error.value)


def test_a_folder_of_npz_serves_an_annotation_format(tmp_path: Path) -> None:
    source = tmp_path / "official"
    write_lines(source / "dev.json", nlvr2_rows("dev", 1))
    for number, name in enumerate(f"dev-0-{pair}-img{side}" for pair in (0, 1) for side in (0, 1)):
        save(source / "regions", name, features=FEATURES + number, objects_id=np.array([number, 1]))
    corpus = prepare("nlvr2", source)
    features, boxes = corpus.regions("dev-0-1-img0")
    assert np.array_equal(features, FEATURES + 2) and np.array_equal(boxes, BOXES)
    assert corpus.fields("dev-0-1-img0")["objects_id"].tolist() == [2, 1]
    assert [source["name"] for source in corpus.manifest["source"]] == ["dev.json", "regions"]


def test_boxes_in_pixels_become_shares_of_the_image(tmp_path: Path) -> None:
    save(tmp_path / "regions", "b", boxes=(BOXES * [200, 100, 200, 100]).astype(int), size=np.array([200, 100]))
    save(tmp_path / "regions", "a", size=np.array([20, 10]))
    first, second = regions(tmp_path / "regions")
    assert (first.image_id, first.image_size, second.image_id, second.image_size) == ("a", (20, 10), "b", (200, 100))
    assert np.array_equal(first.boxes, BOXES) and np.allclose(second.boxes, BOXES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"boxes": BOXES * 9}, "a.npz: boxes up to 9.0, expected 0..1, or pixels and size"),
        ({"boxes": BOXES * 9, "size": np.array([5, 5])}, "a.npz: box .* in an image of 5 x 5"),
        ({"boxes": BOXES[0]}, r"a.npz: found .*'float32\[4\]'.*expected numbers: features"),
        ({"boxes": BOXES[:, :3]}, r"float32\[2, 3\]"),
        ({"size": np.array([5])}, r"int64\[1\]"),
        ({"size": np.array([5, 0])}, r"'size': 'int64\[2\]'"),
        ({"size": np.array([np.inf, 5])}, r"'size': 'float64\[2\]'"),
        ({"size": np.array([np.nan, 5])}, r"'size': 'float64\[2\]'"),
        ({"features": np.array(["a", "b"])}, "<U1"),
        ({"features": np.array([object(), {}])}, "a.npz: not numpy's arrays .*Object arrays cannot be loaded"),
        ({"colours": FEATURES}, "colours"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    refused(save(tmp_path / "regions", **arrays), message)


@pytest.mark.parametrize(
    ("features", "boxes", "message"),
    [
        (FEATURES[:1], BOXES, r"features \[1, 3\] and boxes \[2, 4\]"),
        (FEATURES * np.nan, BOXES, "a feature is NaN"),
        (FEATURES, BOXES * np.nan, "a box is not"),
        (FEATURES, -BOXES, "a box is not"),
        (FEATURES[:0], BOXES[:0], "R > 0"),
        (np.zeros((2, 4), np.float32), BOXES, r"expected \[R,3\]"),
    ],
)
def test_impossible_regions_are_named(tmp_path: Path, features: np.ndarray, boxes: np.ndarray, message: str) -> None:
    source = tmp_path / "official"
    write_lines(source / "dev.json", nlvr2_rows("dev", 1))
    for name in (f"dev-0-{pair}-img{side}" for pair in (0, 1) for side in (0, 1)):
        save(source / "regions", name)
    save(source / "regions", "dev-0-1-img1", features=features, boxes=boxes)
    with pytest.raises(CorpusError, match=f"dev-0-1-img1.npz: .*{message}"):
        prepare("nlvr2", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(99), b"\x80\x04."])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    save(tmp_path / "regions", "a")
    (tmp_path / "regions" / "b.npz").write_bytes(content)
    refused(tmp_path / "regions", "b.npz: not numpy's arrays")


def test_one_array_alone_is_named(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, FEATURES)
    save(tmp_path / "regions")
    (tmp_path / "regions" / "a.npz").write_bytes(file.getvalue())
    refused(tmp_path / "regions", r"a.npz: found .*float32\[2, 3\].*expected numbers: features")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    refused(tmp_path, "found no .npz files, expected one an image")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "regions"
    folder.mkdir()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 4)})
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boxes.npy", header.getvalue() + bytes(1 << 24))
    monkeypatch.setattr(npz, "MAX_BYTES", 1 << 20)
    refused(folder, "a.npz: not numpy's arrays .*over 1,048,576 bytes")


@pytest.mark.parametrize("shape", ["(1000000000000, 4)", "(-1, 4)", "(2.5, 4)", "(2, 4"])
def test_a_header_that_lies_is_named(tmp_path: Path, shape: str) -> None:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with zipfile.ZipFile(save(tmp_path / "regions") / "a.npz", "w") as archive:
        archive.writestr("boxes.npy", b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(32))
    refused(tmp_path / "regions", "a.npz: not numpy's arrays")


def cut(content: bytes, place: int) -> bytes:
    return content[: place % len(content)]


def change(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place % len(content)] ^= 1 + place % 255
    return bytes(changed)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(damage=st.sampled_from([cut, change]), place=st.integers(0, 10_000))
def test_a_damaged_file_is_read_as_it_was_or_refused(
    tmp_path: Path, damage: Callable[[bytes, int], bytes], place: int
) -> None:
    """Its checksums are of the content; what they do not cover may name a member otherwise."""
    path = save(tmp_path / "regions", size=np.array([20, 10])) / "a.npz"
    path.write_bytes(damage(path.read_bytes(), place))
    try:
        (row,) = regions(path.parent)
    except CorpusError as error:
        assert "a.npz" in str(error) and "\n" not in str(error)
    else:
        assert np.array_equal(row.features, FEATURES) and np.array_equal(row.boxes, BOXES) and row.fields == {}
