"""Pairs that do not belong together, drawn as Oscar draws them (specs: Oscar b.5)."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

SWAP_CAPTION = 0.5  # how often a negative pair has another caption rather than another picture


class Negative(NamedTuple):
    """The other picture, and which of its captions takes the place of the own one; None: its picture does."""

    image: int
    caption: int | None


def draw_negative(own: int, rng: Random, *, captions: Sequence[int]) -> Negative:
    """For picture `own` of those with so many captions each. As many draws of `rng`, in the order, as Oscar's."""
    other = rng.randrange(len(captions) - 1)  # of the pictures but `own`
    image = other + (other >= own)
    return Negative(image, rng.randrange(captions[image]) if rng.random() <= SWAP_CAPTION else None)
