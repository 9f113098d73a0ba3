"""NLVR2 as published: JSON lines, regions of every image, and the image files if there are any.

<source>/train.json dev.json test1.json   JSON lines; at least one
regions and images                        of <split>-<set>-<pair>-img0 and -img1 (sources.py)
"""

import re
from pathlib import Path

from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.labels import sentence_and_label
from vlx.corpora.formats.records import identified_lines, text_field
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "dev", "test1")
IDENTIFIER = re.compile(r"([A-Za-z0-9]+)-(\d+)-(\d+)-(\d+)", re.ASCII)  # split, set, pair, sentence


def find(folder: Path) -> Files:
    """The splits that exist, regions and images."""
    splits = {split: path for split in SPLITS if (path := folder / f"{split}.json").is_file()}
    if not splits:
        raise CorpusError(f"{folder}: found none of train.json, dev.json, test1.json. Check source.")
    return splits | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write statements, regions and images; returns the detector's name."""
    splits = {split: statements(files[split]) for split in SPLITS if split in files}
    examples = [row for rows in splits.values() for row in rows]
    for split, rows in splits.items():
        writer.add_examples("nlvr2", split, rows)
    mentions = {image_id: f"statement {row.identifier}" for row in examples for image_id in row.image_ids}
    return add_images(writer, files, mentions)


def statements(path: Path) -> list[Example]:
    """A split. Statements of one sentence, over its four pairs, are a group: the identifier without its pair."""
    rows = []
    for where, match, record in identified_lines(path, IDENTIFIER, "<split>-<set>-<pair>-<sentence>"):
        text, label = sentence_and_label(record, where)
        split, number, pair, sentence = match.groups()
        images = [f"{split}-{number}-{pair}-img0", f"{split}-{number}-{pair}-img1"]
        group = f"{split}-{number}--{sentence}"
        category = text_field(record, "synset", where) if record.get("synset") else ""
        rows.append(Example(match[0], text, images, label=label, group=group, category=category))
    return rows


NLVR2 = Format(find, read)
