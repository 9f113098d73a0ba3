"""Properties of a tower or a box in NLVR's sentences: the text after `with` or `has`, and the boxes it is true of."""

import random
from collections.abc import Callable
from typing import NamedTuple

from vlx.synthetic.nlvr_images import COLOURS, MAX_BLOCKS, MAX_ITEMS, Box
from vlx.synthetic.nlvr_words import (
    any_item,
    longest_run,
    numeral,
    on_edge,
    random_colour,
    random_noun,
    random_quantity,
    touch,
)


class Property(NamedTuple):
    text: str
    holds: Callable[[Box], bool]


Maker = Callable[[random.Random], Property]
ABOVE = ("above", "over", "on", "on top of", "above", "over")
BELOW = ("below", "bellow", "under")  # with the misspelling of the original sentences
TOP = -1  # index of the topmost block of a tower
BASE = 0
TOP_OR_BASE = (("at the top", TOP), ("at the base", BASE))
RARE_ENDS = (("at the bottom", BASE), ("at its base", BASE), ("at base", BASE), ("at top", TOP))
ENDS = (*TOP_OR_BASE, *RARE_ENDS, *TOP_OR_BASE * 3)


def random_property(rng: random.Random, makers: dict[Maker, float]) -> Property:
    """Return a property of one of the kinds, by their weights."""
    return rng.choices(list(makers), list(makers.values()))[0](rng)


def count_colour(box: Box, colour: str) -> int:
    return sum(item.colour == colour for item in box)


def count_stacked(box: Box, *, upper: str, lower: str) -> int:
    """Return how many blocks of the colour `upper` lie directly on a block of the colour `lower`."""
    neighbours = zip(box, box[1:], strict=False)
    return sum(above.colour == upper and below.colour == lower for below, above in neighbours)


# ---- Properties of a tower


def end_block(rng: random.Random) -> Property:
    colour = random_colour(rng)
    where, index = rng.choice(ENDS)
    templates = ["a {colour} block {where}"] * 6 + [
        "{colour} block {where}",
        "{number} {colour} block {where}",
        "at least {number} {colour} block {where}",
        "a {colour} {end}",
    ]
    text = rng.choice(templates).format(
        colour=colour, where=where, number=numeral(rng, 1), end="top" if index == TOP else "base"
    )
    return Property(text, lambda box: box[index].colour == colour)


def both_ends(rng: random.Random) -> Property:
    base = random_colour(rng)
    top = random_colour(rng)
    text = rng.choice(
        (
            f"a {base} block at the base and {top} block at the top",
            f"a {top} block at the top and a {base} block at the base",
        )
    )
    return Property(text, lambda box: box[BASE].colour == base and box[TOP].colour == top)


def middle_block(rng: random.Random) -> Property:
    colour = random_colour(rng)
    text = rng.choice((f"a {colour} block in the middle", f"a {colour} block as a middle block"))
    return Property(text, lambda box: count_colour(box[1:-1], colour) > 0)


def stacked_pair(rng: random.Random) -> Property:
    first = random_colour(rng)
    second = random_colour(rng)
    is_above = rng.random() < 0.85
    relation = rng.choice(ABOVE if is_above else BELOW)
    text = f"a {first} block {relation} {rng.choice(('a', 'a', 'a', 'the'))} {second} block"
    if is_above:
        return Property(text, lambda box: count_stacked(box, upper=first, lower=second) > 0)
    return Property(text, lambda box: count_stacked(box, upper=second, lower=first) > 0)


def blocks_of_colour(rng: random.Random) -> Property:
    quantity = random_quantity(rng, MAX_BLOCKS - 1, kinds="bare exactly exactly least least only most")
    colour = random_colour(rng)
    return Property(quantity.with_noun(f"{colour} block"), lambda box: quantity.holds(count_colour(box, colour)))


def blocks_of_two_colours(rng: random.Random) -> Property:
    first, second = rng.sample(list(COLOURS), 2)
    first_quantity = random_quantity(rng, 3, kinds="bare bare exactly least")
    second_quantity = random_quantity(rng, 3, kinds="bare bare exactly least")
    text = f"{first_quantity.with_noun(f'{first} block')} and {second_quantity.with_noun(f'{second} block')}"
    return Property(
        text,
        lambda box: first_quantity.holds(count_colour(box, first)) and second_quantity.holds(count_colour(box, second)),
    )


def number_of_blocks(rng: random.Random) -> Property:
    quantity = random_quantity(rng, MAX_BLOCKS, kinds="bare exactly exactly only least more less most")
    return Property(quantity.with_noun("block"), lambda box: quantity.holds(len(box)))


def colour_run(rng: random.Random) -> Property:
    """Return that blocks of a colour lie directly on each other."""
    colour = random_colour(rng)
    length = rng.randint(2, 3)
    template = rng.choice(("{} {} blocks stacked together", "{} {} blocks attached with each other"))
    text = rng.choice(("", "at least ")) + template.format(numeral(rng, length), colour)
    return Property(text, lambda box: longest_run(box, colour) >= length)


def only_block_colours(rng: random.Random) -> Property:
    return only_colours(
        rng, ("only {colours} blocks", "only {colours} blocks", "only {colours} color blocks", "{colours} blocks only")
    )


def only_colours(rng: random.Random, templates: tuple[str, ...]) -> Property:
    """Return that a box has items of one or two colours and of no other."""
    count = rng.choice((1, 1, 2))
    colours = rng.sample(list(COLOURS), count)
    text = rng.choice(templates).format(colours=" and ".join(colours))
    return Property(text, lambda box: {item.colour for item in box} == set(colours))


def number_of_block_colours(rng: random.Random) -> Property:
    return number_of_colours(rng, "block")


def number_of_colours(rng: random.Random, noun: str) -> Property:
    count = rng.randint(1, 3)
    templates = {
        1: ("{noun}s of the same {colour}", "only {number} {colour}"),
        2: ("{noun}s of {number} different {colour}s", "{noun}s of only {number} different {colour}s"),
        3: (
            "{noun}s of all {number} {colour}s",
            "{noun}s of all {number} different {colour}s",
            "{noun}s of {number} different {colour}s",
        ),
    }[count]
    text = rng.choice(templates).format(noun=noun, number=numeral(rng, count), colour=rng.choice(("color", "colour")))
    return Property(text, lambda box: len({item.colour for item in box}) == count)


TOWER_PROPERTIES: dict[Maker, float] = {
    end_block: 6,
    both_ends: 0.6,
    middle_block: 0.6,
    stacked_pair: 2.5,
    blocks_of_colour: 5,
    blocks_of_two_colours: 0.8,
    number_of_blocks: 4,
    colour_run: 1.5,
    only_block_colours: 2,
    number_of_block_colours: 0.8,
}
FIXED_HEIGHT_PROPERTIES: dict[Maker, float] = {  # of a tower whose number of blocks is stated already
    end_block: 3,
    stacked_pair: 1,
    both_ends: 0.7,
    middle_block: 0.7,
}


def tower_property(rng: random.Random) -> Property:
    """Return one property, or a number of blocks with a second property, or without it."""
    single = random_property(rng, TOWER_PROPERTIES)
    probability = rng.random()
    if probability > 0.2:
        return single
    height = number_of_blocks(rng)
    second = random_property(rng, FIXED_HEIGHT_PROPERTIES)
    conjunction = rng.choice((" having ", " having ", " with ", " and "))
    if probability > 0.17:
        text = f"{height.text} not having {second.text}"
        return Property(text, lambda box: height.holds(box) and not second.holds(box))
    return Property(height.text + conjunction + second.text, lambda box: height.holds(box) and second.holds(box))


# ---- Properties of a box of items


def items_of_kind(rng: random.Random) -> Property:
    noun = random_noun(rng, size_probability=0.03)
    quantity = random_quantity(rng, 3, kinds="a a a a bare exactly least least least no")
    return Property(quantity.with_noun(noun.text), lambda box: quantity.holds(noun.count(box)))


def several_kinds(rng: random.Random) -> Property:
    count = rng.choice((2, 2, 2, 3))
    parts = [items_of_kind(rng) for _ in range(count)]
    text = ", ".join(part.text for part in parts[:-1]) + f" and {parts[-1].text}"
    return Property(text, lambda box: all(part.holds(box) for part in parts))


def number_of_items(rng: random.Random) -> Property:
    noun = any_item(rng)
    kinds = "bare bare exactly exactly exactly only only least most less more"
    quantity = random_quantity(rng, MAX_ITEMS, kinds=kinds)
    return Property(quantity.with_noun(noun.text), lambda box: quantity.holds(len(box)))


def many_items(rng: random.Random) -> Property:
    return Property(rng.choice(("many items", "multiple items")), lambda box: len(box) > 2)


def only_items_of_kind(rng: random.Random) -> Property:
    """Return a number of items of a kind, or that there is no item of another kind."""
    noun = random_noun(rng, size_probability=0.02)
    quantity = random_quantity(rng, 3, kinds="only")
    if rng.random() < 0.7:
        return Property(quantity.with_noun(noun.text), lambda box: quantity.holds(noun.count(box)))
    text = f"{rng.choice(('only ', 'only ', ''))}{noun.text}s"
    return Property(text, lambda box: noun.count(box) == len(box))


def only_item_colours(rng: random.Random) -> Property:
    noun = rng.choice(("item", "item", "object"))
    only = f"only {{colours}} {noun}s"
    return only_colours(rng, (only, only, f"{noun}s of only {{colours}} color", only))


def number_of_item_colours(rng: random.Random) -> Property:
    return number_of_colours(rng, "item")


def number_and_colours(rng: random.Random) -> Property:
    """Return a number of items, and their colours or the number of their colours."""
    quantity = random_quantity(rng, MAX_ITEMS, kinds="bare bare exactly least")
    colours = rng.choice((only_item_colours, number_of_item_colours))(rng)
    if colours.text.startswith("items"):
        text = f"{quantity.text} {colours.text}"
    else:  # `only red items` and `only one color` follow the number without `only`
        singular = colours.text.removeprefix("only ").removesuffix("s").removesuffix("color")
        text = quantity.with_noun(singular)
    return Property(text, lambda box: quantity.holds(len(box)) and colours.holds(box))


def number_per_colour(rng: random.Random) -> Property:
    """Return a number of items for each of two or three colours."""
    count = rng.choice((2, 2, 3))
    colours = rng.sample(list(COLOURS), count)
    quantities = {colour: random_quantity(rng, 3, kinds="bare bare bare least") for colour in colours}
    phrases = [f"{quantities[colour].text} {colour}" for colour in colours[:-1]]
    last = quantities[colours[-1]].with_noun(f"{colours[-1]} item")
    return Property(
        f"{', '.join(phrases)} and {last}",
        lambda box: all(quantity.holds(count_colour(box, colour)) for colour, quantity in quantities.items()),
    )


def number_of_which(rng: random.Random) -> Property:
    """Return a number of items, and how many of them are of a kind: `3 items of which 2 are black`."""
    total = rng.randint(2, MAX_ITEMS)
    noun = random_noun(rng)
    quantity = random_quantity(rng, 3, kinds="bare bare bare exactly least only")
    predicate = f"{noun.text}s" if quantity.plural else f"a {noun.text}"
    colour, _, head = noun.text.partition(" ")
    if head in ("item", "object"):
        predicate = colour
    template = rng.choice(
        ("of which {part} {predicate}", "of which {part} {predicate}", "and the {part} {predicate}", "including {noun}")
    )
    part = f"{quantity.text} {quantity.verb}"
    if template == "including {noun}":
        quantity = random_quantity(rng, 1, kinds="a")
    items = f"{rng.choice(('', '', 'exactly '))}{numeral(rng, total)} {rng.choice(('items', 'items', 'objects'))}"
    text = f"{items} {template.format(part=part, predicate=predicate, noun=noun.text)}"
    return Property(text, lambda box: len(box) == total and quantity.holds(noun.count(box)))


def item_at_wall(rng: random.Random) -> Property:
    noun = random_noun(rng, size_probability=0.2)
    touches = rng.random() < 0.7
    text = f"a {noun.text} {'' if touches else 'not '}touching the wall"
    return Property(text, lambda box: any(noun.fits(item) and on_edge(item) == touches for item in box))


def top_item(rng: random.Random) -> Property:
    """Return the kind of the uppermost item of a box."""
    noun = random_noun(rng)
    return Property(f"a {noun.text} on top", lambda box: noun.fits(min(box, key=lambda item: item.y)))


def wall_item_below(rng: random.Random) -> Property:
    """Return the kinds of an item at the wall and of an item higher up."""
    lower = random_noun(rng)
    upper = random_noun(rng)
    text = f"a {lower.text} touching the wall and a {upper.text} on top{rng.choice(('', ' of it'))}"

    def holds(box: Box) -> bool:
        at_wall = [item for item in box if lower.fits(item) and on_edge(item)]
        return any(upper.fits(item) and item.y < base.y for base in at_wall for item in box)

    return Property(text, holds)


def touching_items(rng: random.Random) -> Property:
    first = random_noun(rng)
    second = random_noun(rng)
    if rng.random() < 0.3:
        second = first
        text = f"{numeral(rng, 2)} {first.text}s touching each other"
    else:
        text = rng.choice(
            (
                f"a {first.text} and a {second.text} touching each other",
                f"a {first.text} closely touching a {second.text}",
            )
        )

    def holds(box: Box) -> bool:
        pairs = [(left, right) for left in box for right in box if left is not right]
        return any(first.fits(left) and second.fits(right) and touch(left, right) for left, right in pairs)

    return Property(text, holds)


BOX_PROPERTIES: dict[Maker, float] = {
    items_of_kind: 5,
    several_kinds: 5,
    number_of_items: 5,
    only_items_of_kind: 2,
    number_per_colour: 0.8,
    only_item_colours: 2.5,
    number_of_item_colours: 1.2,
    number_and_colours: 0.8,
    number_of_which: 2.4,
    many_items: 0.5,
    item_at_wall: 0.8,
    top_item: 0.6,
    wall_item_below: 0.7,
    touching_items: 0.5,
}
TOWER_BOX_PROPERTIES: dict[Maker, float] = {  # of a box that holds a tower
    items_of_kind: 3,
    number_of_items: 4,
    only_item_colours: 3,
    number_of_item_colours: 1,
    number_of_which: 1,
    number_and_colours: 0.5,
    number_per_colour: 0.6,
}
EVERY_BOX_PROPERTIES: dict[Maker, float] = {items_of_kind: 3, number_of_items: 1}  # after `every box has`
SOME_BOXES_PROPERTIES: dict[Maker, float] = {  # after `one of the boxes has`
    number_of_items: 4,
    items_of_kind: 2,
    several_kinds: 1,
    only_item_colours: 1,
    only_items_of_kind: 1,
    number_of_which: 1,
}
