"""NLVR version 1 as published: statements about three boxes of one synthetic picture.

<source>/train/train.json, dev/dev.json    json lines; structured_rep, the drawn objects, is never read
<source>/train/images/ or images.tar    <directory>/train-<n>-<m>-0.png, likewise dev; other permutations are not read
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vlx.corpora.formats.files import Format, field, records, require, sentence_and_label
from vlx.corpora.formats.pictures import Pictures
from vlx.corpora.regions import DETECTOR, detect
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.progress import meter

FOLDERS = ("train", "dev")
PICTURE_SIZE = (400, 100)
BOX_SIZE = (100, 100)
BOXES = ((0, 0, 100, 100), (150, 0, 250, 100), (300, 0, 400, 100))  # pixels; grey separators between
KEPT = 16  # pictures: each sentence about one has a file of its own, one after the other
IDENTIFIER = re.compile(r"(\d+)-(\d+)", re.ASCII)  # sentence, picture
VAL_SHARE = 0.1  # of train's statements, at least, in whole directories: pictures and sentences repeat within one


def find(folder: Path) -> dict[str, Path]:
    """train and dev, each with its pictures."""
    lines = {name: require(folder / name, f"{name}.json") for name in FOLDERS}
    return lines | {f"{name} pictures": require(folder / name, "images", "images.tar") for name in FOLDERS}


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write statements and the regions of every box; returns the detector's name."""
    found = {name: statements(files[name], name) for name in FOLDERS}
    with meter("pictures", sum(map(len, found.values()))) as progress:
        for name, rows in found.items():
            pictures = Pictures(files[f"{name} pictures"], kept=KEPT)
            for _, row in rows:
                shown = row.image_ids[0].removesuffix("-box0")
                _, picture = pictures.read(shown, f"statement {row.identifier}")
                if picture.size != PICTURE_SIZE:
                    sizes = f"{picture.size}, expected {PICTURE_SIZE} pixels"
                    raise CorpusError(f"{pictures.sources}: picture {shown} is {sizes}. Get it again.")
                pixels = np.asarray(picture)
                for image_id, (left, top, right, bottom) in zip(row.image_ids, BOXES, strict=True):
                    features, boxes, file = seen(pixels[top:bottom, left:right].tobytes())
                    writer.add_image(image_id, features, boxes, size=BOX_SIZE, data=file)
                progress.advance()
    held_out = val_directories((directory for directory, _ in found["train"]), files["train"])
    writer.add_examples("nlvr", "train", [row for directory, row in found["train"] if directory not in held_out])
    writer.add_examples("nlvr", "val", [row for directory, row in found["train"] if directory in held_out])
    writer.add_examples("nlvr", "dev", [row for _, row in found["dev"]])
    return DETECTOR


@lru_cache(maxsize=1_000)
def seen(pixels: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Features and boxes of the regions of one box, and its png: towers, and pictures of several sentences, come again
    and again."""
    box, file = Image.frombytes("RGB", BOX_SIZE, pixels), BytesIO()
    box.save(file, "png", compress_level=1)
    return *detect(box), file.getvalue()


def statements(path: Path, split: str) -> list[tuple[str, Example]]:
    """(directory, statement); statements of one sentence are a group: n of the identifier n-m."""
    found = []
    for where, match, record in records(path, IDENTIFIER, "<sentence>-<picture>"):
        text, label = sentence_and_label(record, where)
        images = [f"{split}-{match[0]}-0-box{box}" for box in range(len(BOXES))]
        row = Example(match[0], text, images, label=label, group=match[1])
        found.append((field(record, "directory", where)[0], row))
    return found


def val_directories(directories: Iterable[str], path: Path) -> set[str]:
    """Directories held out of train, in an order that depends on their names alone."""
    sizes = Counter(directories)
    if len(sizes) < 2:
        raise CorpusError(f"{path}: all statements are of one directory, expected two or more to hold one out for val.")
    held_out: set[str] = set()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if sum(sizes[taken] for taken in held_out) < VAL_SHARE * sizes.total():
            held_out.add(name)
    return held_out


FORMATS = {"nlvr": Format(find, read)}
