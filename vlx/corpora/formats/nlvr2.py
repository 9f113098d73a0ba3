"""NLVR2 as published: json lines, regions of every picture, and the pictures where there are any.

<source>/train.json dev.json test1.json   json lines; one of them will do
regions and pictures                      of <split>-<set>-<pair>-img0 and -img1 (sources.py)
"""

import re
from pathlib import Path

from vlx.corpora.formats.files import Format, field, records, sentence_and_label
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "dev", "test1")
IDENTIFIER = re.compile(r"([A-Za-z0-9]+)-(\d+)-(\d+)-(\d+)", re.ASCII)  # split, set, pair, sentence


def find(folder: Path) -> dict[str, Path]:
    """The splits there are, regions and pictures."""
    splits = {split: path for split in SPLITS if (path := folder / f"{split}.json").is_file()}
    if not splits:
        raise CorpusError(f"{folder}: found none of train.json, dev.json, test1.json. Check source.")
    return splits | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write statements, regions and pictures; returns the detector's name."""
    splits = {split: statements(files[split]) for split in SPLITS if split in files}
    wanted = {name: f"statement {row.identifier}" for rows in splits.values() for row in rows for name in row.image_ids}
    for split, rows in splits.items():
        writer.add_examples("nlvr2", split, rows)
    return add_images(writer, files, wanted)


def statements(path: Path) -> list[Example]:
    """A split. Statements of one sentence, over its four pairs, are a group: the identifier without its pair."""
    found = []
    for where, match, record in records(path, IDENTIFIER, "<split>-<set>-<pair>-<sentence>"):
        text, label = sentence_and_label(record, where)
        split, number, pair, sentence = match.groups()
        group, images = f"{split}-{number}--{sentence}", [f"{split}-{number}-{pair}-img{side}" for side in (0, 1)]
        category = field(record, "synset", where)[0] if record.get("synset") else ""
        found.append(Example(match[0], text, images, label=label, group=group, category=category))
    return found


FORMATS = {"nlvr2": Format(find, read)}
