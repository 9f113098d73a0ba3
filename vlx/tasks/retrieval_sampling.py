"""Pairs that do not belong together, as Oscar and ViLBERT 12-in-1 draw them (specs: Oscar b.5, ViLBERT 3.3)."""

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


def draw_three(own: int, rng: Random, *, captions: Sequence[int], near: Sequence[int]) -> list[Negative]:
    """For picture `own` another one's caption, another one, and a caption of one of `near`, if there are such."""
    others = [other + (other >= own) for other in (rng.randrange(len(captions) - 1) for _ in range(3))]
    hard = near[rng.randrange(len(near))] if near else others[2]
    return [
        Negative(others[0], rng.randrange(captions[others[0]])),
        Negative(others[1], None),
        Negative(hard, rng.randrange(captions[hard])),
    ]
