import random
from collections import Counter

import numpy as np
import pytest
from vlx.objectives.masking import hide_regions, hide_words, other_caption

MASK, VOCABULARY = 103, 1_000


class Given:
    """Draws that a test decides."""

    def __init__(self, *draws: float, word: int = 7) -> None:
        self.draws, self.word = list(draws), word

    def random(self) -> float:
        return self.draws.pop(0)

    def randrange(self, stop: int) -> int:
        assert self.word < stop
        return self.word


@pytest.mark.parametrize(
    ("draw", "shown", "label"),
    [
        (0.0, MASK, 5),
        (0.119, MASK, 5),  # 0.119 / 0.15 = 0.793
        (0.121, 7, 5),  # 0.807: another word
        (0.134, 7, 5),  # 0.893
        (0.136, 5, 5),  # 0.907: as it is, but to be guessed
        (0.149, 5, 5),
        (0.151, 5, -1),
        (0.999, 5, -1),
    ],
)
def test_a_word_is_hidden_as_its_draw_says(draw: float, shown: int, label: int) -> None:
    assert hide_words([5], Given(draw), mask_id=MASK, vocab_size=VOCABULARY) == ([shown], [label])


def test_shares_of_words_are_berts() -> None:
    words = list(range(200, 900)) * 60
    shown, labels = hide_words(words, random.Random(0), mask_id=MASK, vocab_size=VOCABULARY)
    kinds = Counter(
        "left" if label < 0 else "mask" if word == MASK else "same" if word == label else "other"
        for word, label in zip(shown, labels, strict=True)
    )
    assert all(label in (-1, word) for word, label in zip(words, labels, strict=True))
    share = {kind: count / len(words) for kind, count in kinds.items()}
    assert share["left"] == pytest.approx(0.85, abs=0.01) and share["mask"] == pytest.approx(0.12, abs=0.005)
    assert share["other"] == pytest.approx(0.015, abs=0.003) and share["same"] == pytest.approx(0.015, abs=0.003)


def test_the_same_generator_hides_the_same() -> None:
    found = [hide_words(range(50), random.Random("7/1/a"), mask_id=MASK, vocab_size=VOCABULARY) for _ in range(2)]
    assert found[0] == found[1] != hide_words(range(50), random.Random("7/2/a"), mask_id=MASK, vocab_size=VOCABULARY)
    assert hide_words([], random.Random(0), mask_id=MASK, vocab_size=VOCABULARY) == ([], [])


def test_a_region_hides_those_that_overlap_it() -> None:
    grid = np.array([[1, 0.41, 0.1, 0], [0.41, 1, 0.4, 0], [0.1, 0.4, 1, 0], [0, 0, 0, 1]])
    hidden = hide_regions(grid, Given(0.1, 0.5, 0.5, 0.14))  # 0.14 / 0.15 = 0.933: its features stay
    assert hidden.guessed.tolist() == [True, False, False, True]
    assert hidden.zeroed.tolist() == [True, False, False, False]
    assert hidden.covered.tolist() == [True, True, False, True]


def test_without_a_region_to_guess_none_is_hidden() -> None:
    hidden = hide_regions(np.eye(3), Given(0.5, 0.15, 0.99))
    assert not any(part.any() for part in hidden) and all(part.shape == (3,) and part.dtype == bool for part in hidden)
    assert all(part.shape == (0,) for part in hide_regions(np.zeros((0, 0)), Given()))


def test_every_other_caption_is_anothers() -> None:
    rng = random.Random(0)
    drawn = [other_caption(10, rng) for _ in range(4_000)]
    assert drawn.count(None) / len(drawn) == pytest.approx(0.5, abs=0.03) and {*drawn} == {None, *range(10)}
    assert (other_caption(9, Given(0.5)), other_caption(9, Given(0.51))) == (None, 7)
