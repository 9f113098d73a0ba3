"""ViLBERT's region files: an LMDB database, or a folder with it as data.mdb, of one item an image.

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

from vlx.corpora.formats.boxes import unit_boxes
from vlx.corpora.formats.features import tensorpack
from vlx.corpora.formats.features.lmdb_file import entries, look_up
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.pickles import unpickle
from vlx.errors import CorpusError

LIST_KEYS = (b"keys", b"__keys__")  # entries that list the keys of the items
COUNT_KEY = b"__len__"
DATAPOINT = ("features", "cls_prob", "boxes", "num_boxes", "image_h", "image_w", "image_id", "caption")
MAX_NUMBER = 1_000_000
Item = dict[str, Any]


def regions(path: Path) -> Iterator[RegionRecord]:
    """Image by image, in the order of the keys."""
    return (regions_of(item, where) for item, where in items(path))


def items(path: Path) -> Iterator[tuple[Item, str]]:
    """(item, where) of every image."""
    count = 0
    key_list = None
    for key, value in entries(database(path)):
        if key in LIST_KEYS:
            key_list = decode(value, f"{path}: {key.decode()}")
        elif key != COUNT_KEY:
            count += 1
            yield item_of(path, key, value)
    if key_list is not None and (not isinstance(key_list, list) or len(key_list) != count):
        expected = f"{len(key_list):,}" if isinstance(key_list, list) else type(key_list).__name__
        raise CorpusError(f"{path}: found {count:,} images, but its list of keys says {expected}. Get it again.")
    if not count:
        raise CorpusError(f"{path}: found no images. Is the download complete?")


def database(path: Path) -> Path:
    return path / "data.mdb" if path.is_dir() else path


def item_of(path: Path, key: bytes, value: bytes) -> tuple[Item, str]:
    """(item, where); a pickled item has its key as image_id."""
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
    return tensorpack.unpack(value, where) if value[:1] in tensorpack.LIST_BYTES else unpickle(value, where)


def append(path: Path, record: RegionRecord) -> RegionRecord:
    """The record with the regions that the database `path` holds of its image behind its own."""
    key = record.image_id.encode()
    value = look_up(database(path), key)
    if value is None:
        raise CorpusError(f"{path}: no item {record.image_id}, which {record.where} has. Take both from one download.")
    added = regions_of(*item_of(path, key, value))
    if added.features.shape[1:] != record.features.shape[1:]:
        shapes = f"features {list(added.features.shape)}, the detector's are {list(record.features.shape)}"
        raise CorpusError(f"{added.where}: {shapes}. Take both from one detector.")
    features = np.concatenate([record.features, added.features])
    boxes = np.concatenate([record.boxes, added.boxes])
    return record._replace(features=features, boxes=boxes, image_size=added.image_size)


def regions_of(item: Item, where: str) -> RegionRecord:
    """The regions of an item, as many as its num_boxes."""
    count = positive_int(item, "num_boxes", where)
    size = positive_int(item, "image_w", where), positive_int(item, "image_h", where)
    keys = [key for key in ("features", "boxes", "cls_prob") if key in item]
    arrays = {key: array(item[key], f"{where}: {key}", count) for key in keys}
    if arrays["boxes"].shape != (count, 4) or any(len(values) != count for values in arrays.values()):
        shapes = ", ".join(f"{key} {list(values.shape)}" for key, values in arrays.items())
        raise CorpusError(f"{where}: {shapes} for num_boxes {count}, expected [R,...] and boxes [R,4]. Get it again.")
    fields = {"class_probs": arrays["cls_prob"]} if "cls_prob" in arrays else {}
    boxes = unit_boxes(arrays["boxes"], size, where)
    return RegionRecord(str(item["image_id"]), arrays["features"], boxes, where, size, fields)


def positive_int(item: Item, key: str, where: str) -> int:
    """A number above 0, which some files write as text."""
    text = str(item.get(key))[:20].removesuffix(".0")
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < MAX_NUMBER):
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
            problem = f"has {len(content):,} bytes for {count} boxes"
            raise CorpusError(f"{where} {problem}, expected as many float32 of each.")
        value = np.frombuffer(content, "<f4").reshape(count, -1)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != 2:
        actual = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
        raise CorpusError(f"{where} is {actual}, expected floats [R,N] or their base64. Get the file again.")
    return value
