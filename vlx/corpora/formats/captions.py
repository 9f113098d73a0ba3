"""Captions as published: what people say of a picture, one example a caption.

coco-captions   <source>/dataset_coco.json, Karpathy's splits; his restval is part of train, as everywhere
flickr30k       <source>/dataset_flickr30k.json; or results.csv or results_20130124.token
flickr8k        <source>/dataset_flickr8k.json; or captions.txt or Flickr8k.token.txt
<source>/train.txt val.txt test.txt, of Flickr8k Flickr_8k.{train,dev,test}Images.txt: pictures by split, if at hand
regions and pictures, of COCO by its ids and of Flickr by file name without suffix (sources.py)

Without the lists, a tenth of the pictures each is held out for val and test (files.held_out). With them, captions of
pictures on none are left out, as officially. Commas within captions.txt are quoted.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from io import StringIO
from pathlib import Path

from vlx.corpora.formats.files import Format, field, held_out, listed, load_json, require, unique, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = ("train", "val", "test")
KARPATHY = {split: split for split in SPLITS} | {"restval": "train"}
COMMAS = "captions.txt"
CAPTIONS = {  # files by format; the first that is there is read
    "coco-captions": ("dataset_coco.json",),
    "flickr30k": ("dataset_flickr30k.json", "results.csv", "results_20130124.token"),
    "flickr8k": ("dataset_flickr8k.json", COMMAS, "Flickr8k.token.txt"),
}
LISTS = {  # of pictures, in the order of SPLITS
    "flickr30k": ("train.txt", "val.txt", "test.txt"),
    "flickr8k": ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt"),
}
LINE = re.compile(r"([^#|]+?)(?:#|\s*\|\s*)(\d+)(?:\s*\|\s*|\s+)(.*)")  # a.jpg#0 text; a.jpg| 0| text; one lacks a |


def find(folder: Path, *, name: str) -> dict[str, Path]:
    """The captions, the lists of pictures if there are any, regions and pictures."""
    found, lists = {"captions": require(folder, *CAPTIONS[name])}, LISTS.get(name, ())
    if found["captions"].suffix != ".json" and any((folder / part).is_file() for part in lists):
        found |= {f"{split} list": require(folder, part) for split, part in zip(SPLITS, lists, strict=True)}
    return found | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write captions and pictures; returns the detector's name."""
    path, splits = files["captions"], defaultdict[str, list[Example]](list)
    if path.suffix == ".json":
        rows = karpathy(path)
    else:
        captions = list(plain(path))
        split_of = listed_splits(files) or held_out((row.group for row in captions), ("val", "test"), path)
        rows = ((split_of[row.group], row) for row in captions if row.group in split_of)
    for split, row in rows:
        splits[split].append(row)
    for split in [name for name in SPLITS if name in splits]:
        writer.add_examples("retrieval", split, splits[split])
    wanted = {row.group: f"caption {row.identifier}" for rows in splits.values() for row in rows}
    return add_images(writer, files, wanted)


def caption(identifier: str, text: str, image: str) -> Example:
    return Example(identifier, text, [image], group=image)


def karpathy(path: Path) -> Iterator[tuple[str, Example]]:
    """(split, caption). A picture's id is COCO's where there is one, else its file name without suffix."""
    images, sentences = set[str](), set[str]()
    for where, record in listed(load_json(path, dict), "images", path):
        split = record.get("split")
        if not isinstance(split, str) or split not in KARPATHY:
            raise CorpusError(f"{where}: split is {ascii(split)[:60]}, expected one of {', '.join(KARPATHY)}.")
        name = whole_or_text(record, "cocoid" if "cocoid" in record else "filename", where)
        image = unique(name if "cocoid" in record else Path(name).stem, images, where, "picture")
        for at, said in listed(record, "sentences", where):
            number = unique(whole_or_text(said, "sentid", at), sentences, at, "sentid")
            yield KARPATHY[split], caption(number, field(said, "raw", at)[0], image)


def plain(path: Path) -> Iterator[Example]:
    """Captions of a file that tells no splits, named as officially: file name of the picture # number."""
    seen: set[str] = set()
    for where, picture, number, text in comma_separated(path) if path.name == COMMAS else lines(path):
        name = field({"image": picture}, "image", where)[0]
        identifier = unique(f"{name}#{number}", seen, where, "caption")
        yield caption(identifier, field({"caption": text}, "caption", where)[0], Path(name).stem)
    if not seen:
        raise CorpusError(f"{path}: found no captions, expected one a line. Is the download complete?")


def comma_separated(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """(file:line, picture, number, caption)"""
    reader, counts = csv.reader(StringIO(text_of(path), newline=""), strict=True), Counter[str]()
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
    """(file:line, picture, number, caption)"""
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip() and not (number == 1 and line.startswith("image_name|")):
            match = LINE.fullmatch(line.rstrip("\r"))
            if not match:
                expected = "<picture>.jpg#0<tab>caption or <picture>.jpg| 0| caption"
                raise CorpusError(f"{path}:{number}: found {ascii(line)[:60]}, expected {expected}. Correct the line.")
            yield f"{path}:{number}", match[1], match[2], match[3]


def listed_splits(files: dict[str, Path]) -> dict[str, str]:
    """Picture -> split, of the lists; empty without any."""
    found: dict[str, str] = {}
    for split in [name for name in SPLITS if f"{name} list" in files]:
        for name in text_of(files[f"{split} list"]).split():
            if found.setdefault(Path(name).stem, split) != split:
                raise CorpusError(
                    f"{files[f'{split} list']}: {name} is also of {found[Path(name).stem]}. Get the lists again."
                )
    return found


def text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 ({error}). Is it the official file?") from None


FORMATS = {name: Format(partial(find, name=name), read) for name in CAPTIONS}
