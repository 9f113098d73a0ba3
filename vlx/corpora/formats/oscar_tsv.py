"""Oscar's and VinVL's region files as text. A row is image id, num_boxes and base64 of float32 [R,D+6], parted by tabs,
the last six numbers of a region x1 y1 x2 y2 w h in 0..1 of the picture.

<name>_img_<type>_feats.tsv   and <name>_img_<type>_feats_offset_map.json: byte where a row starts, by image id
features.tsv                  and features.lineidx: byte where each row starts, one a line
                              and predictions.tsv: row for row, image id and JSON of what a detector saw there,
                              {"objects": [{"class": "dog", ...}, ...]}; the classes become the picture's tags

What lies beside the rows must agree with them.
"""

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from vlx.corpora.formats.files import Regions, field, listed, load_json, unique
from vlx.corpora.formats.lxmert_tsv import Cell, array, lines, split, whole
from vlx.corpora.formats.oscar_pt import split_array
from vlx.errors import CorpusError

VINVL, PREDICTIONS = "features.tsv", "predictions.tsv"


def regions(path: Path) -> Iterator[Regions]:
    """Image by image, in the order of the file."""
    told = path.with_name(PREDICTIONS)
    return with_tags(features(path), told) if path.name == VINVL and told.is_file() else features(path)


def features(path: Path) -> Iterator[Regions]:
    starts, seen, at, width = index(path), set[str](), 0, 0
    for number, line in enumerate(lines(path), 1):
        row = decode(line, f"{path}:{number}")
        width = width or row.features.shape[1]
        if row.features.shape[1] != width:
            found = f"features of {row.features.shape[1]} numbers, of {width} in the rows before"
            raise CorpusError(f"{row.where}: {found}. Is the row cut?")
        unique(row.image_id, seen, row.where, "image")
        if starts and starts.get(row.image_id, starts.get(number)) != at:
            raise CorpusError(f"{row.where}: starts at byte {at:,}, not where its index says. Get both again.")
        yield row
        at += len(line)
    if not seen or (starts and len(starts) != len(seen)):
        raise CorpusError(f"{path}: found {len(seen):,} rows, expected {len(starts) or 'some'}. Get it again.")


def index(path: Path) -> dict[str | int, int]:
    """Byte where a row starts, by image id or by number of the row; empty if nothing says it."""
    by_name, by_number = path.with_name(f"{path.stem}_offset_map.json"), path.with_suffix(".lineidx")
    if by_name.is_file():
        return load_json(by_name, dict)
    starts = by_number.read_text(errors="replace").split() if by_number.is_file() else []
    return {
        number: int(start) if start.isascii() and start.isdecimal() else -1 for number, start in enumerate(starts, 1)
    }


def decode(line: bytes, where: str) -> Regions:
    cells: list[Cell] = split(line)
    if len(cells) != 3:
        raise CorpusError(f"{where}: found {len(cells)} fields, expected id, num_boxes, features. Is the row cut?")
    row = dict(zip(("id", "num_boxes", "features"), cells, strict=True))
    name = field({"id": bytes(cells[0]).decode("utf-8", "surrogateescape")}, "id", where)[0]
    rows = array(row, "features", "<f4", (whole(row, "num_boxes", where), -1), where)
    return Regions(name, *split_array(rows, where), where)


def with_tags(rows: Iterator[Regions], path: Path) -> Iterator[Regions]:
    for number, (row, line) in enumerate(zip_longest(rows, lines(path)), 1):
        where = f"{path}:{number}"
        name, _, text = (line or b"").decode("utf-8", "surrogateescape").partition("\t")
        if row is None or name != row.image_id:
            found = f"row of {ascii(name)[:60]}, but of {row.image_id if row else 'nothing'} in {VINVL}"
            raise CorpusError(f"{where}: {found}. Get both again.")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error}). Is the row cut?") from None
        tags = tuple(field(one, "class", at)[0] for at, one in listed(said, "objects", where))
        yield row._replace(tags=tags)
