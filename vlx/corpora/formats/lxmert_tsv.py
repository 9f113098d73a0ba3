"""LXMERT's region files, and those of bottom-up attention they descend from: one row of text an image.

LXMERT      img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features
bottom-up   image_id image_w image_h num_boxes boxes features

Parted by tabs, LF or CRLF; a first row of names may give another order. Arrays are base64 of little-endian numbers,
boxes in pixels. Plain or gzip, whatever the file's name says. If objects_vocab.txt lies beside, as of the detector's
repository, a name a line, the objects' names are the picture's tags.
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

from vlx.corpora.formats.files import ROUNDING, Regions, field, unique, unit_boxes
from vlx.errors import CorpusError

Cell = bytes | memoryview
BOTTOM_UP = ("img_id", "img_w", "img_h", "num_boxes", "boxes", "features")
DETECTED = {"objects_id": "<i8", "objects_conf": "<f4", "attrs_id": "<i8", "attrs_conf": "<f4"}
LXMERT = ("img_id", "img_h", "img_w", *DETECTED, "num_boxes", "boxes", "features")
CLASSES = 1 << 20  # no detector knows more: bytes in another order give such ids
LONGEST = 1 << 26  # bytes of a row; 36 regions of 2,048 numbers are 395,000


def regions(path: Path) -> Iterator[Regions]:
    names: tuple[str, ...] = ()
    width, seen, known = 0, set[str](), object_names(path.with_name("objects_vocab.txt"))
    for number, line in enumerate(lines(path), 1):
        where, cells = f"{path}:{number}", split(line)
        if not names:
            names, is_header = field_names(cells, where)
            if is_header:
                continue
        if len(cells) != len(names):
            raise CorpusError(f"{where}: found {len(cells)} fields, expected {len(names)}. Is the row cut?")
        row = decode(dict(zip(names, cells, strict=True)), where)
        width = width or row.features.shape[1]
        if row.features.shape[1] != width:
            found = row.features.shape[1]
            raise CorpusError(f"{where}: features of {found} numbers, of {width} in the rows before. Is the row cut?")
        unique(row.image_id, seen, where, "image")
        yield row._replace(tags=named(row, known)) if known and "objects_id" in row.fields else row
    if not seen:
        raise CorpusError(f"{path}: found no rows, expected one an image. Is the download complete?")


def object_names(path: Path) -> list[str]:
    """Of every class, the first where several are given; none where there is no such file."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return [line.partition(",")[0].strip() for line in lines]


def named(row: Regions, known: list[str]) -> tuple[str, ...]:
    ids = row.fields["objects_id"].tolist()
    if max(ids) >= len(known):
        raise CorpusError(f"{row.where}: object {max(ids)}, but objects_vocab.txt names {len(known):,}. Get its own.")
    return tuple(known[number] for number in ids)


def lines(path: Path) -> Iterator[bytes]:
    """Never more than one in memory."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if compressed else path.open("rb", buffering=1 << 20) as file:
            while line := file.readline(LONGEST):
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(f"{path}: not a whole gzip file ({error}). Get it again.") from None


def split(line: bytes) -> list[Cell]:
    """The fields; the last, in official files nearly all of the row, is not copied."""
    start, end = line.rfind(b"\t") + 1, len(line) - line.endswith(b"\n") - line.endswith(b"\r\n")
    return [*line[:start].split(b"\t")[:-1], memoryview(line)[start:end]]


def field_names(cells: list[Cell], where: str) -> tuple[tuple[str, ...], bool]:
    """The names of the fields, by what the first row says or by how many there are; and whether it is a header."""
    given = tuple(bytes(cell[:20]).decode("latin-1").replace("image_", "img_") for cell in cells)
    if set(BOTTOM_UP) <= set(given) <= set(LXMERT) and len(set(given)) == len(given):
        return given, True
    if len(cells) not in (len(LXMERT), len(BOTTOM_UP)):
        raise CorpusError(f"{where}: found {len(cells)} fields, expected 10 (LXMERT) or 6. Is this the region file?")
    return (LXMERT if len(cells) == len(LXMERT) else BOTTOM_UP), False


def decode(cells: dict[str, Cell], where: str) -> Regions:
    name = field({"img_id": bytes(cells["img_id"]).decode("utf-8", "surrogateescape")}, "img_id", where)[0]
    width, height, count = (whole(cells, key, where) for key in ("img_w", "img_h", "num_boxes"))
    boxes = unit_boxes(array(cells, "boxes", "<f4", (count, 4), where), (width, height), where)
    features = array(cells, "features", "<f4", (count, -1), where)
    fields = {key: array(cells, key, kind, (count,), where) for key, kind in DETECTED.items() if key in cells}
    for key, values in fields.items():
        most = CLASSES if key.endswith("_id") else 1 + ROUNDING
        if not ((values >= 0) & (values <= most)).all():
            raise CorpusError(f"{where}: {key} are not classes, or not in 0..1. Extract them as little-endian numbers.")
    return Regions(name, features, boxes, where, (width, height), fields)


def whole(cells: dict[str, Cell], key: str, where: str) -> int:
    text = bytes(cells[key][:20]).decode("latin-1")
    if not re.fullmatch("[0-9]{1,6}", text) or not int(text):
        raise CorpusError(f"{where}: {key} is {ascii(text)}, expected a whole number above 0. Correct the row.")
    return int(text)


def array(cells: dict[str, Cell], key: str, kind: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        content = pybase64.b64decode(cells[key], validate=True)
    except binascii.Error as error:
        raise CorpusError(f"{where}: {key} is not base64 ({error}). Is the row cut?") from None
    size = math.prod(map(abs, shape)) * np.dtype(kind).itemsize
    if not content or (len(content) % size if -1 in shape else len(content) != size):
        expected = f"{size:,}{' or a multiple' * (-1 in shape)} for num_boxes {shape[0]}"
        raise CorpusError(f"{where}: {key} has {len(content):,} bytes, expected {expected}. Is the row cut?")
    return np.frombuffer(content, kind).reshape(shape)
