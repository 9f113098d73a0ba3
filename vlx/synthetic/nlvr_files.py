"""NLVR's files: sets of four images, and sentences that are each true of exactly two of them (Suhr et al. 2017)."""

import random
import tarfile
from collections.abc import Container
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from vlx.synthetic.images import Difficulty, add_file, part_of, png
from vlx.synthetic.nlvr_images import SCATTERED, TOWERS, Arrangement, Boxes, generate_boxes, render, shuffled
from vlx.synthetic.nlvr_statements import SCATTER_STATEMENTS, TOWER_STATEMENTS, Maker, make_statement, random_makers
from vlx.synthetic.records import ImageSet, Record, SetRequest, Splits, first_number, write_lines

NUM_IMAGES = 4  # of a set
NUM_SENTENCES = 5  # of a set, at most
TOWER_SHARE = 0.47  # of the sets, as published
TRIES = 60  # statements of one kind before the next kind


class SetKind(NamedTuple):
    """What the boxes of a set hold, and the kinds of statements about them with their weights."""

    arrangement: Arrangement
    statements: dict[Maker, float]


TOWER_SET = SetKind(TOWERS, TOWER_STATEMENTS)
SCATTER_SET = SetKind(SCATTERED, SCATTER_STATEMENTS)


class Sentence(NamedTuple):
    """A statement of a set. `labels`: whether it is true of each image."""

    text: str
    labels: list[bool]


def generate_nlvr(rng: random.Random, request: SetRequest) -> ImageSet:
    """Return records that hold their boxes, which write_nlvr renders: the set itself has no images to detect in."""
    missing = -(-request.count // NUM_IMAGES)  # sentences, rounded up
    images, sentences = generate_set(rng, request.part, level=request.level, num_sentences=min(NUM_SENTENCES, missing))
    first = first_number(request.part)
    records: list[Record] = [
        {
            "identifier": f"{first + request.index * NUM_SENTENCES + number}-{image}",
            "sentence": sentence.text,
            "label": str(label).lower(),
            "directory": str(first + request.index),
            "boxes": images[image],
        }
        for number, sentence in enumerate(sentences)
        for image, label in enumerate(sentence.labels)
    ]
    return ImageSet({}, records)


def generate_set(
    rng: random.Random, part: str, *, level: Difficulty, num_sentences: int
) -> tuple[list[Boxes], list[Sentence]]:
    """Return four images and sentences about them."""
    while True:  # a set with too few balanced statements is replaced
        kind = TOWER_SET if rng.random() < TOWER_SHARE else SCATTER_SET
        images = generate_images(rng, part, arrangement=kind.arrangement)
        sentences: dict[str, Sentence] = {}
        makers = random_makers(rng, kind.statements, count=4 * NUM_SENTENCES, simple_share=level.simple_share)
        for maker in makers:
            sentence = balanced_sentence(rng, images, maker=maker, exclude=sentences.keys())
            if sentence:
                sentences[sentence.text] = sentence
            if len(sentences) == num_sentences:
                return images, list(sentences.values())


def balanced_sentence(
    rng: random.Random, images: list[Boxes], *, maker: Maker, exclude: Container[str]
) -> Sentence | None:
    """Return a new statement that is true of half the images; None if no try gives one."""
    for _ in range(TRIES):
        statement = make_statement(rng, maker)
        labels = [statement.is_true(boxes) for boxes in images]
        if sum(labels) == NUM_IMAGES // 2 and statement.text not in exclude:
            return Sentence(statement.text, labels)
    return None


def generate_images(rng: random.Random, part: str, *, arrangement: Arrangement) -> list[Boxes]:
    """Return four images of one part: two random ones, then one with the items of the second and one with those of
    the first."""
    images: list[Boxes] = []
    while len(images) < NUM_IMAGES:
        if len(images) < 2:
            boxes = generate_boxes(rng, arrangement)
        else:
            boxes = shuffled(rng, images[3 - len(images)], arrangement=arrangement)
        if part_of(boxes) == part:
            images.append(boxes)
    return images


def write_nlvr(folder: Path, splits: Splits) -> None:
    """Write train and dev. Validation is a part of the official train split, of which the reader holds it out."""
    render_png = lru_cache(maxsize=NUM_IMAGES)(lambda boxes: png(render(boxes)))  # the sentences of a set share images
    for split, records in {"train": splits["train"] + splits["val"], "dev": splits["dev"]}.items():
        (folder / split).mkdir()
        with tarfile.open(folder / split / "images.tar", "w") as archive:
            for record in records:
                content = render_png(record.pop("boxes"))
                add_file(archive, f"{split}-{record['identifier']}-0.png", content=content)
        write_lines(folder / split / f"{split}.json", records)
