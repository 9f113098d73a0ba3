"""Pictures as NLVR's: three grey boxes, each a tower of one to four blocks or one to seven items scattered in it."""

import random
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from vlx.corpora.formats.nlvr import BOXES, PICTURE_SIZE

SIDE = 100  # pixels of a box
GROUND, BETWEEN = (211, 211, 211), (128, 128, 128)  # of the boxes, and between them
COLOURS = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
SHAPES, SIZES = ("square", "circle", "triangle"), (10, 20, 30)
BLOCKS = ("square", 20)
BLOCK, COLUMN = 20, 40  # side of a tower's blocks, and where its left side is; a pixel of ground between blocks
HIGHEST, MOST = 4, 7  # blocks of a tower, items of a box
TRIES = 50  # places tried for an item
FINE = 8  # points a pixel, each way, at which a shape is asked whether it covers them


class Item(NamedTuple):
    colour: str
    shape: str
    size: int
    x: int  # of the left side, from the left of the box
    y: int  # of the upper side, from the top

    @property
    def right(self) -> int:
        return self.x + self.size

    @property
    def bottom(self) -> int:
        return self.y + self.size


Kind = tuple[str, str, int]  # colour, shape, size
Box = tuple[Item, ...]  # from the bottom up
Boxes = tuple[Box, ...]  # three: a picture


def tower(rng: random.Random, kinds: list[Kind]) -> Box:
    """Blocks of these colours in any order."""
    tops = range(SIDE - BLOCK, -1, -BLOCK - 1)
    order = rng.sample(kinds, len(kinds))
    return tuple(Item(*kind, COLUMN, top) for kind, top in zip(order, tops, strict=False))


def scatter(rng: random.Random, kinds: list[Kind]) -> Box | None:
    """Items at any places, one from the other; None where there is no room. What is drawn beyond the right side or the
    bottom touches it."""
    placed: list[Item] = []
    for kind in sorted(kinds, key=lambda kind: -kind[2]):
        for _ in range(TRIES):
            x, y = (min(rng.randrange(SIDE), SIDE - kind[2]) for _ in range(2))
            item = Item(*kind, x, y)
            if all(gap(item, other) > 0 for other in placed):
                placed.append(item)
                break
        else:
            return None
    return tuple(sorted(placed, key=lambda item: -item.bottom))


def gap(one: Item, other: Item) -> int:
    """Pixels between two items along the axis where they are farther from each other; below 0: they overlap."""
    across = max(one.x, other.x) - min(one.right, other.right)
    return max(across, max(one.y, other.y) - min(one.bottom, other.bottom))


def draw_boxes(rng: random.Random, *, towers: bool) -> Boxes:
    """Three boxes of any items."""
    found: list[Box] = []
    while len(found) < len(BOXES):
        count = rng.randint(1, HIGHEST if towers else MOST)
        kinds = [
            (rng.choice(list(COLOURS)), *(BLOCKS if towers else (rng.choice(SHAPES), rng.choice(SIZES))))
            for _ in range(count)
        ]
        box = (tower if towers else scatter)(rng, kinds)
        found += [box] if box else []
    return tuple(found)


def shuffled(rng: random.Random, boxes: Boxes, *, towers: bool) -> Boxes:
    """A picture of the same items, in other boxes and at other places."""
    kinds = [item[:3] for box in boxes for item in box]
    while True:
        rng.shuffle(kinds)
        cuts = [0, *sorted(rng.sample(range(1, len(kinds)), len(BOXES) - 1)), len(kinds)]
        parts = [kinds[left:right] for left, right in zip(cuts, cuts[1:], strict=False)]
        if max(map(len, parts)) <= (HIGHEST if towers else MOST):
            found = [(tower if towers else scatter)(rng, part) for part in parts]
            if all(found):
                return tuple(box for box in found if box)


@cache
def stamp(shape: str, size: int) -> Image.Image:
    """How far a shape covers each pixel [size,size], in 0..255."""
    places = (np.arange(size * FINE) + 0.5) / FINE
    across, down = np.abs(places - size / 2), places[:, None]  # from the middle, and from the top
    inside = {
        "circle": across**2 + (down - size / 2) ** 2 <= size**2 / 4,
        "triangle": across <= down / 2,
        "square": across <= down + size,
    }[shape]
    shares = inside.reshape(size, FINE, size, FINE).mean((1, 3))
    return Image.fromarray((255 * shares).round().astype(np.uint8))


def render(boxes: Boxes) -> Image.Image:
    """[400,100] pixels, the three boxes where NLVR has them."""
    image = Image.new("RGB", PICTURE_SIZE, BETWEEN)
    for corners, box in zip(BOXES, boxes, strict=True):
        image.paste(GROUND, corners)
        for item in box:
            image.paste(COLOURS[item.colour], (corners[0] + item.x, item.y), stamp(item.shape, item.size))
    return image
