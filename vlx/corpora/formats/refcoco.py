"""RefCOCO, RefCOCO+ and RefCOCOg as published: expressions, each for one object of a picture.

<source>/refs(unc).p, refs(umd).p or refs(google).p   pickled list of objects with their expressions and split
<source>/instances.json                               their pictures' sizes, and boxes in pixels, as COCO's
regions and pictures                                  by COCO's image ids (sources.py)
Both files may also lie in a sub-folder named as the format.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlx.corpora.formats.files import Format, field, listed, load_json, require, unique, unit_boxes, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

BY = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}  # who split it, first choice
SPLITS = ("train", "val", "testA", "testB", "test")
HELD_OUT = "mteval"
IDS = ("ref_id", "ann_id", "image_id")
MOST = 1_000_000  # pixels
Record = dict[str, Any]


def find(folder: Path, name: str) -> dict[str, Path]:
    home = folder / name if (folder / name / "instances.json").is_file() else folder
    refs = require(home, *(f"refs({by}).p" for by in BY[name]))
    return {"refs": refs, "instances": require(home, "instances.json")} | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter, *, name: str, removed: Collection[str] = ()) -> str:
    """removed: images whose training expressions become the split mteval. Returns the detector's name."""
    splits, wanted = defaultdict[str, list[Example]](list), dict[str, str]()
    for split, row in expressions(files["refs"], annotations(files["instances"])):
        splits[HELD_OUT if split == "train" and row.image_ids[0] in removed else split].append(row)
        wanted.setdefault(row.image_ids[0], f"expression {row.identifier}")
    for split in sorted(splits, key=(*SPLITS, HELD_OUT).index):
        writer.add_examples(name, split, splits[split])
    return add_images(writer, files, wanted)


def annotations(path: Path) -> dict[str, Record]:
    """By id: the picture and its size in pixels, the object's box in 0..1 and category."""
    content, found, names = load_json(path, dict), dict[str, Record](), dict[str, str]()
    sizes, images, numbers = dict[str, tuple[int, int]](), set[str](), set[str]()
    for where, one in listed(content, "images", path):
        sizes[unique(whole_or_text(one, "id", where), images, where, "image")] = sides(one, where)
    for where, one in listed(content, "categories", path):
        names[whole_or_text(one, "id", where)] = field(one, "name", where)[0]
    for where, one in listed(content, "annotations", path):
        number, image, category = (whole_or_text(one, key, where) for key in ("id", "image_id", "category_id"))
        if image not in sizes or category not in names:
            raise CorpusError(f"{where}: image {image} or category {category} is not in the file. Get it again.")
        box = box_of(one.get("bbox"), sizes[image], where)
        about = {"image": image, "size": sizes[image], "box": box, "category": names[category]}
        found[unique(number, numbers, where, "annotation")] = about
    return found


def expressions(path: Path, known: Mapping[str, Record]) -> Iterator[tuple[str, Example]]:
    """(split, expression) in the order of the file; those of one object are a group."""
    seen: set[str] = set()
    for where, ref in listed(load_pickle(path), "refs", path):
        split, (group, number, image) = ref.get("split"), (whole_or_text(ref, key, where) for key in IDS)
        about = known.get(number, {"image": None})
        if split not in SPLITS or about["image"] != image:
            found = f"annotation {number} of image {image} in split {split!a}"
            raise CorpusError(f"{where}: {found}, expected one of instances.json in one of {', '.join(SPLITS)}.")
        extra = json.dumps({"ann_id": number, "size": about["size"]})
        for at, said in listed(ref, "sentences", where):
            name, text = unique(whole_or_text(said, "sent_id", at), seen, at, "sentence"), field(said, "raw", at)[0]
            row = Example(
                name, text, [image], boxes=[about["box"]], group=group, category=about["category"], extra=extra
            )
            yield split, row


def sides(record: Record, where: str) -> tuple[int, int]:
    """Width and height in pixels."""
    width, height = (record.get(key) for key in ("width", "height"))
    if type(width) is not int or type(height) is not int or not 0 < min(width, height) <= max(width, height) < MOST:
        found = f"width {width!a:.20} and height {height!a:.20}"
        raise CorpusError(f"{where}: {found}, expected pixels. Correct the file.")
    return width, height


def box_of(numbers: Any, size: tuple[int, int], where: str, *, clip: bool = False) -> list[float]:
    """x y width height in pixels -> x1 y1 x2 y2 in 0..1. clip: what is beyond the picture is cut off, not refused."""
    right = isinstance(numbers, list) and len(numbers) == 4 and {int, float}.issuperset(map(type, numbers))
    if not right or not max(map(abs, numbers)) < MOST or min(numbers[2:]) < 0:
        raise CorpusError(f"{where}: box is {ascii(numbers)[:60]}, expected x y width height. Correct the file.")
    x, y, width, height = numbers
    corners = np.array([[x, y, x + width, y + height]], np.float32)
    return unit_boxes(corners.clip(0, [*size, *size]) if clip else corners, size, where)[0].tolist()


FORMATS = {name: Format(partial(find, name=name), partial(read, name=name)) for name in BY}
