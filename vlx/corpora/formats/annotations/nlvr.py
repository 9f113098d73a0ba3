"""NLVR version 1 as published: statements about three boxes of one synthetic image.

<source>/train/train.json, dev/dev.json    JSON lines; structured_rep, the synthetic objects, is never read
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

from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.images import ImageFiles
from vlx.corpora.formats.labels import sentence_and_label
from vlx.corpora.formats.records import identified_lines, text_field
from vlx.corpora.regions import DETECTOR, detect
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.progress import meter

FOLDERS = ("train", "dev")
IMAGE_SIZE = (400, 100)
BOX_SIZE = (100, 100)
BOXES = ((0, 0, 100, 100), (150, 0, 250, 100), (300, 0, 400, 100))  # pixels; gray separators between
CACHED_IMAGES = 16  # each sentence about an image has a file of its own, one after the other
IDENTIFIER = re.compile(r"(\d+)-(\d+)", re.ASCII)  # sentence, image
VAL_SHARE = 0.1  # of train's statements, at least, in whole directories: images and sentences repeat within one


def find(folder: Path) -> Files:
    """train and dev, each with its images."""
    statements_by_folder = {name: first_existing(folder / name, f"{name}.json") for name in FOLDERS}
    images = {f"{name} images": first_existing(folder / name, "images", "images.tar") for name in FOLDERS}
    return statements_by_folder | images


def read(files: Files, writer: CorpusWriter) -> str:
    """Write statements and the regions of every box; returns the detector's name."""
    rows = {name: statements(files[name], name) for name in FOLDERS}
    with meter("images", sum(map(len, rows.values()))) as progress:
        for name in FOLDERS:
            images = ImageFiles(files[f"{name} images"], cache_size=CACHED_IMAGES)
            for _, row in rows[name]:
                add_boxes(writer, images, row)
                progress.advance()
    val = val_directories((directory for directory, _ in rows["train"]), files["train"])
    writer.add_examples("nlvr", "train", [row for directory, row in rows["train"] if directory not in val])
    writer.add_examples("nlvr", "val", [row for directory, row in rows["train"] if directory in val])
    writer.add_examples("nlvr", "dev", [row for _, row in rows["dev"]])
    return DETECTOR


def add_boxes(writer: CorpusWriter, images: ImageFiles, row: Example) -> None:
    """Write the three boxes of a statement's image as three images of the corpus."""
    name = row.image_ids[0].removesuffix("-box0")
    _, image = images.read(name, f"statement {row.identifier}")
    if image.size != IMAGE_SIZE:
        sizes = f"{image.size}, expected {IMAGE_SIZE} pixels"
        raise CorpusError(f"{images.sources}: image {name} is {sizes}. Get it again.")
    pixels = np.asarray(image)
    for image_id, (left, top, right, bottom) in zip(row.image_ids, BOXES, strict=True):
        features, boxes, file = detect_in_box(pixels[top:bottom, left:right].tobytes())
        writer.add_image(image_id, features, boxes, size=BOX_SIZE, data=file)


@lru_cache(maxsize=1_000)  # towers, and images of several sentences, repeat
def detect_in_box(pixels: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Features and boxes of the regions of one box, and its PNG."""
    box = Image.frombytes("RGB", BOX_SIZE, pixels)
    file = BytesIO()
    box.save(file, "png", compress_level=1)
    return *detect(box), file.getvalue()


def statements(path: Path, split: str) -> list[tuple[str, Example]]:
    """(directory, statement); statements of one sentence are a group: n of the identifier n-m."""
    rows = []
    for where, match, record in identified_lines(path, IDENTIFIER, "<sentence>-<image>"):
        text, label = sentence_and_label(record, where)
        images = [f"{split}-{match[0]}-0-box{box}" for box in range(len(BOXES))]
        row = Example(match[0], text, images, label=label, group=match[1])
        rows.append((text_field(record, "directory", where), row))
    return rows


def val_directories(directories: Iterable[str], path: Path) -> set[str]:
    """Directories held out of train, in an order that depends on their names alone."""
    sizes = Counter(directories)
    if len(sizes) < 2:
        raise CorpusError(f"{path}: all statements are of one directory, expected two or more to hold one out for val.")
    val: set[str] = set()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if sum(sizes[directory] for directory in val) < VAL_SHARE * sizes.total():
            val.add(name)
    return val


NLVR = Format(find, read)
