"""NLVR's built-in corpus: sets of four pictures, as its writers were shown, and sentences true of two of them."""

import random
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from vlx.synthetic.nlvr_pictures import Boxes, draw_boxes, render, shuffled
from vlx.synthetic.nlvr_statements import claim, makers
from vlx.synthetic.pictures import PARTS, Difficulty, add_file, png
from vlx.synthetic.records import PICTURES_OF_A_PART, Record, write_lines

PICTURES, SENTENCES = 4, 5  # of a set
TOWERS = 0.47  # share of the sets that show towers, as published
TRIES = 60  # statements drawn of one kind before another kind is tried


def draw_statements(
    rng: random.Random, split: str, number: int, part: str, level: Difficulty, count: int
) -> tuple[dict[str, Any], list[Record]]:
    """Records with their pictures, which write_nlvr draws."""
    first, wanted = PARTS.index(part) * PICTURES_OF_A_PART, min(SENTENCES, -(-count // PICTURES))
    pictures, claims = draw_set(rng, part, level, wanted)
    return {}, [
        {
            **{"identifier": f"{first + number * SENTENCES + index}-{place}", "sentence": sentence},
            **{"label": str(truth).lower(), "directory": str(first + number), "boxes": pictures[place]},
        }
        for index, (sentence, truths) in enumerate(claims.items())
        for place, truth in enumerate(truths)
    ]


def draw_set(rng: random.Random, part: str, level: Difficulty, count: int) -> tuple[list[Boxes], dict[str, list[bool]]]:
    """Four pictures, the latter two of the items of the former two, and `count` sentences with their truths."""
    while True:  # other pictures where too few sentences suit these
        towers, claims = rng.random() < TOWERS, dict[str, list[bool]]()
        pictures = draw_pictures(rng, part, towers=towers)
        for make in makers(rng, 4 * SENTENCES, towers=towers, plain_share=level.plain):
            for _ in range(TRIES):
                sentence, truth = claim(rng, make)
                truths = [truth(picture) for picture in pictures]
                if sum(truths) == PICTURES // 2 and sentence not in claims:
                    claims[sentence] = truths
                    break
            if len(claims) == count:
                return pictures, claims


def draw_pictures(rng: random.Random, part: str, *, towers: bool) -> list[Boxes]:
    """A picture belongs to one part only, by the checksum of what it shows."""
    found: list[Boxes] = []
    while len(found) < PICTURES:
        picture = (
            draw_boxes(rng, towers=towers) if len(found) < 2 else shuffled(rng, found[3 - len(found)], towers=towers)
        )
        if zlib.crc32(repr(picture).encode()) % len(PARTS) == PARTS.index(part):
            found.append(picture)
    return found


def write_nlvr(folder: Path, splits: dict[str, list[Record]]) -> None:
    """Validation is train's: who reads the files holds directories out."""
    drawn = lru_cache(maxsize=PICTURES)(lambda boxes: png(render(boxes)))  # the sentences of a set share its pictures
    for split, records in {"train": splits["train"] + splits["val"], "dev": splits["dev"]}.items():
        (folder / split).mkdir()
        with tarfile.open(folder / split / "images.tar", "w") as archive:
            for record in records:
                add_file(archive, f"{split}-{record['identifier']}-0.png", drawn(record.pop("boxes")))
        write_lines(folder / split / f"{split}.json", records)
