"""Masks of pre-training: tokens, regions, and the text of another image (ViLBERT, vilbert/datasets/
concept_cap_dataset.py; LXMERT, src/pretrain/lxmert_data.py).

Draws come from a generator that is passed in, one for an example and an epoch, in the order and number of the
originals, so that their samples are reproduced: caption, then tokens, then regions.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

MLM_PROBABILITY = 0.15
MRM_PROBABILITY = 0.15
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of masked tokens: [MASK], a random token; the rest stay
ZEROED_SHARE = 0.9  # of masked regions: without features, in ViLBERT
CLEARED_SHARE, REPLACED_SHARE = 0.8, 0.1  # of masked regions: without features, another region's, in LXMERT
OVERLAP = 0.4  # IoU with a masked region above which a region is masked with it


class Generator(Protocol):
    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...


class MaskingConfig(NamedTuple):
    """mlm_probability: share of masked tokens. itm_negative_probability: share of images shown with the text or tags of
    another. mask_positives_only: examples whose text and image do not match have no masked labels."""

    mlm_probability: float
    itm_negative_probability: float
    mask_positives_only: bool


class OverlapMask(NamedTuple):
    """All bool [R]. masked: regions to predict. zeroed: regions that the original clears. covered: regions that overlap
    the masked ones, themselves included; the paper clears them too, the original only leaves them out of the mean."""

    masked: np.ndarray
    zeroed: np.ndarray
    covered: np.ndarray


class ReplacementMask(NamedTuple):
    """All bool [R]. Of the masked regions some are cleared, some get another region's features, the rest stay."""

    masked: np.ndarray
    cleared: np.ndarray
    replaced: np.ndarray


def sample_caption(count: int, generator: Generator) -> int | None:
    """With probability 0.5 the index of one of all `count` captions, which may be the image's own by chance, as in the
    original; None: its own."""
    return generator.randrange(count) if generator.random() > 0.5 else None


def mask_tokens(
    ids: Sequence[int], generator: Generator, *, mask_id: int, vocab_size: int, probability: float = MLM_PROBABILITY
) -> tuple[list[int], list[int]]:
    """Masked ids and labels, -1 = not masked, of a text without special tokens (BERT's 80/10/10)."""
    masked, labels = [], []
    for token in ids:
        share = generator.random() / probability if probability else 1.0
        if share < MASK_SHARE:
            masked.append(mask_id)
        elif share < MASK_SHARE + RANDOM_SHARE:
            masked.append(generator.randrange(vocab_size))
        else:
            masked.append(token)
        labels.append(token if share < 1 else -1)
    return masked, labels


def mask_regions(ious: np.ndarray, generator: Generator, *, probability: float = MRM_PROBABILITY) -> OverlapMask:
    """ViLBERT's masks; ious [R,R]: of every region with every other."""
    shares = draw_shares(len(ious), generator, probability)
    masked = shares < 1
    covered = np.asarray((ious[masked] > OVERLAP).any(0))
    return OverlapMask(masked, shares < ZEROED_SHARE, covered)


def replace_regions(count: int, generator: Generator, *, probability: float = MRM_PROBABILITY) -> ReplacementMask:
    """LXMERT's masks, made like those of tokens."""
    shares = draw_shares(count, generator, probability)
    cleared = shares < CLEARED_SHARE
    return ReplacementMask(shares < 1, cleared, ~cleared & (shares < CLEARED_SHARE + REPLACED_SHARE))


def draw_shares(count: int, generator: Generator, probability: float) -> np.ndarray:
    """[R]: a draw over `probability`; below 1 the region is masked, and the value decides how."""
    return np.array([generator.random() / probability if probability else 1.0 for _ in range(count)])
