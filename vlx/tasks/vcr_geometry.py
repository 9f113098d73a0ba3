"""VCR as VLE reads it: the patches that a box covers, and the objects that a text names (VLE,
models/VLE/pipeline_vle.py).

As in the original, boxes lie on a grid over the whole image, although the model sees only its central square.
"""

from collections.abc import Sequence
from typing import NamedTuple

NO_OBJECT = -1
FIRST_OBJECT_TYPE = 2  # token type 0 is text, 1 the image


class BoxPatches(NamedTuple):
    """The patches of a box: their extent x1 y1 x2 y2 in pixels, and their indices, row by row, none outside the
    image."""

    box: tuple[float, float, float, float]
    indices: list[int]


class TextObjects(NamedTuple):
    """The objects of a text, a token type for each of them, and a token type for each token of the text."""

    objects: list[int]
    object_types: list[int]
    token_types: list[int]


def box_patches(box: Sequence[float], size: tuple[int, int], *, grid: int) -> BoxPatches:
    """box: x1 y1 x2 y2 in pixels of an image of this width and height, which has grid x grid patches."""
    width = size[0] / grid
    height = size[1] / grid
    # `//` as in the original: where a division would round up to a border, it gives the patch before.
    left = max(int(box[0] // width), 0)
    top = max(int(box[1] // height), 0)
    right = min(int(box[2] // width) + 1, grid)
    bottom = min(int(box[3] // height) + 1, grid)
    indices = [grid * row + column for row in range(top, bottom) for column in range(left, right)]
    return BoxPatches((left * width, top * height, right * width, bottom * height), indices)


def text_objects(tags: Sequence[int]) -> TextObjects:
    """tags: the object that each token names, or -1."""
    objects = list({tag for tag in tags if tag != NO_OBJECT})  # set order: the original's models learned with it
    types = {tag: FIRST_OBJECT_TYPE + index for index, tag in enumerate(objects)}
    return TextObjects(objects, list(types.values()), [types.get(tag, 0) for tag in tags])
