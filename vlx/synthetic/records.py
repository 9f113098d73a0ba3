"""What all writers of official files share: records, sets of images, JSON."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlx.synthetic.images import PARTS, Difficulty, ImageShapes, generate_images

Record = dict[str, Any]
Splits = dict[str, list[Record]]  # records of every split, by its official name
IMAGES_PER_PART = 10_000_000  # image ids: train from 0, validation from 10 million, test from 20 million


@dataclass(frozen=True)
class SetRequest:
    """Which set of images to generate."""

    split: str  # official name
    part: str  # one of images.PARTS
    index: int  # of the set in its split
    level: Difficulty
    count: int  # examples that the split still needs


@dataclass(frozen=True)
class ImageSet:
    """A generated set: shapes by image name, and the records about the images. An image without record is left out."""

    images: dict[str, ImageShapes]
    records: list[Record]


class ImageRecords(Protocol):
    """Generates the records of one image."""

    def __call__(self, rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]: ...


def first_number(part: str) -> int:
    """Return the smallest image id of a part."""
    return PARTS.index(part) * IMAGES_PER_PART


def per_image(
    image_records: ImageRecords, *, image_name: Callable[[int], str] = str, min_shapes: int = 1
) -> Callable[[random.Random, SetRequest], ImageSet]:
    """Return a generator of sets whose records are each about one image, of `min_shapes` shapes or more."""

    def generate(rng: random.Random, request: SetRequest) -> ImageSet:
        fewest, most = request.level.num_shapes
        level = request.level._replace(num_shapes=(max(fewest, min_shapes), max(most, min_shapes)))
        generated = generate_images(rng, request.part, level=level)
        images = dict(enumerate(generated, first_number(request.part) + request.index * len(generated)))
        records: list[Record] = []
        for image_id, shapes in images.items():
            records += image_records(rng, shapes, image_id=image_id)
        records = records[: request.count]
        used = {record["image_id"] for record in records}
        return ImageSet({image_name(image_id): images[image_id] for image_id in images if image_id in used}, records)

    return generate


def without(record: Record, *keys: str) -> Record:
    """Return a copy of a record that lacks some keys."""
    return {key: value for key, value in record.items() if key not in keys}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(path: Path, records: list[Record]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
