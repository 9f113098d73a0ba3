"""Masks of tokens, regions and captions beside the draws that decide them."""

import random
from collections import Counter

import numpy as np
import pytest

from vlx.inputs.masking import mask_regions, mask_tokens, replace_regions, sample_caption

MASK, VOCABULARY = 103, 1_000


class FixedDraws:
    """A generator whose draws a test decides."""

    def __init__(self, *draws: float, number: int = 7) -> None:
        self.draws = list(draws)
        self.number = number

    def random(self) -> float:
        return self.draws.pop(0)

    def randrange(self, stop: int) -> int:
        assert self.number < stop
        return self.number


@pytest.mark.parametrize(
    ("draw", "token", "label"),
    [
        (0.0, MASK, 5),
        (0.119, MASK, 5),  # 0.119 / 0.15 = 0.793
        (0.121, 7, 5),  # 0.807: a random token
        (0.134, 7, 5),  # 0.893
        (0.136, 5, 5),  # 0.907: unchanged, with a label
        (0.149, 5, 5),
        (0.151, 5, -1),
        (0.999, 5, -1),
    ],
)
def test_the_draw_decides_the_mask_of_a_token(draw: float, token: int, label: int) -> None:
    assert mask_tokens([5], FixedDraws(draw), mask_id=MASK, vocab_size=VOCABULARY) == ([token], [label])


def test_the_shares_of_masked_tokens_are_berts() -> None:
    tokens = list(range(200, 900)) * 60
    masked, labels = mask_tokens(tokens, random.Random(0), mask_id=MASK, vocab_size=VOCABULARY)
    kinds = Counter(kind_of(token, label) for token, label in zip(masked, labels, strict=True))
    assert all(label in (-1, token) for token, label in zip(tokens, labels, strict=True))
    share = {kind: count / len(tokens) for kind, count in kinds.items()}
    assert share["unmasked"] == pytest.approx(0.85, abs=0.01) and share["mask"] == pytest.approx(0.12, abs=0.005)
    assert share["random"] == pytest.approx(0.015, abs=0.003) and share["same"] == pytest.approx(0.015, abs=0.003)


def kind_of(token: int, label: int) -> str:
    if label < 0:
        return "unmasked"
    return {MASK: "mask", label: "same"}.get(token, "random")


def test_the_same_generator_gives_the_same_masks() -> None:
    results = [mask_tokens(range(50), random.Random("7/1/a"), mask_id=MASK, vocab_size=VOCABULARY) for _ in range(2)]
    assert (
        results[0] == results[1] != mask_tokens(range(50), random.Random("7/2/a"), mask_id=MASK, vocab_size=VOCABULARY)
    )
    assert mask_tokens([], random.Random(0), mask_id=MASK, vocab_size=VOCABULARY) == ([], [])


def test_regions_that_overlap_a_masked_region_are_covered() -> None:
    ious = np.array([[1, 0.41, 0.1, 0], [0.41, 1, 0.4, 0], [0.1, 0.4, 1, 0], [0, 0, 0, 1]])
    mask = mask_regions(ious, FixedDraws(0.1, 0.5, 0.5, 0.14))  # 0.14 / 0.15 = 0.933: its features stay
    assert mask.masked.tolist() == [True, False, False, True]
    assert mask.zeroed.tolist() == [True, False, False, False]
    assert mask.covered.tolist() == [True, True, False, True]


def test_without_a_masked_region_none_is_zeroed_or_covered() -> None:
    mask = mask_regions(np.eye(3), FixedDraws(0.5, 0.15, 0.99))
    assert not any(part.any() for part in mask) and all(part.shape == (3,) and part.dtype == bool for part in mask)
    assert all(part.shape == (0,) for part in mask_regions(np.zeros((0, 0)), FixedDraws()))


def test_half_of_the_captions_are_replaced_by_a_sampled_caption() -> None:
    generator = random.Random(0)
    indices = [sample_caption(10, generator) for _ in range(4_000)]
    assert indices.count(None) / len(indices) == pytest.approx(0.5, abs=0.03) and {*indices} == {None, *range(10)}
    assert (sample_caption(9, FixedDraws(0.5)), sample_caption(9, FixedDraws(0.51))) == (None, 7)


def test_the_draw_decides_the_replacement_of_a_region() -> None:
    # shares of 0.15: 0.667 cleared, 0.847 replaced, 0.933 unchanged with a target, 1.07 unmasked
    mask = replace_regions(4, FixedDraws(0.1, 0.127, 0.14, 0.16))
    assert mask.masked.tolist() == [True, True, True, False]
    assert mask.cleared.tolist() == [True, False, False, False]
    assert mask.replaced.tolist() == [False, True, False, False]


def test_a_probability_of_zero_masks_nothing_and_draws_nothing() -> None:
    assert mask_tokens([5], FixedDraws(), mask_id=MASK, vocab_size=VOCABULARY, probability=0.0) == ([5], [-1])
    assert not any(part.any() for part in replace_regions(2, FixedDraws(), probability=0.0))
