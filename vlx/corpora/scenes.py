"""The built-in corpus: drawn pictures of shapes and English statements about pairs of them, in NLVR2's official files.

As in NLVR2, a set is eight pictures in four pairs and some sentences, each true of exactly two of the four pairs: text
alone says nothing, and a sentence over its four pairs is a consistency group. Region features come from the pixels.
A set depends on (seed, split, number of the set) and nothing else.
"""

import json
import operator
import random
import tarfile
import zlib
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw

from vlx.corpora.formats import prepare
from vlx.corpora.regions import DETECTOR, detect
from vlx.corpora.store import Corpus
from vlx.corpora.writer import scratch
from vlx.progress import meter

SIDE = 64  # pixels of a picture
CELL = 21  # pixels of a cell of its 3 x 3 grid; a cell holds one shape at most
COLOURS = {"red": (214, 40, 40), "green": (34, 150, 70), "blue": (30, 90, 220), "yellow": (245, 200, 20)}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 8, "medium": 13, "large": 18}  # pixels
SPLITS = ("train", "dev", "test1")
PAIRS, SENTENCES = 4, 5  # of a set
HELD_OUT_SHARE, HELD_OUT_LEAST = 10, 100  # dev and test1: a tenth of train, at least 100 statements
TRIES = 60  # statements drawn of one kind before another kind is tried
SIDES = ("left", "right")
WHERE = {" in the left image": (0,), " in the right image": (1,), "": (0, 1)}
PLACES = {"at the top": (1, 0), "at the bottom": (1, 2), "on the left side": (0, 0), "on the right side": (0, 2)}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
TESTS: dict[str, Callable[[int, int], bool]] = {
    **{"exactly": operator.eq, "at least": operator.ge, "at most": operator.le},
    **{"same": operator.eq, "more": operator.gt, "fewer": operator.lt},
}
QUANTIFIERS = {  # of how many of the two images it must be true
    "Both images contain a {}.": (2,),
    "There is a {} in each image.": (2,),
    "Only one of the images contains a {}.": (1,),
    "At least one of the images contains a {}.": (1, 2),
    "Neither image contains a {}.": (0,),
}


class Difficulty(NamedTuple):
    """Shapes a picture at least and at most; how often a noun names colour, shape, both; share of each kind."""

    shapes: tuple[int, int]
    nouns: tuple[float, float, float]
    kinds: tuple[float, ...]  # in the order of KINDS


DIFFICULTIES = {  # existence, counting, comparison, quantifier, position, size, colour
    "easy": Difficulty((1, 3), (0.6, 0.3, 0.1), (0.7, 0.15, 0.1, 0.05, 0, 0, 0)),
    "normal": Difficulty((1, 4), (0.65, 0.25, 0.1), (0.55, 0.16, 0.08, 0.13, 0.04, 0.04, 0)),
    "hard": Difficulty((2, 8), (0.3, 0.2, 0.5), (0.1, 0.2, 0.2, 0.15, 0.15, 0.1, 0.1)),
}


class Shape(NamedTuple):
    size: str
    colour: str
    shape: str
    place: tuple[int, int]  # column and row of the grid
    corner: tuple[int, int]  # x and y of its top left pixel


Picture = tuple[Shape, ...]
Pair = tuple[Picture, Picture]
Claim = tuple[str, Callable[[Pair], bool]]  # a sentence, and whether it is true of a pair


class Noun(NamedTuple):
    """What a statement is about; None: any."""

    size: str | None
    colour: str | None
    shape: str | None

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape or "shape") if word)

    def count(self, picture: Picture) -> int:
        return sum(all(want in (None, has) for want, has in zip(self, shape, strict=False)) for shape in picture)


def build(out: Path | str, *, seed: int = 0, size: int = 20_000, difficulty: str = "normal") -> Corpus:
    """Render the corpus `out` of `size` training statements (a multiple of four) by way of official files beside it."""
    with scratch(Path(out), "source") as folder:
        write_sources(folder, seed=seed, size=size, difficulty=difficulty)
        return prepare("nlvr2", folder, out)


def write_sources(folder: Path, *, seed: int, size: int, difficulty: str) -> None:
    """Write NLVR2's files: a .json a split, images.tar and the regions' features."""
    held_out = max(HELD_OUT_LEAST, size // HELD_OUT_SHARE)
    sentences = {split: -(-(size if split == "train" else held_out) // PAIRS) for split in SPLITS}
    regions: dict[str, np.ndarray] = {}
    with meter("scenes", sum(sentences.values())) as progress, tarfile.open(folder / "images.tar", "w") as archive:
        for split, total in sentences.items():
            lines = []
            for number in range(-(-total // SENTENCES)):
                count = min(SENTENCES, total - number * SENTENCES)
                rng = random.Random(f"{seed}/{split}/{number}")
                pairs, claims = draw_set(rng, split, DIFFICULTIES[difficulty], count)
                for index, (sentence, (kind, truths)) in enumerate(claims.items()):
                    for pair, truth in enumerate(truths):
                        about = {"identifier": f"{split}-{number}-{pair}-{index}", "synset": kind}
                        lines.append(json.dumps({**about, "sentence": sentence, "label": str(truth)}))
                for place, picture in enumerate(chain(*pairs)):
                    name = f"{split}-{number}-{place // 2}-img{place % 2}"
                    regions[name] = add_picture(archive, f"images/{name}.png", picture, rng.randrange(200, 250))
                progress.advance(count)
            (folder / f"{split}.json").write_text("\n".join(lines), encoding="utf-8")
    # Views of one tensor: thousands of small ones are slow to save.
    rows = torch.from_numpy(np.concatenate(list(regions.values()))).split([len(rows) for rows in regions.values()])
    torch.save(dict(zip(regions, rows, strict=True)), folder / f"nlvr2_img_{DETECTOR}_feats.pt")


def draw_pairs(rng: random.Random, split: str, shapes: tuple[int, int]) -> list[Pair]:
    """The pairs of a set. A picture belongs to one split only, by the checksum of what it shows."""
    pictures: list[Picture] = []
    while len(pictures) < 2 * PAIRS:
        picture = draw_picture(rng, shapes)
        if zlib.crc32(repr(picture).encode()) % len(SPLITS) == SPLITS.index(split):
            pictures.append(picture)
    return list(zip(pictures[::2], pictures[1::2], strict=True))


def draw_picture(rng: random.Random, limits: tuple[int, int]) -> Picture:
    picture = []
    for cell in sorted(rng.sample(range(9), rng.randint(*limits))):  # one order: equal pictures are equal tuples
        size = rng.choice(list(SIZES))
        place = (cell % 3, cell // 3)
        x, y = (CELL * index + 1 + rng.randrange(CELL - SIZES[size]) for index in place)
        picture.append(Shape(size, rng.choice(list(COLOURS)), rng.choice(SHAPES), place, (x, y)))
    return tuple(picture)


def draw_set(
    rng: random.Random, split: str, level: Difficulty, count: int
) -> tuple[list[Pair], dict[str, tuple[str, list[bool]]]]:
    """The pairs of a set, and `count` sentences, each with its kind and its truth of every pair."""
    while True:  # other pairs where too few sentences suit these
        pairs, claims = draw_pairs(rng, split, level.shapes), dict[str, tuple[str, list[bool]]]()
        for kind in rng.choices(list(KINDS), level.kinds, k=4 * SENTENCES):
            for _ in range(TRIES):
                sentence, truth = KINDS[kind](rng, pairs, level)
                truths = [truth(pair) for pair in pairs]
                if sum(truths) == PAIRS // 2 and sentence not in claims:
                    claims[sentence] = kind, truths
                    break
            if len(claims) == count:
                return pairs, claims


def draw_noun(rng: random.Random, pairs: list[Pair], level: Difficulty, *, sized: bool = False) -> Noun:
    """Some attributes of a shape that is there."""
    shape = rng.choice([shape for pair in pairs for picture in pair for shape in picture])
    colour, form = rng.choices(((True, False), (False, True), (True, True)), level.nouns)[0]
    return Noun(shape.size if sized else None, shape.colour if colour else None, shape.shape if form else None)


def existence(rng: random.Random, pairs: list[Pair], level: Difficulty, *, sized: bool = False) -> Claim:
    noun, absent = draw_noun(rng, pairs, level, sized=sized), rng.random() < 0.2
    words, sides = rng.choices(list(WHERE.items()), (1, 1, 3))[0]
    some = ("There is a {}{}.", "A {} can be seen{}.", "There is at least one {}{}.")
    form = rng.choice(("There is no {}{}.", "No {} can be seen{}.") if absent else some)
    return form.format(noun, words), lambda pair: any(noun.count(pair[side]) for side in sides) != absent


def counting(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side = draw_noun(rng, pairs, level), rng.randrange(2)
    number = max(1, noun.count(rng.choice(pairs)[side]))
    test = rng.choice(("exactly", "exactly", "at least", "at most") if number > 1 else ("exactly",))
    things = f"{test} {NUMBERS[number]} {noun}{'s' * (number > 1)}"
    form = rng.choice(("The {0} image contains {2}.", "There {1} {2} in the {0} image."))
    sentence = form.format(SIDES[side], "are" if number > 1 else "is", things)
    return sentence, lambda pair: TESTS[test](noun.count(pair[side]), number)


def comparison(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side, test = draw_noun(rng, pairs, level), rng.randrange(2), rng.choice(("more", "more", "fewer", "same"))
    same = ("Both images have the same number of {0}s.", "There are as many {0}s on the left as on the right.")
    more = (
        "There are {1} {0}s in the {2} image than in the {3} one.",
        "The {2} image has {1} {0}s than the {3} image.",
    )
    sentence = rng.choice(same if test == "same" else more).format(noun, test, SIDES[side], SIDES[1 - side])
    return sentence, lambda pair: TESTS[test](noun.count(pair[side]), noun.count(pair[1 - side]))


def quantifier(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, (form, images) = draw_noun(rng, pairs, level), rng.choice(list(QUANTIFIERS.items()))
    return form.format(noun), lambda pair: sum(noun.count(side) > 0 for side in pair) in images


def position(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side = draw_noun(rng, pairs, level), rng.randrange(2)
    where, (axis, line) = rng.choice(list(PLACES.items()))
    form = rng.choice(("There is a {0} {2} of the {1} image.", "In the {1} image, a {0} is {2}."))
    sentence = form.format(noun, SIDES[side], where)
    return sentence, lambda pair: any(noun.count((shape,)) and shape.place[axis] == line for shape in pair[side])


def colour(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    side, (one, other) = rng.randrange(2), (Noun(None, name, None) for name in rng.sample(list(COLOURS), 2))
    sentence = f"In the {SIDES[side]} image there are more {one}s than {other}s."
    return sentence, lambda pair: one.count(pair[side]) > other.count(pair[side])


KINDS: dict[str, Callable[[random.Random, list[Pair], Difficulty], Claim]] = {
    "existence": existence,
    "counting": counting,
    "comparison": comparison,
    "quantifier": quantifier,
    "position": position,
    "size": partial(existence, sized=True),
    "colour": colour,
}


@cache
def stamp(shape: str, side: int) -> np.ndarray:
    """A shape's pixels [side,side]."""
    image = Image.new("1", (side, side))
    draw, last = ImageDraw.Draw(image), side - 1
    if shape == "circle":
        draw.ellipse((0, 0, last, last), fill=1)
    elif shape == "square":
        draw.rectangle((0, 0, last, last), fill=1)
    else:
        draw.polygon(((last // 2, 0), (side // 2, 0), (last, last), (0, last)), fill=1)
    return np.asarray(image)


def render(picture: Picture, shade: int) -> Image.Image:
    """Draw the shapes on a grey of `shade` in 0..255."""
    pixels = np.full((SIDE, SIDE, 3), shade, np.uint8)
    for shape in picture:
        (x, y), side = shape.corner, SIZES[shape.size]
        pixels[y : y + side, x : x + side][stamp(shape.shape, side)] = COLOURS[shape.colour]
    return Image.fromarray(pixels)


def add_picture(archive: tarfile.TarFile, name: str, picture: Picture, shade: int) -> np.ndarray:
    """Put the rendered picture in the tar; returns what the detector sees in it [R,D+6], as Oscar's files have it."""
    image, file, member = render(picture, shade), BytesIO(), tarfile.TarInfo(name)
    image.save(file, "png", compress_level=1)
    member.size = file.tell()
    file.seek(0)
    archive.addfile(member, file)
    features, boxes = detect(image)
    return np.concatenate([features, boxes, boxes[:, 2:] - boxes[:, :2]], 1)
