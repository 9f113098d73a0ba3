"""LXMERT's region files, and bottom-up attention's, their ancestor: one row of text an image.

LXMERT      img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features
bottom-up   image_id image_w image_h num_boxes boxes features

Separated by tabs, LF or CRLF; a first row of names may give another order. Arrays are base64 of little-endian numbers,
boxes in pixels. Plain or gzip, whatever the file's suffix. If objects_vocab.txt of the detector's repository lies
in the same folder, a name a line, the objects' names become the image's tags.
"""

import binascii
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pybase64

from vlx.corpora.formats.boxes import ROUNDING, unit_boxes
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.formats.records import text_field, unique
from vlx.errors import CorpusError

Cell = bytes | memoryview
BOTTOM_UP = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
DETECTED = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}
LXMERT = ("img_id", "img_h", "img_w", *DETECTED, "num_boxes", "boxes", "features")
MAX_CLASSES = 1 << 20  # more than any detector has: numbers in another byte order are larger
MAX_ROW_BYTES = 1 << 26  # 36 regions of 2,048 numbers are 395,000


def regions(path: Path) -> Iterator[RegionRecord]:
    names: tuple[str, ...] = ()
    dim = 0
    seen: set[str] = set()
    class_names = object_names(path.with_name("objects_vocab.txt"))
    for number, line in enumerate(lines(path), 1):
        where = f"{path}:{number}"
        cells = split(line)
        if not names:
            names, is_header = field_names(cells, where)
            if is_header:
                continue
        if len(cells) != len(names):
            raise CorpusError(f"{where}: found {len(cells)} fields, expected {len(names)}. Is the row cut?")
        row = decode(dict(zip(names, cells, strict=True)), where)
        dim = dim or row.features.shape[1]
        check_dim(row, dim)
        unique(row.image_id, seen, where, "image")
        yield with_tags(row, class_names) if class_names and "objects_id" in row.fields else row
    if not seen:
        raise CorpusError(f"{path}: found no rows, expected one an image. Is the download complete?")


def check_dim(row: RegionRecord, dim: int) -> None:
    """All rows of a file have features of one length."""
    if row.features.shape[1] != dim:
        problem = f"features of {row.features.shape[1]} numbers, of {dim} in the rows before"
        raise CorpusError(f"{row.where}: {problem}. Is the row cut?")


def object_names(path: Path) -> list[str]:
    """Name of every class, the first of several; empty without such a file."""
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return [row.partition(",")[0].strip() for row in rows]


def with_tags(row: RegionRecord, class_names: list[str]) -> RegionRecord:
    ids = row.fields["objects_id"].tolist()
    if max(ids) >= len(class_names):
        problem = f"object {max(ids)}, but objects_vocab.txt names {len(class_names):,}"
        raise CorpusError(f"{row.where}: {problem}. Get its own.")
    return row._replace(tags=tuple(class_names[number] for number in ids))


def lines(path: Path) -> Iterator[bytes]:
    """Never more than one in memory."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_compressed else path.open("rb", buffering=1 << 20) as file:
            while line := file.readline(MAX_ROW_BYTES):
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}: not a whole gzip file ({error}). Get it again.") from None


def split(line: bytes) -> list[Cell]:
    """The fields; the last, in official files nearly all of the row, is not copied."""
    start = line.rfind(b"\t") + 1
    end = len(line) - line.endswith(b"\n") - line.endswith(b"\r\n")
    return [*line[:start].split(b"\t")[:-1], memoryview(line)[start:end]]


def field_names(cells: list[Cell], where: str) -> tuple[tuple[str, ...], bool]:
    """The names of the fields, from the first row if it is a header or else from their number; and whether it is."""
    header = tuple(bytes(cell[:20]).decode("latin-1").replace("image_", "img_") for cell in cells)
    if set(BOTTOM_UP) <= set(header) <= set(LXMERT) and len(set(header)) == len(header):
        return header, True
    if len(cells) not in (len(LXMERT), len(BOTTOM_UP)):
        raise CorpusError(f"{where}: found {len(cells)} fields, expected 10 (LXMERT) or 6. Is this the region file?")
    return (LXMERT if len(cells) == len(LXMERT) else BOTTOM_UP), False


def decode(cells: dict[str, Cell], where: str) -> RegionRecord:
    name = text_field({"img_id": bytes(cells["img_id"]).decode("utf-8", "surrogateescape")}, "img_id", where)
    size = positive_int(cells, "img_w", where), positive_int(cells, "img_h", where)
    count = positive_int(cells, "num_boxes", where)
    boxes = unit_boxes(array(cells, "boxes", "<f4", (count, 4), where), size, where)
    features = array(cells, "features", "<f4", (count, -1), where)
    fields = {key: array(cells, key, dtype, (count,), where) for key, dtype in DETECTED.items() if key in cells}
    for key, values in fields.items():
        maximum = MAX_CLASSES if key.endswith("_id") else 1 + ROUNDING
        if not ((values >= 0) & (values <= maximum)).all():
            raise CorpusError(f"{where}: {key} are not classes, or not in 0..1. Extract them as little-endian numbers.")
    return RegionRecord(name, features, boxes, where, size, fields)


def positive_int(cells: dict[str, Cell], key: str, where: str) -> int:
    text = bytes(cells[key][:20]).decode("latin-1")
    if not re.fullmatch("[0-9]{1,6}", text) or not int(text):
        raise CorpusError(f"{where}: {key} is {ascii(text)}, expected a whole number above 0. Correct the row.")
    return int(text)


def array(cells: dict[str, Cell], key: str, dtype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A field in base64; of `shape`, whose last side may be -1."""
    try:
        content = pybase64.b64decode(cells[key], validate=True)
    except binascii.Error as error:
        raise CorpusError(f"{where}: {key} is not base64 ({error}). Is the row cut?") from None
    size = math.prod(map(abs, shape)) * np.dtype(dtype).itemsize
    if not content or (len(content) % size if -1 in shape else len(content) != size):
        expected = f"{size:,}{' or a multiple' * (-1 in shape)} for num_boxes {shape[0]}"
        raise CorpusError(f"{where}: {key} has {len(content):,} bytes, expected {expected}. Is the row cut?")
    return np.frombuffer(content, dtype).reshape(shape)
