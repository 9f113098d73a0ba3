"""The pictures of the built-in corpus: flat shapes of some colours and sizes on a grey ground, and words for them."""

import random
import tarfile
import zlib
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from vlx.corpora.regions import detect

SIDE = 64  # pixels of a picture
CELL = 21  # pixels of a cell of its 3 x 3 grid; a cell holds one shape at most
COLOURS = {"red": (214, 40, 40), "green": (34, 150, 70), "blue": (30, 90, 220), "yellow": (245, 200, 20)}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 8, "medium": 13, "large": 18}  # pixels
PARTS = ("train", "validation", "test")  # a picture is in one of them
PER_SET = 8  # pictures of a set
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


class Shape(NamedTuple):
    size: str
    colour: str
    shape: str
    place: tuple[int, int]  # column and row of the grid
    corner: tuple[int, int]  # x and y of its top left pixel

    def box(self) -> tuple[int, int, int, int]:
        """x, y, width, height in pixels."""
        return *self.corner, SIZES[self.size], SIZES[self.size]


Picture = tuple[Shape, ...]


class Difficulty(NamedTuple):
    """Shapes a picture at least and at most; how often a noun names colour, shape, both; share of each kind of
    statement (in the order of statements.KINDS); pixels that a shape may stick out of its cell, over others; share of
    NLVR's statements that only say what is in boxes."""

    shapes: tuple[int, int]
    nouns: tuple[float, float, float]
    kinds: tuple[float, ...]
    overlap: int = 0
    plain: float = 1.0


DIFFICULTIES = {  # existence, counting, comparison, quantifier, position, size, colour
    "easy": Difficulty((1, 3), (0.6, 0.3, 0.1), (0.7, 0.15, 0.1, 0.05, 0, 0, 0)),
    "normal": Difficulty((1, 4), (0.65, 0.25, 0.1), (0.55, 0.16, 0.08, 0.13, 0.04, 0.04, 0)),
    "hard": Difficulty((2, 8), (0.3, 0.2, 0.5), (0.1, 0.2, 0.2, 0.15, 0.15, 0.1, 0.1), overlap=6, plain=0.0),
}


class Noun(NamedTuple):
    """What a statement is about; None: any."""

    size: str | None
    colour: str | None
    shape: str | None

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape or "shape") if word)

    def fits(self, shape: Shape) -> bool:
        return all(want in (None, has) for want, has in zip(self, shape, strict=False))

    def count(self, picture: Picture) -> int:
        return sum(map(self.fits, picture))


def name_of(shape: Shape, picture: Picture, rng: random.Random) -> Noun | None:
    """A noun, with as few words as will do, that means this shape of the picture alone; None if none does."""
    size, colour, form = shape.size, shape.colour, shape.shape
    short = [Noun(None, colour, None), Noun(None, None, form), Noun(size, None, None)]
    pairs = [Noun(None, colour, form), Noun(size, None, form), Noun(size, colour, None)]
    for nouns in (rng.sample(short, 3), rng.sample(pairs, 3), [Noun(size, colour, form)]):
        for noun in nouns:
            if noun.count(picture) == 1:
                return noun
    return None


def draw_pictures(rng: random.Random, part: str, level: Difficulty) -> list[Picture]:
    """The pictures of a set. A picture belongs to one part only, by the checksum of what it shows."""
    pictures: list[Picture] = []
    while len(pictures) < PER_SET:
        picture = draw_picture(rng, level)
        if zlib.crc32(repr(picture).encode()) % len(PARTS) == PARTS.index(part):
            pictures.append(picture)
    return pictures


def draw_picture(rng: random.Random, level: Difficulty) -> Picture:
    picture = []
    for cell in sorted(rng.sample(range(9), rng.randint(*level.shapes))):  # one order: equal pictures are equal tuples
        size = rng.choice(list(SIZES))
        place = (cell % 3, cell // 3)
        x, y = (CELL * index + 1 + rng.randrange(CELL - SIZES[size]) for index in place)
        if level.overlap:
            x, y = (min(max(at + rng.randint(-level.overlap, level.overlap), 0), SIDE - SIZES[size]) for at in (x, y))
        picture.append(Shape(size, rng.choice(list(COLOURS)), rng.choice(SHAPES), place, (x, y)))
    return tuple(picture)


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
    image = render(picture, shade)
    add_image(archive, name, image)
    features, boxes = detect(image)
    return np.concatenate([features, boxes, boxes[:, 2:] - boxes[:, :2]], 1)


def add_image(archive: tarfile.TarFile, name: str, image: Image.Image) -> None:
    add_file(archive, name, png(image))


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "png", compress_level=1)
    return file.getvalue()


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, BytesIO(content))
