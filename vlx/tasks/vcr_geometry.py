"""VCR as VLE reads it: which patches of the picture a box covers, and which objects a text is about (specs: VLE 2).

As published, boxes are laid on a grid over the whole picture, though the model sees its central square only.
"""

from collections.abc import Sequence
from typing import NamedTuple

NO_OBJECT = -1
FIRST_TYPE = 2  # 0 is text, 1 the picture


class Patches(NamedTuple):
    """What a box covers: its patches' pixels, x1 y1 x2 y2, and their numbers, row by row; none beyond the picture."""

    box: tuple[float, float, float, float]
    numbers: list[int]


class Objects(NamedTuple):
    """What a text is about: its objects, a token type for each of them and for each token of the text."""

    objects: list[int]
    types: list[int]
    text_types: list[int]


def patches_of(box: Sequence[float], size: tuple[int, int], *, grid: int) -> Patches:
    """box: x1 y1 x2 y2 in pixels of a picture of this width and height, which has grid x grid patches."""
    width, height = size[0] / grid, size[1] / grid
    # `//` is the original's: it gives the patch before where a division would round up to its border.
    left, top = max(int(box[0] // width), 0), max(int(box[1] // height), 0)
    right, bottom = min(int(box[2] // width) + 1, grid), min(int(box[3] // height) + 1, grid)
    numbers = [grid * row + column for row in range(top, bottom) for column in range(left, right)]
    return Patches((left * width, top * height, right * width, bottom * height), numbers)


def objects_of(tags: Sequence[int]) -> Objects:
    """tags: the object that each token names, or -1."""
    objects = list({tag for tag in tags if tag != NO_OBJECT})  # in the set's own order: as the original's models learnt
    types = {tag: FIRST_TYPE + place for place, tag in enumerate(objects)}
    return Objects(objects, list(types.values()), [types.get(tag, 0) for tag in tags])
