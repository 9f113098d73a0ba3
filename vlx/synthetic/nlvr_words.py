"""Parts of NLVR's sentences with their meaning: quantities, nouns and locations."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from vlx.synthetic.nlvr_images import BOX_SIZE, COLOURS, SHAPES, SIZES, Box, Item, gap

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
SIZE_WORDS = dict(zip(("small", "medium", "big"), SIZES, strict=True))
TOUCHING = 3  # pixels between two items that touch each other, at most
ItemTest = Callable[[Item], bool]


class Quantity(NamedTuple):
    """A quantity such as `at least two`. `holds`: whether a count agrees with it."""

    text: str
    plural: bool
    holds: Callable[[int], bool]

    def with_noun(self, noun: str) -> str:
        """Return the quantity and the noun, in the plural if need be."""
        if not self.plural:
            return f"{self.text} {noun}"
        return f"{self.text} {noun}{'es' if noun.endswith('x') else 's'}"

    @property
    def verb(self) -> str:
        return "are" if self.plural else "is"


class NumberPhrase(NamedTuple):
    """Templates of a number, one of which is chosen. `compare(actual, stated)`: whether a count agrees with it."""

    templates: tuple[str, ...]
    compare: Callable[[int, int], bool]


NUMBER_PHRASES: dict[str, NumberPhrase] = {
    "exactly": NumberPhrase(("exactly {}",), int.__eq__),
    "bare": NumberPhrase(("{}",), int.__eq__),
    "some": NumberPhrase(("{}",), int.__ge__),  # of boxes and towers: `2 boxes` is true of three boxes
    "only": NumberPhrase(("only {}",), int.__eq__),
    "least": NumberPhrase(("at least {}", "at least {}", "atleast {}"), int.__ge__),
    "most": NumberPhrase(("at most {}",), int.__le__),
    "more": NumberPhrase(("more than {}",), int.__gt__),
    "less": NumberPhrase(("less than {}",), int.__lt__),
}


def random_colour(rng: random.Random) -> str:
    return rng.choice(list(COLOURS))


def numeral(rng: random.Random, value: int) -> str:
    """Return a number in digits or as a word."""
    return rng.choice((str(value), NUMBERS[value]))


def random_quantity(rng: random.Random, largest: int, *, kinds: str) -> Quantity:
    """Return a quantity up to `largest`. kinds: names of NUMBER_PHRASES, `a` or `no`, separated by spaces; a name that
    is repeated is as many times likelier."""
    kind = rng.choice(kinds.split())
    if kind == "a":
        return Quantity("a", False, lambda actual: actual > 0)
    if kind == "no":
        return Quantity("no", False, lambda actual: actual == 0)
    phrase = NUMBER_PHRASES[kind]
    smallest = 2 if kind == "less" else 1
    stated = rng.randint(smallest, max(largest, smallest))
    text = rng.choice(phrase.templates).format(numeral(rng, stated))
    return Quantity(text, stated > 1, lambda actual: phrase.compare(actual, stated))


class Noun(NamedTuple):
    """A noun phrase in the singular, and which items it fits."""

    text: str
    fits: ItemTest

    def count(self, box: Sequence[Item]) -> int:
        return sum(map(self.fits, box))


def random_noun(rng: random.Random, *, size_probability: float = 0.0) -> Noun:
    """Return a noun with a colour, a shape or both, and sometimes with a size."""
    has_colour, has_shape = rng.choices(((True, True), (True, False), (False, True)), (5, 4, 1.5))[0]
    colour = random_colour(rng) if has_colour else None
    shape = rng.choice(SHAPES) if has_shape else None
    size = rng.choice(list(SIZE_WORDS)) if rng.random() < size_probability else None
    head = shape or rng.choice(("item", "item", "object"))
    text = " ".join(word for word in (size, colour, head) if word)
    kind = (colour, shape, SIZE_WORDS[size] if size else None)
    return Noun(
        text, lambda item: all(expected in (None, actual) for expected, actual in zip(kind, item, strict=False))
    )


def any_item(rng: random.Random) -> Noun:
    """Return a noun that fits every item."""
    return Noun(rng.choice(("item", "object")), lambda item: True)


class Sides(NamedTuple):
    """The sides of its box that an item touches."""

    left: bool
    top: bool
    right: bool
    bottom: bool


def touched_sides(item: Item, *, within: int = 0) -> Sides:
    """Return the sides of the box that are at most `within` pixels from an item."""
    last = BOX_SIZE - within
    return Sides(item.x <= within, item.y <= within, item.right >= last, item.bottom >= last)


def on_edge(item: Item) -> bool:
    return any(touched_sides(item))


def not_on_edge(item: Item) -> bool:
    return not on_edge(item)


def on_bottom(item: Item) -> bool:
    return touched_sides(item).bottom


def on_right(item: Item) -> bool:
    return touched_sides(item).right


def on_top(item: Item) -> bool:
    return touched_sides(item).top


def in_corner(item: Item, *, within: int = 0) -> bool:
    sides = touched_sides(item, within=within)
    return (sides.left or sides.right) and (sides.top or sides.bottom)


class Location(NamedTuple):
    text: str
    holds: ItemTest


class LocationPhrases(NamedTuple):
    """Phrases of one meaning, one of which is chosen, and how likely they are."""

    phrases: tuple[str, ...]
    holds: ItemTest
    weight: float


EDGES = ("touching the edge", "touching any edge", "touching an edge", "touching the edge")
WALLS = ("touching the wall", "touching the side", "touching the line", "closely touching a wall of a box")
NOT_EDGES = tuple(f"not {phrase}" for phrase in (*EDGES, *WALLS[:2]))
BOTTOMS = ("closely touching the bottom of a box", "touching the base", "touching the bottom base")
RIGHTS = ("closely touching right wall of a box", "touching the right side")
NEAR_CORNERS = ("closely touching a corner", "closely touching a corner of a box")
LOCATIONS = (
    LocationPhrases(EDGES, on_edge, 4),
    LocationPhrases(WALLS, on_edge, 2),
    LocationPhrases(NOT_EDGES, not_on_edge, 3),
    LocationPhrases(BOTTOMS, on_bottom, 4),
    LocationPhrases(RIGHTS, on_right, 3),
    LocationPhrases(NEAR_CORNERS, partial(in_corner, within=TOUCHING), 2),
    LocationPhrases(("touching the corner", "touching a corner"), in_corner, 1),
    LocationPhrases(("closely touching the roof of a box",), on_top, 0.3),
)


def random_location(rng: random.Random) -> Location:
    location = rng.choices(LOCATIONS, [location.weight for location in LOCATIONS])[0]
    return Location(rng.choice(location.phrases), location.holds)


def touch(first: Item, second: Item) -> bool:
    return gap(first, second) <= TOUCHING


def longest_run(box: Box, colour: str) -> int:
    """Return the largest number of blocks of a colour that lie directly on each other."""
    longest = 0
    length = 0
    for item in box:
        length = length + 1 if item.colour == colour else 0
        longest = max(longest, length)
    return longest
