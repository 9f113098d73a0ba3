"""Yes-or-no questions.

<source>/toy_train.jsonl toy_val.jsonl toy_test.jsonl   JSON lines: id, image, question, answer
<source>/regions/<image>.npz                            features [R,D] and boxes [R,4] (features/npz.py)
"""

import re
from collections.abc import Iterator
from pathlib import Path

from vlx.corpora.formats.folders import existing_files
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import json_lines, text_field
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter

SPLITS = ("train", "val", "test")
ANSWERS = ("no", "yes")
ANSWER = re.compile("no|yes")


def find(folder: Path) -> Files:
    return existing_files(folder, {split: f"toy_{split}.jsonl" for split in SPLITS}) | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write questions and images; returns the detector's name."""
    mentions: dict[str, str] = {}
    for split in SPLITS:
        writer.add_examples("toy", split, questions(files[split], mentions))
    return add_images(writer, files, mentions)


def questions(path: Path, mentions: dict[str, str]) -> Iterator[Example]:
    """A split; image ids are added to `mentions`."""
    for where, record in json_lines(path):
        image = text_field(record, "image", where)
        label = ANSWERS.index(text_field(record, "answer", where, ANSWER, "no or yes"))
        mentions.setdefault(image, where)
        yield Example(text_field(record, "id", where), text_field(record, "question", where), [image], label=label)


TOY = Format(find, read, default_task="toy")
