"""RefCOCO, RefCOCO+ and RefCOCOg as published: expressions, each for one object of an image.

<source>/refs(unc).p, refs(umd).p or refs(google).p   pickled list of objects with their expressions and split
<source>/instances.json                               sizes of the images, and boxes in pixels, as COCO's
regions and images                                    by COCO's image ids (sources.py)
Both files may also lie in a sub-folder named as the format.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vlx.corpora.formats.boxes import image_size, unit_box
from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import Record, load_json, object_list, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.pickles import load_pickle
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLIT_AUTHORS = {"refcoco": ("unc", "google"), "refcoco+": ("unc",), "refcocog": ("umd", "google")}  # by preference
SPLITS = ("train", "val", "testA", "testB", "test")
HELD_OUT = "mteval"


class Annotation(NamedTuple):
    """An annotated object."""

    image: str
    size: tuple[int, int]  # of the image in pixels
    box: list[float]  # x1 y1 x2 y2 in 0..1
    category: str


def find(folder: Path, name: str) -> Files:
    home = folder / name if (folder / name / "instances.json").is_file() else folder
    refs = first_existing(home, *(f"refs({author}).p" for author in SPLIT_AUTHORS[name]))
    return {"refs": refs, "instances": first_existing(home, "instances.json")} | find_images(folder)


def read(files: Files, writer: CorpusWriter, *, name: str, removed: Collection[str] = ()) -> str:
    """removed: images whose training expressions become the split mteval. Returns the detector's name."""
    splits = defaultdict[str, list[Example]](list)
    mentions: dict[str, str] = {}
    for split, row in expressions(files["refs"], annotations(files["instances"])):
        image = row.image_ids[0]
        splits[HELD_OUT if split == "train" and image in removed else split].append(row)
        mentions.setdefault(image, f"expression {row.identifier}")
    for split in sorted(splits, key=(*SPLITS, HELD_OUT).index):
        writer.add_examples(name, split, splits[split])
    return add_images(writer, files, mentions)


def annotations(path: Path) -> dict[str, Annotation]:
    """By annotation id."""
    content = load_json(path, dict)
    sizes: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    for where, record in object_list(content, "images", path):
        sizes[unique(official_id(record, "id", where), seen, where, "image")] = image_size(record, where)
    categories: dict[str, str] = {}
    for where, record in object_list(content, "categories", path):
        categories[official_id(record, "id", where)] = text_field(record, "name", where)
    by_id: dict[str, Annotation] = {}
    seen = set()
    for where, record in object_list(content, "annotations", path):
        number = unique(official_id(record, "id", where), seen, where, "annotation")
        by_id[number] = annotation(record, sizes, categories, where)
    return by_id


def annotation(
    record: Record, sizes: Mapping[str, tuple[int, int]], categories: Mapping[str, str], where: str
) -> Annotation:
    image = official_id(record, "image_id", where)
    category = official_id(record, "category_id", where)
    if image not in sizes or category not in categories:
        raise CorpusError(f"{where}: image {image} or category {category} is not in the file. Get it again.")
    box = unit_box(record.get("bbox"), sizes[image], where)
    return Annotation(image, sizes[image], box, categories[category])


def expressions(path: Path, annotated: Mapping[str, Annotation]) -> Iterator[tuple[str, Example]]:
    """(split, expression) in the order of the file; expressions of one object are a group."""
    seen: set[str] = set()
    for where, ref in object_list(load_pickle(path), "refs", path):
        split = ref.get("split")
        group = official_id(ref, "ref_id", where)
        number = official_id(ref, "ann_id", where)
        image = official_id(ref, "image_id", where)
        if split not in SPLITS or number not in annotated or annotated[number].image != image:
            problem = f"annotation {number} of image {image} in split {split!a}"
            raise CorpusError(f"{where}: {problem}, expected one of instances.json in one of {', '.join(SPLITS)}.")
        target = annotated[number]
        extra = json.dumps({"ann_id": number, "size": target.size})
        for at, sentence in object_list(ref, "sentences", where):
            name = unique(official_id(sentence, "sent_id", at), seen, at, "sentence")
            text = text_field(sentence, "raw", at)
            yield (
                split,
                Example(name, text, [image], boxes=[target.box], group=group, category=target.category, extra=extra),
            )


def format_of(name: str) -> Format:
    return Format(partial(find, name=name), partial(read, name=name), id_space="coco")


REFCOCO = format_of("refcoco")
REFCOCO_PLUS = format_of("refcoco+")
REFCOCOG = format_of("refcocog")
