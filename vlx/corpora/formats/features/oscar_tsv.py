"""Oscar's and VinVL's region files as text. A row is image id, num_boxes and base64 of float32 [R,D+6], separated by
tabs, the last six numbers of a region x1 y1 x2 y2 w h in 0..1 of the image.

<name>_img_<type>_feats.tsv   and <name>_img_<type>_feats_offset_map.json: byte where a row starts, by image id
features.tsv                  and features.lineidx: byte where each row starts, one a line
                              and predictions.tsv: row for row, image id and JSON of a detector's predictions,
                              {"objects": [{"class": "dog", ...}, ...]}; the classes become the image's tags

The index and the predictions must agree with the rows.
"""

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from vlx.corpora.formats.features.lxmert_tsv import Cell, array, check_dim, lines, positive_int, split
from vlx.corpora.formats.features.oscar_pt import split_array
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.formats.records import load_json, object_list, text_field, unique
from vlx.errors import CorpusError

VINVL_FEATURES = "features.tsv"
PREDICTIONS = "predictions.tsv"
FIELDS = ("id", "num_boxes", "features")


def regions(path: Path) -> Iterator[RegionRecord]:
    """Image by image, in the order of the file."""
    predictions = path.with_name(PREDICTIONS)
    has_predictions = path.name == VINVL_FEATURES and predictions.is_file()
    return with_tags(features(path), predictions) if has_predictions else features(path)


def features(path: Path) -> Iterator[RegionRecord]:
    offsets = index(path)
    seen: set[str] = set()
    dim = 0
    offset = 0
    for number, line in enumerate(lines(path), 1):
        row = decode(line, f"{path}:{number}")
        dim = dim or row.features.shape[1]
        check_dim(row, dim)
        unique(row.image_id, seen, row.where, "image")
        if offsets and offsets.get(row.image_id, offsets.get(number)) != offset:
            raise CorpusError(f"{row.where}: starts at byte {offset:,}, its index has another. Get both again.")
        yield row
        offset += len(line)
    if not seen or (offsets and len(offsets) != len(seen)):
        raise CorpusError(f"{path}: found {len(seen):,} rows, expected {len(offsets) or 'some'}. Get it again.")


def index(path: Path) -> dict[str | int, int]:
    """Byte where a row starts, by image id or by number of the row; empty without an index."""
    by_name = path.with_name(f"{path.stem}_offset_map.json")
    by_number = path.with_suffix(".lineidx")
    if by_name.is_file():
        return load_json(by_name, dict)
    offsets = by_number.read_text(errors="replace").split() if by_number.is_file() else []
    return {
        number: int(start) if start.isascii() and start.isdecimal() else -1 for number, start in enumerate(offsets, 1)
    }


def decode(line: bytes, where: str) -> RegionRecord:
    cells: list[Cell] = split(line)
    if len(cells) != len(FIELDS):
        raise CorpusError(f"{where}: found {len(cells)} fields, expected {', '.join(FIELDS)}. Is the row cut?")
    row = dict(zip(FIELDS, cells, strict=True))
    name = text_field({"id": bytes(cells[0]).decode("utf-8", "surrogateescape")}, "id", where)
    rows = array(row, "features", "<f4", (positive_int(row, "num_boxes", where), -1), where)
    return RegionRecord(name, *split_array(rows, where), where)


def with_tags(rows: Iterator[RegionRecord], path: Path) -> Iterator[RegionRecord]:
    for number, (row, line) in enumerate(zip_longest(rows, lines(path)), 1):
        where = f"{path}:{number}"
        name, _, text = (line or b"").decode("utf-8", "surrogateescape").partition("\t")
        if row is None or name != row.image_id:
            image = row.image_id if row else "nothing"
            problem = f"row of {ascii(name)[:60]}, but of {image} in {VINVL_FEATURES}"
            raise CorpusError(f"{where}: {problem}. Get both again.")
        try:
            predictions = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error}). Is the row cut?") from None
        tags = tuple(text_field(record, "class", at) for at, record in object_list(predictions, "objects", where))
        yield row._replace(tags=tags)
