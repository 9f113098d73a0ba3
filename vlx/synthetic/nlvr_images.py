"""Images like NLVR's: three grey boxes, each with a tower of one to four blocks or with one to seven items."""

import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from vlx.corpora.formats.annotations.nlvr import BOXES, IMAGE_SIZE

BOX_SIZE = 100  # pixels, width and height of a box
BACKGROUND = (211, 211, 211)  # of a box
SEPARATOR = (128, 128, 128)  # between boxes
COLOURS = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
SHAPES = ("square", "circle", "triangle")
SIZES = (10, 20, 30)  # pixels, width and height of an item
BLOCK_SIZE = 20  # pixels, width and height of a block; one pixel of background between blocks
BLOCK_LEFT = 40  # pixels from the left of the box to the blocks of a tower
MAX_BLOCKS = 4  # of a tower
MAX_ITEMS = 7  # of a box
TRIES = 50  # positions that are tried for an item
SUBPIXELS = 8  # sample points a pixel, in each direction, for antialiasing


class Item(NamedTuple):
    """An item of a box. `images.part_of` hashes its repr: a new class or field name changes every corpus."""

    colour: str
    shape: str
    size: int
    x: int  # pixels from the left of the box to the left of the item
    y: int  # pixels from the top of the box to the top of the item

    @property
    def right(self) -> int:
        return self.x + self.size

    @property
    def bottom(self) -> int:
        return self.y + self.size


Kind = tuple[str, str, int]  # colour, shape and size of an item
Box = tuple[Item, ...]  # from the bottom up
Boxes = tuple[Box, ...]  # the three boxes of an image


class Arrangement(NamedTuple):
    """How the items of a box are chosen and placed. `place`: None if there is no room for the items."""

    max_items: int
    random_kind: Callable[[random.Random], Kind]
    place: Callable[[random.Random, list[Kind]], Box | None]


def random_block(rng: random.Random) -> Kind:
    return rng.choice(list(COLOURS)), "square", BLOCK_SIZE


def random_item(rng: random.Random) -> Kind:
    return rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(SIZES)


def place_tower(rng: random.Random, kinds: list[Kind]) -> Box:
    """Stack blocks in a random order."""
    tops = range(BOX_SIZE - BLOCK_SIZE, -1, -BLOCK_SIZE - 1)
    order = rng.sample(kinds, len(kinds))
    return tuple(Item(*kind, BLOCK_LEFT, top) for kind, top in zip(order, tops, strict=False))


def place_scattered(rng: random.Random, kinds: list[Kind]) -> Box | None:
    """Place items apart from each other, the largest first; None if there is no room. A position beyond the right or
    the bottom of the box is moved to its edge."""
    items: list[Item] = []
    for kind in sorted(kinds, key=lambda kind: -kind[2]):
        item = place_item(rng, kind, placed=items)
        if item is None:
            return None
        items.append(item)
    return tuple(sorted(items, key=lambda item: -item.bottom))


def place_item(rng: random.Random, kind: Kind, *, placed: list[Item]) -> Item | None:
    last = BOX_SIZE - kind[2]
    for _ in range(TRIES):
        x = min(rng.randrange(BOX_SIZE), last)
        y = min(rng.randrange(BOX_SIZE), last)
        item = Item(*kind, x, y)
        if all(gap(item, neighbour) > 0 for neighbour in placed):
            return item
    return None


TOWERS = Arrangement(MAX_BLOCKS, random_block, place_tower)
SCATTERED = Arrangement(MAX_ITEMS, random_item, place_scattered)


def gap(first: Item, second: Item) -> int:
    """Return the pixels between two items along the axis where they are farther apart; negative: they overlap."""
    horizontal = max(first.x, second.x) - min(first.right, second.right)
    vertical = max(first.y, second.y) - min(first.bottom, second.bottom)
    return max(horizontal, vertical)


def generate_boxes(rng: random.Random, arrangement: Arrangement) -> Boxes:
    """Return three boxes of random items."""
    boxes: list[Box] = []
    while len(boxes) < len(BOXES):
        count = rng.randint(1, arrangement.max_items)
        box = arrangement.place(rng, [arrangement.random_kind(rng) for _ in range(count)])
        if box:
            boxes.append(box)
    return tuple(boxes)


def shuffled(rng: random.Random, boxes: Boxes, *, arrangement: Arrangement) -> Boxes:
    """Return an image of the same items in other boxes and positions."""
    kinds = [item[:3] for box in boxes for item in box]
    while True:
        rng.shuffle(kinds)
        cuts = [0, *sorted(rng.sample(range(1, len(kinds)), len(BOXES) - 1)), len(kinds)]
        parts = [kinds[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
        if max(map(len, parts)) <= arrangement.max_items:
            placed = [arrangement.place(rng, part) for part in parts]
            if all(placed):
                return tuple(box for box in placed if box)


@cache
def shape_mask(shape: str, size: int) -> Image.Image:
    """Return how much of each pixel [size,size] a shape covers, in 0..255."""
    points = (np.arange(size * SUBPIXELS) + 0.5) / SUBPIXELS
    horizontal = np.abs(points - size / 2)  # distance from the middle
    vertical = points[:, None]  # distance from the top
    inside = {
        "circle": horizontal**2 + (vertical - size / 2) ** 2 <= size**2 / 4,
        "triangle": horizontal <= vertical / 2,
        "square": horizontal <= vertical + size,
    }[shape]
    coverage = inside.reshape(size, SUBPIXELS, size, SUBPIXELS).mean((1, 3))
    return Image.fromarray((255 * coverage).round().astype(np.uint8))


def render(boxes: Boxes) -> Image.Image:
    """Render an image of 400 x 100 pixels, its boxes where NLVR has them."""
    image = Image.new("RGB", IMAGE_SIZE, SEPARATOR)
    for corners, box in zip(BOXES, boxes, strict=True):
        image.paste(BACKGROUND, corners)
        for item in box:
            image.paste(COLOURS[item.colour], (corners[0] + item.x, item.y), shape_mask(item.shape, item.size))
    return image
