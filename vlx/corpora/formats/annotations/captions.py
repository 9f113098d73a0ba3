"""Captions as published: one example a caption.

coco-captions   <source>/dataset_coco.json, Karpathy's splits; his restval is part of train, as everywhere
flickr30k       <source>/dataset_flickr30k.json; or results.csv or results_20130124.token
flickr8k        <source>/dataset_flickr8k.json; or captions.txt or Flickr8k.token.txt
<source>/train.txt val.txt test.txt, of Flickr8k Flickr_8k.{train,dev,test}Images.txt: images by split, optional
regions and images, of COCO by its ids and of Flickr by file name without suffix (sources.py)

Without the lists, a tenth of the images each is held out for val and test (labels.hold_out). With them, captions of
images on no list are left out, as officially. Commas within captions.txt are quoted.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.labels import hold_out
from vlx.corpora.formats.records import load_json, object_list, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "val", "test")
KARPATHY_SPLITS = {"train": "train", "val": "val", "test": "test", "restval": "train"}
CSV_NAME = "captions.txt"
# a.jpg#0<tab>text; a.jpg| 0| text; of one official line the second | is absent
LINE = re.compile(r"([^#|]+?)(?:#|\s*\|\s*)(\d+)(?:\s*\|\s*|\s+)(.*)")


class CaptionFiles(NamedTuple):
    """names: of the captions, the first that exists is read. lists: of images, in the order of SPLITS."""

    names: tuple[str, ...]
    lists: tuple[str, ...] = ()


COCO_FILES = CaptionFiles(("dataset_coco.json",))
FLICKR30K_FILES = CaptionFiles(
    ("dataset_flickr30k.json", "results.csv", "results_20130124.token"), ("train.txt", "val.txt", "test.txt")
)
FLICKR8K_FILES = CaptionFiles(
    ("dataset_flickr8k.json", CSV_NAME, "Flickr8k.token.txt"),
    ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"),
)


def find(folder: Path, *, official: CaptionFiles) -> Files:
    """The captions, the lists of images if there are any, regions and images."""
    files = {"captions": first_existing(folder, *official.names)}
    if files["captions"].suffix != ".json" and any((folder / name).is_file() for name in official.lists):
        for split, name in zip(SPLITS, official.lists, strict=True):
            files[f"{split} list"] = first_existing(folder, name)
    return files | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write captions and images; returns the detector's name."""
    path = files["captions"]
    splits = defaultdict[str, list[Example]](list)
    if path.suffix == ".json":
        rows = karpathy(path)
    else:
        captions = list(plain(path))
        split_of = listed_splits(files) or hold_out((row.group for row in captions), ("val", "test"), path)
        rows = ((split_of[row.group], row) for row in captions if row.group in split_of)
    for split, row in rows:
        splits[split].append(row)
    for split in [name for name in SPLITS if name in splits]:
        writer.add_examples("retrieval", split, splits[split])
    mentions = {row.group: f"caption {row.identifier}" for rows in splits.values() for row in rows}
    return add_images(writer, files, mentions)


def caption(identifier: str, text: str, image: str) -> Example:
    return Example(identifier, text, [image], group=image)


def karpathy(path: Path) -> Iterator[tuple[str, Example]]:
    """(split, caption). An image's id is COCO's if there is one, else its file name without suffix."""
    images: set[str] = set()
    sentences: set[str] = set()
    for where, record in object_list(load_json(path, dict), "images", path):
        split = record.get("split")
        if not isinstance(split, str) or split not in KARPATHY_SPLITS:
            raise CorpusError(f"{where}: split is {ascii(split)[:60]}, expected one of {', '.join(KARPATHY_SPLITS)}.")
        if "cocoid" in record:
            image = official_id(record, "cocoid", where)
        else:
            image = Path(official_id(record, "filename", where)).stem
        unique(image, images, where, "image")
        for at, sentence in object_list(record, "sentences", where):
            number = unique(official_id(sentence, "sentid", at), sentences, at, "sentid")
            yield KARPATHY_SPLITS[split], caption(number, text_field(sentence, "raw", at), image)


def plain(path: Path) -> Iterator[Example]:
    """Captions of a file without splits, named as officially: file name of the image # number."""
    seen: set[str] = set()
    for where, file_name, number, text in csv_rows(path) if path.name == CSV_NAME else lines(path):
        name = text_field({"image": file_name}, "image", where)
        identifier = unique(f"{name}#{number}", seen, where, "caption")
        yield caption(identifier, text_field({"caption": text}, "caption", where), Path(name).stem)
    if not seen:
        raise CorpusError(f"{path}: found no captions, expected one a line. Is the download complete?")


def csv_rows(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(file:line, image, number, caption)"""
    reader = csv.reader(StringIO(text_of(path), newline=""), strict=True)
    counts = Counter[str]()
    try:
        rows = [(f"{path}:{reader.line_num}", row) for row in reader if row]
    except csv.Error as error:
        raise CorpusError(f"{path}:{reader.line_num}: {error}. Expected image,caption; is the quoting right?") from None
    for where, row in rows[:1]:
        if row != ["image", "caption"]:
            raise CorpusError(f"{where}: found {ascii(row)[:60]}, expected the heading image,caption. Add it.")
    for where, row in rows[1:]:
        if len(row) != 2:
            raise CorpusError(f"{where}: found {len(row)} columns, expected image,caption. Quote a text with commas.")
        yield where, row[0], str(counts[row[0]]), row[1]
        counts[row[0]] += 1


def lines(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(file:line, image, number, caption)"""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip() and not (number == 1 and line.startswith("image_name|")):
            match = LINE.fullmatch(line.rstrip("\r"))
            if not match:
                expected = "<image>.jpg#0<tab>caption or <image>.jpg| 0| caption"
                raise CorpusError(f"{path}:{number}: found {ascii(line)[:60]}, expected {expected}. Correct the line.")
            yield f"{path}:{number}", match[1], match[2], match[3]


def listed_splits(files: Files) -> dict[str, str]:
    """Image -> split, of the lists; empty without lists."""
    split_of: dict[str, str] = {}
    for split in [name for name in SPLITS if f"{name} list" in files]:
        path = files[f"{split} list"]
        for name in text_of(path).split():
            first = split_of.setdefault(Path(name).stem, split)
            if first != split:
                raise CorpusError(f"{path}: {name} is also of {first}. Get the lists again.")
    return split_of


def text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 ({error}). Is it the official file?") from None


COCO_CAPTIONS = Format(partial(find, official=COCO_FILES), read, id_space="coco", default_task="retrieval")
FLICKR30K = Format(partial(find, official=FLICKR30K_FILES), read)
FLICKR8K = Format(partial(find, official=FLICKR8K_FILES), read)
