"""Boxes of official files in pixels -> x1 y1 x2 y2 in 0..1 of the image."""

from typing import Any

import numpy as np

from vlx.errors import CorpusError

ROUNDING = 1e-3  # how far beyond its image a box may lie; it is clipped
MAX_PIXELS = 1_000_000  # of any coordinate


def unit_boxes(boxes: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """[R,4] x1 y1 x2 y2 in pixels of an image of this (width, height) -> in 0..1."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        scaled = boxes / np.array([*size, *size], np.float32)
    inside = ((scaled >= -ROUNDING) & (scaled <= 1 + ROUNDING)).all(1)  # False for NaN
    if not inside.all():
        problem = f"box {boxes[~inside][0].tolist()} in an image of {size[0]} x {size[1]}"
        raise CorpusError(f"{where}: {problem}, expected x1 y1 x2 y2 within it. Check the source.")
    return scaled.clip(0, 1)


def unit_box(numbers: Any, size: tuple[int, int], where: str, *, clip: bool = False) -> list[float]:
    """COCO's x y width height in pixels -> x1 y1 x2 y2 in 0..1. clip: cuts off what lies outside the image, which is
    an error otherwise."""
    is_box = isinstance(numbers, list) and len(numbers) == 4 and {int, float}.issuperset(map(type, numbers))
    if not is_box or not max(map(abs, numbers)) < MAX_PIXELS or min(numbers[2:]) < 0:
        raise CorpusError(f"{where}: box is {ascii(numbers)[:60]}, expected x y width height. Correct the file.")
    x, y, width, height = numbers
    corners = np.array([[x, y, x + width, y + height]], np.float32)
    return unit_boxes(corners.clip(0, [*size, *size]) if clip else corners, size, where)[0].tolist()


def unit_box_of_corners(numbers: Any, size: tuple[int, int], where: str) -> list[float]:
    """VCR's x1 y1 x2 y2 confidence in pixels -> x1 y1 x2 y2 in 0..1."""
    if not isinstance(numbers, list) or len(numbers) != 5 or not {int, float}.issuperset(map(type, numbers)):
        expected = "expected x1 y1 x2 y2 and confidence"
        raise CorpusError(f"{where}: box is {ascii(numbers)[:60]}, {expected}. Get the file again.")
    x1, y1, x2, y2, _ = numbers
    return unit_box([x1, y1, x2 - x1, y2 - y1], size, where)


def image_size(record: dict[str, Any], where: str) -> tuple[int, int]:
    """Width and height in pixels of an image's record."""
    width, height = record.get("width"), record.get("height")
    if (
        type(width) is not int
        or type(height) is not int
        or not 0 < min(width, height) <= max(width, height) < MAX_PIXELS
    ):
        problem = f"width {width!a:.20} and height {height!a:.20}"
        raise CorpusError(f"{where}: {problem}, expected pixels. Correct the file.")
    return width, height
