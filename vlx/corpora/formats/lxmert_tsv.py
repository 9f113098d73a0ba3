"""LXMERT's region files, and those of bottom-up attention they descend from: one row of text an image.

LXMERT      img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features
bottom-up   image_id image_w image_h num_boxes boxes features

Fields are parted by tabs, rows end in LF or CRLF; a first row of field names may give another order. Arrays are base64
of little-endian numbers, boxes in pixels of the picture. Plain or gzip, whatever the file's name says.
"""

import binascii
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vlx.corpora.formats.files import ROUNDING, Regions, field, unique, unit_boxes
from vlx.errors import CorpusError

BOTTOM_UP = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
DETECTED = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}
LXMERT = ("img_id", "img_h", "img_w", *DETECTED, "num_boxes", "boxes", "features")
CLASSES = 1 << 20  # no detector knows more: bytes in another order give such ids
LONGEST = 1 << 26  # bytes of a row; 36 regions of 2,048 numbers are 395,000
MAGIC = b"\x1f\x8b"  # of gzip


def regions(path: Path) -> Iterator[Regions]:
    """Image by image, in the order of the file."""
    names: tuple[str, ...] = ()
    width, seen = 0, set[str]()
    for number, line in enumerate(lines(path), 1):
        where, cells = f"{path}:{number}", line.rstrip(b"\r\n").split(b"\t")
        if not names:
            names, is_header = field_names(cells, where)
            if is_header:
                continue
        if len(cells) != len(names):
            raise CorpusError(f"{where}: found {len(cells)} fields, expected {len(names)}. Is the row cut?")
        row = decode(dict(zip(names, cells, strict=True)), where)
        width = width or row.features.shape[1]
        if row.features.shape[1] != width:
            found = f"features of {row.features.shape[1]} numbers a box, expected {width} as in the rows before"
            raise CorpusError(f"{where}: {found}. Is the row cut?")
        unique(row.image_id, seen, where, "image")
        yield row
    if not seen:
        raise CorpusError(f"{path}: found no rows, expected one an image. Is the download complete?")


def lines(path: Path) -> Iterator[bytes]:
    """Never more than one in memory."""
    with path.open("rb") as file:
        compressed = file.read(len(MAGIC)) == MAGIC
    try:
        with gzip.open(path) if compressed else path.open("rb", buffering=1 << 20) as file:
            while line := file.readline(LONGEST):
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}: not a whole gzip file ({error}). Get it again.") from None


def field_names(cells: list[bytes], where: str) -> tuple[tuple[str, ...], bool]:
    """The names of the fields, by what the first row says or by how many there are; and whether it is a header."""
    given = tuple(cell[:20].decode("latin-1").replace("image_", "img_") for cell in cells)
    if set(BOTTOM_UP) <= set(given) <= set(LXMERT) and len(set(given)) == len(given):
        return given, True
    if len(cells) not in (len(LXMERT), len(BOTTOM_UP)):
        expected = f"{len(LXMERT)} (LXMERT) or {len(BOTTOM_UP)} (bottom-up attention), parted by tabs"
        raise CorpusError(f"{where}: found {len(cells)} fields, expected {expected}. Is this the region file?")
    return (LXMERT if len(cells) == len(LXMERT) else BOTTOM_UP), False


def decode(cells: dict[str, bytes], where: str) -> Regions:
    """One row, by field name."""
    name = field({"img_id": cells["img_id"].decode("utf-8", "surrogateescape")}, "img_id", where)[0]
    width, height, count = (whole(cells, key, where) for key in ("img_w", "img_h", "num_boxes"))
    boxes = unit_boxes(array(cells, "boxes", "<f4", (count, 4), where), (width, height), where)
    features = array(cells, "features", "<f4", (count, -1), where)
    fields = {key: array(cells, key, kind, (count,), where) for key, kind in DETECTED.items() if key in cells}
    for key, values in fields.items():
        most = CLASSES if key.endswith("_id") else 1 + ROUNDING
        if not ((values >= 0) & (values <= most)).all():
            expected = "class ids" if key.endswith("_id") else "confidences in 0..1"
            raise CorpusError(f"{where}: {key} are not {expected} as little-endian numbers. Extract the row again.")
    return Regions(name, features, boxes, where, (width, height), fields)


def whole(cells: dict[str, bytes], key: str, where: str) -> int:
    text = cells[key][:20].decode("latin-1")
    if not re.fullmatch("[0-9]{1,6}", text) or not int(text):
        raise CorpusError(f"{where}: {key} is {ascii(text)}, expected a whole number above 0. Correct the row.")
    return int(text)


def array(cells: dict[str, bytes], key: str, kind: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        content = binascii.a2b_base64(cells[key], strict_mode=True)
    except binascii.Error as error:
        raise CorpusError(f"{where}: {key} is not base64 ({error}). Is the row cut?") from None
    size = math.prod(map(abs, shape)) * np.dtype(kind).itemsize  # -1: as many as there are
    if not content or len(content) % size or (shape[-1] > 0 and len(content) != size):
        expected = f"{size:,}" if shape[-1] > 0 else f"a multiple of {size:,}"
        found = f"{key} of {len(content):,} bytes, expected {expected} for num_boxes {shape[0]}"
        raise CorpusError(f"{where}: {found}. Is the row cut?")
    return np.frombuffer(content, kind).reshape(shape)
