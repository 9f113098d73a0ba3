"""What NLVR's sentences are made of: how many, of what, where; each with what it means."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from vlx.synthetic.nlvr_pictures import COLOURS, SHAPES, SIDE, SIZES, Box, Item, gap

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
SIZE_WORDS = dict(zip(("small", "medium", "big"), SIZES, strict=True))
NEAR = 3  # pixels between things that are said to touch each other
Test = Callable[[Item], bool]


class Quantity(NamedTuple):
    words: str
    many: bool  # of things, not of one
    fits: Callable[[int], bool]

    def __str__(self) -> str:
        return self.words

    def of(self, noun: str) -> str:
        """The quantity and so many of the noun."""
        return f"{self} {noun}{('es' if noun.endswith('x') else 's') * self.many}"

    @property
    def verb(self) -> str:
        return "are" if self.many else "is"


QUANTITIES: dict[str, tuple[tuple[str, ...], Callable[[int, int], bool]]] = {  # (found, said)
    "exactly": (("exactly {}",), int.__eq__),
    "bare": (("{}",), int.__eq__),
    "some": (("{}",), int.__ge__),  # as many as that, of boxes and towers: others may be alike
    "only": (("only {}",), int.__eq__),
    "least": (("at least {}", "at least {}", "atleast {}"), int.__ge__),
    "most": (("at most {}",), int.__le__),
    "more": (("more than {}",), int.__gt__),
    "less": (("less than {}",), int.__lt__),
}


def pick(rng: random.Random, *forms: str) -> str:
    return rng.choice(forms)


def colour_of(rng: random.Random) -> str:
    return rng.choice(list(COLOURS))


def number(rng: random.Random, value: int) -> str:
    return rng.choice((str(value), NUMBERS[value]))


def quantity(rng: random.Random, most: int, kinds: str) -> Quantity:
    """Of up to `most`; kinds: names of QUANTITIES, or a or no, one of which is chosen."""
    kind = rng.choice(kinds.split())
    if kind == "a":
        return Quantity("a", False, lambda found: found > 0)
    if kind == "no":
        return Quantity("no", False, lambda found: not found)
    forms, test = QUANTITIES[kind]
    least = 2 if kind == "less" else 1
    said = rng.randint(least, max(most, least))
    words = rng.choice(forms).format(number(rng, said))
    return Quantity(words, said > 1, lambda found: test(found, said))


class Noun(NamedTuple):
    words: str  # of one
    fits: Test

    def count(self, box: Sequence[Item]) -> int:
        return sum(map(self.fits, box))


def noun(rng: random.Random, *, sized: float = 0.0) -> Noun:
    """A colour, a shape or both, and with this chance a size."""
    coloured, shaped = rng.choices(((True, True), (True, False), (False, True)), (5, 4, 1.5))[0]
    colour, shape = colour_of(rng) if coloured else None, rng.choice(SHAPES) if shaped else None
    size = rng.choice(list(SIZE_WORDS)) if rng.random() < sized else None
    words = [word for word in (size, colour, shape or rng.choice(("item", "item", "object"))) if word]
    kind = (colour, shape, SIZE_WORDS[size] if size else None)
    return Noun(" ".join(words), lambda item: all(want in (None, has) for want, has in zip(kind, item, strict=False)))


def thing(rng: random.Random) -> Noun:
    """Anything in a box."""
    return Noun(rng.choice(("item", "object")), lambda item: True)


def touches(item: Item, *, within: int = 0) -> tuple[bool, bool, bool, bool]:
    """The left, upper, right and lower side of the box, or is so many pixels from it."""
    return item.x <= within, item.y <= within, item.right >= SIDE - within, item.bottom >= SIDE - within


def on_edge(item: Item) -> bool:
    return any(touches(item))


def on_base(item: Item) -> bool:
    return touches(item)[3]


def in_corner(item: Item, *, within: int = 0) -> bool:
    left, upper, right, lower = touches(item, within=within)
    return (left or right) and (upper or lower)


EDGES = "touching the edge", "touching any edge", "touching an edge", "touching the edge"
WALLS = "touching the wall", "touching the side", "touching the line", "closely touching a wall of a box"
PLACES: tuple[tuple[tuple[str, ...], Test, float], ...] = (  # words, meaning, weight
    (EDGES, on_edge, 4),
    (WALLS, on_edge, 2),
    (tuple(f"not {words}" for words in (*EDGES, *WALLS[:2])), lambda item: not on_edge(item), 3),
    (("closely touching the bottom of a box", "touching the base", "touching the bottom base"), on_base, 4),
    (("closely touching right wall of a box", "touching the right side"), lambda item: touches(item)[2], 3),
    (("closely touching a corner", "closely touching a corner of a box"), partial(in_corner, within=NEAR), 2),
    (("touching the corner", "touching a corner"), in_corner, 1),
    (("closely touching the roof of a box",), lambda item: touches(item)[1], 0.3),
)


def place(rng: random.Random) -> tuple[str, Test]:
    words, meaning, _ = rng.choices(PLACES, [weight for *_, weight in PLACES])[0]
    return rng.choice(words), meaning


def touch(one: Item, other: Item) -> bool:
    return gap(one, other) <= NEAR


def run(box: Box, colour: str) -> int:
    """The most blocks of a colour that lie one on another."""
    longest = now = 0
    for item in box:
        now = now + 1 if item.colour == colour else 0
        longest = max(longest, now)
    return longest
