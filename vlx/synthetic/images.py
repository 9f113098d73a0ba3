"""Images of the built-in corpus: flat shapes of a few colours and sizes on a grey background, and nouns for them."""

import random
import tarfile
import zlib
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from vlx.corpora.regions import detect

IMAGE_SIZE = 64  # pixels, width and height
GRID = 3  # columns and rows of an image; a cell holds one shape at most
CELL_SIZE = 21  # pixels, width and height of a cell
COLOURS = {"red": (214, 40, 40), "green": (34, 150, 70), "blue": (30, 90, 220), "yellow": (245, 200, 20)}
SHAPES = ("circle", "square", "triangle")
SIZES = {"small": 8, "medium": 13, "large": 18}  # pixels, width and height of a shape
PARTS = ("train", "validation", "test")  # an image belongs to exactly one
IMAGES_PER_SET = 8  # images that are generated from one random generator
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


class Shape(NamedTuple):
    """One shape of an image. `part_of` hashes its repr: a new class or field name changes every corpus."""

    size: str
    colour: str
    shape: str
    place: tuple[int, int]  # column and row of the grid
    corner: tuple[int, int]  # x and y of the top left pixel

    def box(self) -> tuple[int, int, int, int]:
        """Return x, y, width, height in pixels."""
        return *self.corner, SIZES[self.size], SIZES[self.size]


ImageShapes = tuple[Shape, ...]  # all shapes of an image, cell by cell: equal images are equal tuples


class Difficulty(NamedTuple):
    """What the images and texts of a corpus may contain."""

    num_shapes: tuple[int, int]  # fewest and most shapes of an image
    noun_weights: tuple[float, float, float]  # of a noun with a colour, with a shape, with both
    statement_weights: tuple[float, ...]  # of NLVR2's statements, in the order of nlvr2_statements.MAKERS
    max_shift: int = 0  # pixels that a shape may lie outside its cell, where it may overlap another
    simple_share: float = 1.0  # share of NLVR's statements that only name an item in a box


DIFFICULTIES = {  # statement_weights: existence, counting, comparison, quantifier, position, size, colour
    "easy": Difficulty((1, 3), (0.6, 0.3, 0.1), (0.7, 0.15, 0.1, 0.05, 0, 0, 0)),
    "normal": Difficulty((1, 4), (0.65, 0.25, 0.1), (0.55, 0.16, 0.08, 0.13, 0.04, 0.04, 0)),
    "hard": Difficulty((2, 8), (0.3, 0.2, 0.5), (0.1, 0.2, 0.2, 0.15, 0.15, 0.1, 0.1), max_shift=6, simple_share=0.0),
}


class Noun(NamedTuple):
    """A noun phrase for shapes, such as `red circle`; an attribute that is None may have any value."""

    size: str | None
    colour: str | None
    shape: str | None

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.shape or "shape") if word)

    def fits(self, shape: Shape) -> bool:
        return all(expected in (None, actual) for expected, actual in zip(self, shape, strict=False))

    def count(self, shapes: ImageShapes) -> int:
        return sum(map(self.fits, shapes))


def first_unique(nouns: list[Noun], shapes: ImageShapes) -> Noun | None:
    """Return the first noun that fits exactly one shape of the image."""
    return next((noun for noun in nouns if noun.count(shapes) == 1), None)


def unique_noun(rng: random.Random, shapes: ImageShapes, *, index: int) -> Noun | None:
    """Return a shortest noun that fits shape `index` of an image and no other shape; None if there is none."""
    shape = shapes[index]
    one_word = [Noun(None, shape.colour, None), Noun(None, None, shape.shape), Noun(shape.size, None, None)]
    two_words = [
        Noun(None, shape.colour, shape.shape),
        Noun(shape.size, None, shape.shape),
        Noun(shape.size, shape.colour, None),
    ]
    three_words = [Noun(shape.size, shape.colour, shape.shape)]
    return first_unique([*rng.sample(one_word, 3), *rng.sample(two_words, 3), *three_words], shapes)


def part_of(content: object) -> str:
    """Return the part that an image belongs to, by the checksum of its content."""
    return PARTS[zlib.crc32(repr(content).encode()) % len(PARTS)]


def generate_images(rng: random.Random, part: str, *, level: Difficulty) -> list[ImageShapes]:
    """Return the images of one set, all of one part."""
    images: list[ImageShapes] = []
    while len(images) < IMAGES_PER_SET:
        shapes = generate_image(rng, level)
        if part_of(shapes) == part:
            images.append(shapes)
    return images


def generate_image(rng: random.Random, level: Difficulty) -> ImageShapes:
    count = rng.randint(*level.num_shapes)
    cells = sorted(rng.sample(range(GRID * GRID), count))
    return tuple(generate_shape(rng, (cell % GRID, cell // GRID), max_shift=level.max_shift) for cell in cells)


def generate_shape(rng: random.Random, place: tuple[int, int], *, max_shift: int) -> Shape:
    """Return a shape within its cell, or up to `max_shift` pixels outside."""
    size = rng.choice(list(SIZES))
    x = CELL_SIZE * place[0] + 1 + rng.randrange(CELL_SIZE - SIZES[size])
    y = CELL_SIZE * place[1] + 1 + rng.randrange(CELL_SIZE - SIZES[size])
    if max_shift:
        last = IMAGE_SIZE - SIZES[size]
        x = min(max(x + rng.randint(-max_shift, max_shift), 0), last)
        y = min(max(y + rng.randint(-max_shift, max_shift), 0), last)
    return Shape(size, rng.choice(list(COLOURS)), rng.choice(SHAPES), place, (x, y))


@cache
def shape_mask(shape: str, size: int) -> np.ndarray:
    """Return which pixels [size,size] a shape covers."""
    image = Image.new("1", (size, size))
    draw = ImageDraw.Draw(image)
    last = size - 1
    if shape == "circle":
        draw.ellipse((0, 0, last, last), fill=1)
    elif shape == "square":
        draw.rectangle((0, 0, last, last), fill=1)
    else:
        draw.polygon(((last // 2, 0), (size // 2, 0), (last, last), (0, last)), fill=1)
    return np.asarray(image)


def render(shapes: ImageShapes, shade: int) -> Image.Image:
    """Render an image on a grey background of `shade` in 0..255."""
    pixels = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), shade, np.uint8)
    for shape in shapes:
        x, y, width, height = shape.box()
        pixels[y : y + height, x : x + width][shape_mask(shape.shape, width)] = COLOURS[shape.colour]
    return Image.fromarray(pixels)


def region_rows(image: Image.Image) -> np.ndarray:
    """Detect the regions of an image: rows [R,D+6] of features, x1, y1, x2, y2, width, height, as in Oscar's files."""
    features, boxes = detect(image)
    return np.concatenate([features, boxes, boxes[:, 2:] - boxes[:, :2]], 1)


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "png", compress_level=1)
    return file.getvalue()


def add_file(archive: tarfile.TarFile, name: str, *, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, BytesIO(content))
