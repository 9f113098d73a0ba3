"""SNLI-VE as published: does a picture of Flickr30k entail a sentence?

<source>/snli_ve_train.jsonl snli_ve_dev.jsonl snli_ve_test.jsonl   json lines; one of them will do
regions and pictures                                                by Flickr30k's numbers (sources.py)
"""

from collections.abc import Iterator
from pathlib import Path

from vlx.corpora.formats.files import Format, field, json_lines, some_of, unique, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "dev", "test")
LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2, "-": -1}  # -: the annotators did not agree
IMAGE = ("Flickr30K_ID", "Flikr30kID")  # of the official files, and of their first edition


def find(folder: Path) -> dict[str, Path]:
    return some_of(folder, {split: f"snli_ve_{split}.jsonl" for split in SPLITS}) | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write hypotheses and their pictures; returns the detector's name."""
    wanted: dict[str, str] = {}
    for split in [name for name in SPLITS if name in files]:
        writer.add_examples("snli_ve", split, hypotheses(files[split], wanted))
    return add_images(writer, files, wanted)


def hypotheses(path: Path, wanted: dict[str, str]) -> Iterator[Example]:
    """A split; the images are noted in `wanted`. The premise, a caption of the picture, is not for the model to see."""
    seen: set[str] = set()
    for where, record in json_lines(path):
        identifier = unique(field(record, "pairID", where)[0], seen, where, "pairID")
        label = record.get("gold_label")
        if not isinstance(label, str) or label not in LABELS:
            raise CorpusError(f"{where}: gold_label is {ascii(label)[:60]}, expected one of {', '.join(LABELS)}.")
        key = next((key for key in IMAGE if key in record), IMAGE[0])
        image = whole_or_text(record, key, where).removesuffix(".jpg")
        wanted.setdefault(image, where)
        yield Example(identifier, field(record, "sentence2", where)[0], [image], label=LABELS[label])


FORMATS = {"snli-ve": Format(find, read)}
