"""What NLVR's sentences say that a tower or a box has: words after `with` or `has`, and what they mean."""

import random
from collections.abc import Callable
from typing import NamedTuple

from vlx.synthetic.nlvr_pictures import COLOURS, HIGHEST, MOST, Box
from vlx.synthetic.nlvr_words import colour_of, noun, number, on_edge, pick, quantity, run, thing, touch


class Content(NamedTuple):
    words: str
    fits: Callable[[Box], bool]


Maker = Callable[[random.Random], Content]
ABOVE, BELOW = ("above", "over", "on", "on top of", "above", "over"), ("below", "bellow", "under")
ENDS = {"at the top": -1, "at the base": 0, "at the bottom": 0, "at its base": 0, "at base": 0, "at top": -1}


def one_of(rng: random.Random, makers: dict[Maker, float]) -> Content:
    return rng.choices(list(makers), list(makers.values()))[0](rng)


def of_colour(box: Box, colour: str) -> int:
    return sum(item.colour == colour for item in box)


def pairs(box: Box, high: str, low: str) -> int:
    """How often a block of one colour lies on one of another."""
    return sum(upper.colour == high and under.colour == low for under, upper in zip(box, box[1:], strict=False))


def end_block(rng: random.Random) -> Content:
    colour, (words, at) = colour_of(rng), rng.choice([*ENDS.items(), *list(ENDS.items())[:2] * 3])
    forms = ["a {c} block {w}"] * 6 + ["{c} block {w}", "{n} {c} block {w}", "at least {n} {c} block {w}", "a {c} {e}"]
    said = rng.choice(forms).format(c=colour, w=words, n=number(rng, 1), e="top" if at else "base")
    return Content(said, lambda box: box[at].colour == colour)


def both_ends(rng: random.Random) -> Content:
    low, high = colour_of(rng), colour_of(rng)
    said = pick(
        rng, "a {0} block at the base and {1} block at the top", "a {1} block at the top and a {0} block at the base"
    )
    return Content(said.format(low, high), lambda box: (box[0].colour, box[-1].colour) == (low, high))


def middle_block(rng: random.Random) -> Content:
    colour = colour_of(rng)
    said = pick(rng, "a {} block in the middle", "a {} block as a middle block").format(colour)
    return Content(said, lambda box: of_colour(box[1:-1], colour) > 0)


def stacked_pair(rng: random.Random) -> Content:
    one, other, above = colour_of(rng), colour_of(rng), rng.random() < 0.85
    said = f"a {one} block {pick(rng, *(ABOVE if above else BELOW))} {pick(rng, 'a', 'a', 'a', 'the')} {other} block"
    return Content(said, lambda box: pairs(box, *((one, other) if above else (other, one))) > 0)


def some_blocks(rng: random.Random) -> Content:
    found, colour = quantity(rng, HIGHEST - 1, "bare exactly exactly least least only most"), colour_of(rng)
    return Content(found.of(f"{colour} block"), lambda box: found.fits(of_colour(box, colour)))


def two_kinds(rng: random.Random) -> Content:
    (one, first), (other, second) = (
        (quantity(rng, 3, "bare bare exactly least"), name) for name in rng.sample(list(COLOURS), 2)
    )
    said = f"{one.of(f'{first} block')} and {other.of(f'{second} block')}"
    return Content(said, lambda box: one.fits(of_colour(box, first)) and other.fits(of_colour(box, second)))


def height(rng: random.Random) -> Content:
    found = quantity(rng, HIGHEST, "bare exactly exactly only least more less most")
    return Content(found.of("block"), lambda box: found.fits(len(box)))


def stacked_together(rng: random.Random) -> Content:
    colour, least = colour_of(rng), rng.randint(2, 3)
    words = pick(rng, "{} {} blocks stacked together", "{} {} blocks attached with each other")
    said = pick(rng, "", "at least ") + words.format(number(rng, least), colour)
    return Content(said, lambda box: run(box, colour) >= least)


def only_colours(rng: random.Random, what: str = "block") -> Content:
    names = rng.sample(list(COLOURS), rng.choice((1, 1, 2)))
    of_blocks = ("only {0} {1}s", "only {0} {1}s", "only {0} color {1}s", "{0} {1}s only")
    of_items = ("only {0} {1}s", "only {0} {1}s", "{1}s of only {0} color", "only {0} {1}s")
    said = pick(rng, *(of_blocks if what == "block" else of_items)).format(" and ".join(names), what)
    return Content(said, lambda box: {item.colour for item in box} == set(names))


def number_of_colours(rng: random.Random, what: str = "block") -> Content:
    found = rng.randint(1, 3)
    forms = {
        1: ("{w}s of the same {c}", "only {n} {c}"),
        2: ("{w}s of {n} different {c}s", "{w}s of only {n} different {c}s"),
        3: ("{w}s of all {n} {c}s", "{w}s of all {n} different {c}s", "{w}s of {n} different {c}s"),
    }[found]
    said = rng.choice(forms).format(w=what, n=number(rng, found), c=pick(rng, "color", "colour"))
    return Content(said, lambda box: len({item.colour for item in box}) == found)


OF_TOWERS: dict[Maker, float] = {
    **{end_block: 6, both_ends: 0.6, middle_block: 0.6, stacked_pair: 2.5, some_blocks: 5, two_kinds: 0.8},
    **{height: 4, stacked_together: 1.5, only_colours: 2, number_of_colours: 0.8},
}
OF_TALL: dict[Maker, float] = {end_block: 3, stacked_pair: 1, both_ends: 0.7, middle_block: 0.7}


def tower(rng: random.Random) -> Content:
    """What a tower has: one thing, or a height and another, or a height and not the other."""
    first, chance = one_of(rng, OF_TOWERS), rng.random()
    if chance > 0.2:
        return first
    tall, more, form = height(rng), one_of(rng, OF_TALL), pick(rng, " having ", " having ", " with ", " and ")
    if chance > 0.17:
        return Content(f"{tall.words} not having {more.words}", lambda box: tall.fits(box) and not more.fits(box))
    return Content(tall.words + form + more.words, lambda box: tall.fits(box) and more.fits(box))


def some_items(rng: random.Random) -> Content:
    what, found = noun(rng, sized=0.03), quantity(rng, 3, "a a a a bare exactly least least least no")
    return Content(found.of(what.words), lambda box: found.fits(what.count(box)))


def several(rng: random.Random) -> Content:
    parts = [some_items(rng) for _ in range(rng.choice((2, 2, 2, 3)))]
    said = ", ".join(part.words for part in parts[:-1]) + f" and {parts[-1].words}"
    return Content(said, lambda box: all(part.fits(box) for part in parts))


def all_items(rng: random.Random) -> Content:
    what, found = thing(rng), quantity(rng, MOST, "bare bare exactly exactly exactly only only least most less more")
    return Content(found.of(what.words), lambda box: found.fits(len(box)))


def many_items(rng: random.Random) -> Content:
    return Content(pick(rng, "many items", "multiple items"), lambda box: len(box) > 2)


def only_some(rng: random.Random) -> Content:
    """So many of a kind and no more of it; or nothing else at all."""
    what, found = noun(rng, sized=0.02), quantity(rng, 3, "only")
    if rng.random() < 0.7:
        return Content(found.of(what.words), lambda box: found.fits(what.count(box)))
    return Content(f"{pick(rng, 'only ', 'only ', '')}{what.words}s", lambda box: what.count(box) == len(box))


def items_of_colours(rng: random.Random) -> Content:
    return only_colours(rng, pick(rng, "item", "item", "object"))


def colours_of_items(rng: random.Random) -> Content:
    return number_of_colours(rng, "item")


def so_many_of_colours(rng: random.Random) -> Content:
    """A number of all items, and their colours or how many colours they have."""
    found, has = quantity(rng, MOST, "bare bare exactly least"), rng.choice((items_of_colours, colours_of_items))(rng)
    kinds = has.words.removeprefix("only ").removesuffix("s")
    said = f"{found} {has.words}" if has.words.startswith("items") else found.of(kinds.removesuffix("color"))
    return Content(said, lambda box: found.fits(len(box)) and has.fits(box))


def numbers_of_colours(rng: random.Random) -> Content:
    """So many of one colour and so many of another."""
    parts = [
        (name, quantity(rng, 3, "bare bare bare least")) for name in rng.sample(list(COLOURS), rng.choice((2, 2, 3)))
    ]
    said = [f"{found} {name}" for name, found in parts]
    said[-1] = parts[-1][1].of(f"{parts[-1][0]} item")
    words = f"{', '.join(said[:-1])} and {said[-1]}"
    return Content(words, lambda box: all(found.fits(of_colour(box, name)) for name, found in parts))


def of_which(rng: random.Random) -> Content:
    """So many items, and some of them are of a kind."""
    total, what, part = rng.randint(2, MOST), noun(rng), quantity(rng, 3, "bare bare bare exactly least only")
    kind = f"{what.words}s" if part.many else f"a {what.words}"
    colour, _, last = what.words.partition(" ")
    kind = colour if last in ("item", "object") else kind
    form = pick(rng, "of which {p} {v} {k}", "of which {p} {v} {k}", "and the {p} {v} {k}", "including {w}")
    if form.startswith("including"):
        part = quantity(rng, 1, "a")
    items = f"{pick(rng, '', '', 'exactly ')}{number(rng, total)} {pick(rng, 'items', 'items', 'objects')} "
    said = items + form.format(p=part, v=part.verb, k=kind, w=what.words)
    return Content(said, lambda box: len(box) == total and part.fits(what.count(box)))


def at_wall(rng: random.Random) -> Content:
    what, touches = noun(rng, sized=0.2), rng.random() < 0.7
    said = f"a {what.words} {'' if touches else 'not '}touching the wall"
    return Content(said, lambda box: any(what.fits(item) and on_edge(item) == touches for item in box))


def on_top(rng: random.Random) -> Content:
    """The uppermost item of a box."""
    what = noun(rng)
    return Content(f"a {what.words} on top", lambda box: what.fits(min(box, key=lambda item: item.y)))


def wall_and_top(rng: random.Random) -> Content:
    low, high = noun(rng), noun(rng)
    said = f"a {low.words} touching the wall and a {high.words} on top{pick(rng, '', ' of it')}"
    return Content(said, lambda box: any(
        low.fits(one) and on_edge(one) and high.fits(other) and other.y < one.y for one in box for other in box
    ))  # fmt: skip


def in_touch(rng: random.Random) -> Content:
    one, other = noun(rng), noun(rng)
    pair = f"a {one.words} and a {other.words} touching each other", f"a {one.words} closely touching a {other.words}"
    same = rng.random() < 0.3
    said = f"{number(rng, 2)} {one.words}s touching each other" if same else pick(rng, *pair)
    fits = one.fits if same else other.fits
    return Content(
        said, lambda box: any(one.fits(a) and fits(b) and touch(a, b) for a in box for b in box if a is not b)
    )


OF_BOXES: dict[Maker, float] = {
    **{some_items: 5, several: 5, all_items: 5, only_some: 2, numbers_of_colours: 0.8, items_of_colours: 2.5},
    **{colours_of_items: 1.2, so_many_of_colours: 0.8, of_which: 2.4, many_items: 0.5, at_wall: 0.8, on_top: 0.6},
    **{wall_and_top: 0.7, in_touch: 0.5},
}
OF_BOXES_WITH_TOWERS: dict[Maker, float] = {
    **{some_items: 3, all_items: 4, items_of_colours: 3, colours_of_items: 1, of_which: 1, so_many_of_colours: 0.5},
    numbers_of_colours: 0.6,
}
OF_EVERY_BOX: dict[Maker, float] = {some_items: 3, all_items: 1}
OF_SOME: dict[Maker, float] = {all_items: 4, some_items: 2, several: 1, items_of_colours: 1, only_some: 1, of_which: 1}
