"""Negative image-caption pairs, drawn as by Oscar (oscar/run_retrieval.py) and by ViLBERT 12-in-1 (Lu et al. 2020;
vilbert/datasets/retreival_dataset.py)."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

CAPTION_PROBABILITY = 0.5  # that a negative pair replaces the caption rather than the image


class Negative(NamedTuple):
    """Another image. caption: which of its captions replaces the positive caption; None: the image is replaced."""

    image: int
    caption: int | None


def draw_negative(image: int, rng: Random, *, num_captions: Sequence[int]) -> Negative:
    """Draw a negative of an image, of images with so many captions each; makes Oscar's draws of `rng` in its order."""
    other_image = draw_other(image, rng, count=len(num_captions))
    replaces_caption = rng.random() <= CAPTION_PROBABILITY
    return Negative(other_image, rng.randrange(num_captions[other_image]) if replaces_caption else None)


def draw_three_negatives(
    image: int, rng: Random, *, num_captions: Sequence[int], hard_negatives: Sequence[int]
) -> list[Negative]:
    """Draw a caption of another image, another image, and a caption of one of `hard_negatives`, if there are any."""
    caption_image = draw_other(image, rng, count=len(num_captions))
    other_image = draw_other(image, rng, count=len(num_captions))
    hard_image = draw_other(image, rng, count=len(num_captions))
    if hard_negatives:
        hard_image = hard_negatives[rng.randrange(len(hard_negatives))]
    return [
        Negative(caption_image, rng.randrange(num_captions[caption_image])),
        Negative(other_image, None),
        Negative(hard_image, rng.randrange(num_captions[hard_image])),
    ]


def draw_other(image: int, rng: Random, *, count: int) -> int:
    """Draw one of `count` images but this one."""
    index = rng.randrange(count - 1)
    return index + (index >= image)
