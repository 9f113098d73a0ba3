"""What pre-training hides, and whose caption it shows (specs: ViLBERT 2.2, LXMERT c).

Draws are of a generator passed in, random.Random or the like, one for an example and an epoch; in this order and as
many of them as the original's, so that its samples come out again: caption, then words, then regions.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

SHARE = 0.15  # of the words, and of the regions, that are to be guessed
MASKED, REPLACED = 0.8, 0.1  # shares of these words that become [MASK], or a word drawn; the others stay
ZEROED = 0.9  # share of these regions without features, in ViLBERT
CLEARED, EXCHANGED = 0.8, 0.1  # shares of them without features and with another region's, in LXMERT
OVERLAP = 0.4  # with a region to be guessed, from which another gives it away


class Generator(Protocol):
    def random(self) -> float: ...

    def randrange(self, stop: int, /) -> int: ...


class HiddenRegions(NamedTuple):
    """All bool [R]. guessed: what the loss is about. zeroed: whose features the original clears. covered: those that
    overlap the guessed, these among them, which the paper clears too and the original only does not count."""

    guessed: np.ndarray
    zeroed: np.ndarray
    covered: np.ndarray


def other_caption(count: int, rng: Generator) -> int | None:
    """Which of all `count` captions is shown instead of the image's own, in one of two cases; None: its own. The one
    drawn may be its own by chance, as in the original."""
    return rng.randrange(count) if rng.random() > 0.5 else None


def hide_words(
    ids: Sequence[int], rng: Generator, *, mask_id: int, vocab_size: int, share: float = SHARE
) -> tuple[list[int], list[int]]:
    """What the model reads and what it is to guess, -1 = nothing, of the words of a text without special tokens."""
    shown, labels = [], []
    for word in ids:
        place = rng.random() / share if share else 1.0
        if place < MASKED:
            shown.append(mask_id)
        elif place < MASKED + REPLACED:
            shown.append(rng.randrange(vocab_size))
        else:
            shown.append(word)
        labels.append(word if place < 1 else -1)
    return shown, labels


def hide_regions(overlaps: np.ndarray, rng: Generator, *, share: float = SHARE) -> HiddenRegions:
    """overlaps [R,R]: IoU of every region with every other."""
    places = np.array([rng.random() / share if share else 1.0 for _ in overlaps])
    guessed = places < 1
    covered = np.asarray((overlaps[guessed] > OVERLAP).any(0))
    return HiddenRegions(guessed, places < ZEROED, covered)


class ExchangedRegions(NamedTuple):
    """All bool [R]; of the guessed some are cleared, some get another region's features, the others stay."""

    guessed: np.ndarray
    cleared: np.ndarray
    exchanged: np.ndarray


def exchange_regions(count: int, rng: Generator, *, share: float = SHARE) -> ExchangedRegions:
    """LXMERT's way, which is that of the words."""
    places = np.array([rng.random() / share if share else 1.0 for _ in range(count)])
    cleared = places < CLEARED
    return ExchangedRegions(places < 1, cleared, ~cleared & (places < CLEARED + EXCHANGED))
