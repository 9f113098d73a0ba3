"""ViLBERT's region files: an LMDB database, or a folder with one as data.mdb, of one item an image.

12 tasks              image id -> pickled dict: image_w image_h num_boxes, boxes [R,4] in pixels and features [R,D],
                      arrays or base64 of their float32; and `keys` -> pickled list of the ids
Conceptual Captions   number -> msgpack list, as tensorpack wrote it: features [R,D], class probabilities [R,classes],
                      boxes [R,4] in pixels, num_boxes, image_h, image_w, image id, caption
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pybase64

from vlx.corpora.formats import msgpack
from vlx.corpora.formats.files import Regions, unit_boxes
from vlx.corpora.formats.lmdb_file import entries, look_up
from vlx.corpora.pickles import unpickle
from vlx.errors import CorpusError

KEYS, COUNT = (b"keys", b"__keys__"), b"__len__"  # what is no image
DATAPOINT = ("features", "cls_prob", "boxes", "num_boxes", "image_h", "image_w", "image_id", "caption")
Item = dict[str, Any]


def regions(path: Path) -> Iterator[Regions]:
    """Image by image, in the order of the keys."""
    return (regions_of(item, where) for item, where in items(path))


def items(path: Path) -> Iterator[tuple[Item, str]]:
    """(item, where) of every image."""
    found, listed = 0, None
    for key, value in entries(database(path)):
        if key in KEYS:
            listed = decode(value, f"{path}: {key.decode()}")
        elif key != COUNT:
            found += 1
            yield item_of(path, key, value)
    if listed is not None and (not isinstance(listed, list) or len(listed) != found):
        many = f"{len(listed):,}" if isinstance(listed, list) else type(listed).__name__
        raise CorpusError(f"{path}: found {found:,} images, but its list of keys says {many}. Get it again.")
    if not found:
        raise CorpusError(f"{path}: found no images. Is the download complete?")


def database(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


def item_of(path: Path, key: bytes, value: bytes) -> tuple[Item, str]:
    """(item, where); what is pickled has its key as image_id."""
    name = key.decode(errors="backslashreplace")
    where = f"{path}: item {ascii(name)[1:-1]}"
    item = decode(value, where)
    if isinstance(item, list) and len(item) == len(DATAPOINT):
        return dict(zip(DATAPOINT, item, strict=True)), where
    if not isinstance(item, dict) or {"features", "boxes"} - item.keys():
        expected = f"a dict with features and boxes, or a list of {len(DATAPOINT)}"
        raise CorpusError(f"{where}: found {type(item).__name__}, expected {expected}. Is this a region file?")
    return item | {"image_id": name}, where


def decode(value: bytes, where: str) -> Any:
    return msgpack.unpack(value, where) if value[:1] in msgpack.LISTS else unpickle(value, where)


def append(path: Path, row: Regions) -> Regions:
    """The regions of an image, then those that the database `path` has of it."""
    value = look_up(database(path), row.image_id.encode())
    if value is None:
        raise CorpusError(f"{path}: no item {row.image_id}, which {row.where} has. Take both from one download.")
    more = regions_of(*item_of(path, row.image_id.encode(), value))
    if more.features.shape[1:] != row.features.shape[1:]:
        shapes = f"features {list(more.features.shape)}, the detector's are {list(row.features.shape)}"
        raise CorpusError(f"{more.where}: {shapes}. Take both from one detector.")
    parts = [(row.features, more.features), (row.boxes, more.boxes)]
    features, boxes = (np.concatenate(part) for part in parts)
    return row._replace(features=features, boxes=boxes, size=more.size)


def regions_of(item: Item, where: str) -> Regions:
    """Of one item, once they are as many as it says."""
    count, width, height = (whole(item, key, where) for key in ("num_boxes", "image_w", "image_h"))
    arrays = {
        key: array(item[key], f"{where}: {key}", count) for key in ("features", "boxes", "cls_prob") if key in item
    }
    if arrays["boxes"].shape != (count, 4) or any(len(values) != count for values in arrays.values()):
        found = ", ".join(f"{key} {list(values.shape)}" for key, values in arrays.items())
        raise CorpusError(f"{where}: {found} for num_boxes {count}, expected [R,...] and boxes [R,4]. Get it again.")
    fields = {"class_probs": arrays["cls_prob"]} if "cls_prob" in arrays else {}
    boxes = unit_boxes(arrays["boxes"], (width, height), where)
    return Regions(str(item["image_id"]), arrays["features"], boxes, where, (width, height), fields)


def whole(item: Item, key: str, where: str) -> int:
    """A number above 0, which some files write as text."""
    text = str(item.get(key))[:20].removesuffix(".0")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1_000_000):
        raise CorpusError(f"{where}: {key} is {ascii(text)}, expected a whole number above 0. Get the file again.")
    return int(text)


def array(value: Any, where: str, count: int) -> np.ndarray:
    """Floats [count,N] of an array, or of base64 of float32."""
    if isinstance(value, str | bytes):
        try:
            content = pybase64.b64decode(value, validate=True)
        except ValueError as error:  # also of text beyond ASCII
            raise CorpusError(f"{where} is not base64 ({error}). Get the file again.") from None
        if not content or len(content) % (4 * count):
            raise CorpusError(
                f"{where} has {len(content):,} bytes for {count} boxes, expected as many float32 of each."
            )
        value = np.frombuffer(content, "<f4").reshape(count, -1)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != 2:
        found = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise CorpusError(f"{where} is {found}, expected floats [R,N] or their base64. Get the file again.")
    return value
