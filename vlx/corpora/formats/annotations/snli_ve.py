"""SNLI-VE as published: does an image of Flickr30k entail a sentence?

<source>/snli_ve_train.jsonl snli_ve_dev.jsonl snli_ve_test.jsonl   JSON lines; at least one
regions and images                                                  by Flickr30k's numbers (sources.py)
"""

from collections.abc import Iterator
from pathlib import Path

from vlx.corpora.formats.folders import existing_files
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import json_lines, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "dev", "test")
LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2, "-": -1}  # -: the annotators did not agree
IMAGE_KEYS = ("Flickr30K_ID", "Flikr30kID")  # of the official files, and of their first edition


def find(folder: Path) -> Files:
    return existing_files(folder, {split: f"snli_ve_{split}.jsonl" for split in SPLITS}) | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write hypotheses and their images; returns the detector's name."""
    mentions: dict[str, str] = {}
    for split in [name for name in SPLITS if name in files]:
        writer.add_examples("snli_ve", split, hypotheses(files[split], mentions))
    return add_images(writer, files, mentions)


def hypotheses(path: Path, mentions: dict[str, str]) -> Iterator[Example]:
    """A split; image ids are added to `mentions`. The premise, a caption of the image, is not an input."""
    seen: set[str] = set()
    for where, record in json_lines(path):
        identifier = unique(text_field(record, "pairID", where), seen, where, "pairID")
        label = record.get("gold_label")
        if not isinstance(label, str) or label not in LABELS:
            raise CorpusError(f"{where}: gold_label is {ascii(label)[:60]}, expected one of {', '.join(LABELS)}.")
        key = next((key for key in IMAGE_KEYS if key in record), IMAGE_KEYS[0])
        image = official_id(record, key, where).removesuffix(".jpg")
        mentions.setdefault(image, where)
        yield Example(identifier, text_field(record, "sentence2", where), [image], label=LABELS[label])


SNLI_VE = Format(find, read, default_task="snli_ve")
