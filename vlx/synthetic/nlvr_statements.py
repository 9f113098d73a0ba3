"""Statements about the three boxes of an image, like NLVR's, each with the images it is true of."""

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vlx.synthetic import nlvr_properties as properties
from vlx.synthetic.nlvr_images import MAX_BLOCKS, MAX_ITEMS, Box, Boxes
from vlx.synthetic.nlvr_properties import (
    BASE,
    TOP,
    Property,
    count_colour,
    count_stacked,
    number_of_blocks,
    random_property,
)
from vlx.synthetic.nlvr_words import (
    Quantity,
    any_item,
    numeral,
    random_colour,
    random_location,
    random_noun,
    random_quantity,
)


class Statement(NamedTuple):
    text: str
    is_true: Callable[[Boxes], bool]


Maker = Callable[[random.Random], Statement]
ANY_HEIGHT = Property("", lambda box: True)


def number_of_boxes(quantity: Quantity, holds: Callable[[Box], bool]) -> Callable[[Boxes], bool]:
    """Return whether the number of boxes with a property agrees with a quantity."""
    return lambda boxes: quantity.holds(sum(map(holds, boxes)))


def number_in_all(quantity: Quantity, count: Callable[[Box], int]) -> Callable[[Boxes], bool]:
    """Return whether the sum of a count over all boxes agrees with a quantity."""
    return lambda boxes: quantity.holds(sum(map(count, boxes)))


# ---- Statements about towers


def towers_with(rng: random.Random) -> Statement:
    quantity = random_quantity(rng, 3, kinds="a a bare bare exactly exactly least only no")
    tower = properties.tower_property(rng)
    templates = ["There {verb} {towers} with {has}"] * 7 + [
        "There {verb} {towers} that has {has}",
        "There {verb} {towers} which has {has}",
        "{towers} has {has}",
    ]
    text = rng.choice(templates).format(verb=quantity.verb, towers=quantity.with_noun("tower"), has=tower.text)
    return Statement(text, number_of_boxes(quantity, tower.holds))


def tower_of_height(rng: random.Random) -> Statement:
    """State a property of a tower of a number of blocks."""
    height = rng.randint(1, MAX_BLOCKS)
    makers = properties.FIXED_HEIGHT_PROPERTIES | {properties.blocks_of_colour: 1}
    tower = random_property(rng, makers)
    blocks = f"{rng.choice(('', '', 'exactly '))}{numeral(rng, height)} block{'s' * (height > 1)}"
    text = f"The tower with {blocks} has {tower.text}"
    return Statement(text, lambda boxes: any(len(box) == height and tower.holds(box) for box in boxes))


def end_blocks(rng: random.Random) -> Statement:
    """State the colour of the top or the base of towers, of a height or of any."""
    colour = random_colour(rng)
    end, index = rng.choice((("top", TOP), ("base", BASE)))
    probability = rng.random()
    if probability < 0.08:
        quantity = random_quantity(rng, 3, kinds="least only exactly bare")
        text = f"There is a {colour} block as the {end} of {quantity.with_noun('tower')}"
        return Statement(text, number_of_boxes(quantity, lambda box: box[index].colour == colour))
    quantity = random_quantity(rng, 3, kinds="a a a a bare bare exactly least only no")
    height = number_of_blocks(rng) if probability < 0.55 else ANY_HEIGHT
    text = f"There {quantity.verb} {quantity.with_noun(f'{colour} block')} as the {end} of a tower"
    if height.text:
        text += f" with {height.text}"
    return Statement(text, number_of_boxes(quantity, lambda box: box[index].colour == colour and height.holds(box)))


def blocks_in_all(rng: random.Random) -> Statement:
    quantity = random_quantity(rng, MAX_BLOCKS + 1, kinds="bare bare bare bare exactly least least a no")
    colour = random_colour(rng)
    text = f"There {quantity.verb} {quantity.with_noun(f'{colour} block')}"
    return Statement(text, number_in_all(quantity, lambda box: count_colour(box, colour)))


def block_on_block(rng: random.Random) -> Statement:
    first = random_colour(rng)
    second = random_colour(rng)
    is_above = rng.random() < 0.8
    quantity = random_quantity(rng, 3, kinds="a a a a a no least bare exactly")
    relation = rng.choice(("above", "on", "over") if is_above else properties.BELOW)
    text = f"There {quantity.verb} {quantity.with_noun(f'{first} block')} {relation} a {second} block"
    upper = first if is_above else second
    lower = second if is_above else first
    return Statement(text, number_in_all(quantity, lambda box: count_stacked(box, upper=upper, lower=lower)))


def towers_of_colour(rng: random.Random) -> Statement:
    """State how many towers have blocks of one colour alone, of a height or of any."""
    colour = random_colour(rng)
    height = number_of_blocks(rng)
    quantity = random_quantity(rng, 3, kinds="a a bare bare exactly least only no")
    form = rng.choice(("colour", "colour", "colour and height", "height and colour"))
    towers = quantity.with_noun("tower" if form == "height and colour" else f"{colour} tower")
    text = f"There {quantity.verb} {towers}"
    if form == "colour":
        height = ANY_HEIGHT
    elif form == "colour and height":
        text += f" with {height.text}"
    else:
        endings = ("which is of {} color", "which is {} in color", "and the color is {}", "of {} color")
        text += f" with {height.text} {rng.choice(endings).format(colour)}"
    return Statement(
        text,
        number_of_boxes(quantity, lambda box: {block.colour for block in box} == {colour} and height.holds(box)),
    )


def block_at_level(rng: random.Random) -> Statement:
    """State the colour of one block of a tower, of a height or of any."""
    colour = random_colour(rng)
    index = rng.choice((BASE, 1, 2, TOP))
    block = {BASE: "base", 1: "second block from the base", 2: "third block from the base", TOP: "top"}[index]
    template = rng.choice(
        (
            "the {block} of a tower is {colour}",
            "There is a tower that the {block} is {colour}",
            "the {block} of a {height} blocks tower is {colour}",
            "There is a {height} blocks tower that the {block} is {colour}",
        )
    )
    lowest = max(index, 0) + 1  # the least height of a tower with such a block
    height = rng.randint(lowest, MAX_BLOCKS)
    heights = [height] if "{height}" in template else list(range(lowest, MAX_BLOCKS + 1))
    text = template.format(block=block, colour=colour, height=numeral(rng, height))
    return Statement(text, lambda boxes: any(len(box) in heights and box[index].colour == colour for box in boxes))


def base_colour(box: Box) -> str:
    return box[BASE].colour


def top_colour(box: Box) -> str:
    return box[TOP].colour


def equal_towers(rng: random.Random) -> Statement:
    """State that two or all three towers agree in a colour or in height."""
    attribute, value = rng.choice(
        (("base", base_colour), ("top color", top_colour), ("height", len), ("base color", base_colour))
    )
    count = rng.choice((2, 3))
    templates = {
        2: (
            "{number} of the 3 towers has the same {attribute}",
            "There are {number} towers with the same {attribute}",
            "{number} towers have the same {attribute}",
        ),
        3: ("All the towers have the same {attribute}", "All the {number} towers has the same {attribute}"),
    }[count]
    text = rng.choice(templates).format(attribute=attribute, number=numeral(rng, count))
    return Statement(text, partial(equal_in, value=value, count=count))


def equal_in(boxes: Boxes, *, value: Callable[[Box], object], count: int) -> bool:
    """Return whether `count` boxes, and no more, have an equal value."""
    values = list(map(value, boxes))
    return max(map(values.count, values)) == count


def some_of_three_towers(rng: random.Random) -> Statement:
    colour = random_colour(rng)
    quantity = random_quantity(rng, 3, kinds="bare")
    template, blocks = rng.choice(
        (("is {}", slice(None)), ("has a {} base", slice(1)), ("has a {} top", slice(-1, None)))
    )
    text = f"{quantity.text} of the {numeral(rng, 3)} towers {template.format(colour)}"
    return Statement(text, number_of_boxes(quantity, lambda box: {block.colour for block in box[blocks]} == {colour}))


# ---- Statements about boxes of items


def boxes_with(rng: random.Random, *, makers: dict[properties.Maker, float] = properties.BOX_PROPERTIES) -> Statement:
    quantity = random_quantity(rng, 3, kinds="a a a a a some some least exactly no only")
    content = random_property(rng, makers)
    boxes = quantity.with_noun(rng.choice(("box", "box", "box", "box", "box", "grey box", "grey square")))
    templates = ["There {verb} {boxes} with {content}"] * 6 + [
        "There {verb} {boxes} with {content} in it",
        "{boxes} {have} {content}",
        "There {verb} {boxes} that {have} {content}",
        "There {verb} {boxes} which {have} {content}",
    ]
    have = "have" if quantity.plural else "has"
    text = rng.choice(templates).format(verb=quantity.verb, boxes=boxes, have=have, content=content.text)
    return Statement(text, number_of_boxes(quantity, content.holds))


def some_of_the_boxes(rng: random.Random) -> Statement:
    quantity = random_quantity(rng, 2, kinds="some some some exactly least")
    content = random_property(rng, properties.SOME_BOXES_PROPERTIES)
    boxes = rng.choice(("square", "square", "box", "box", "boxes"))
    verb = rng.choice(("contains", "has", "contains", "has", "contain"))
    text = f"{quantity.text} of the grey {boxes} {verb} {content.text}"
    return Statement(text, number_of_boxes(quantity, content.holds))


def every_box(rng: random.Random) -> Statement:
    content = random_property(rng, properties.EVERY_BOX_PROPERTIES)
    templates = (
        "Each box has {}",
        "Each grey box has {}",
        "All boxes have {}",
        "All the boxes has {}",
        "Every box has {}",
        "There is {} in each box",
        "There is {} in every box",
    )
    text = rng.choice(templates).format(content.text)
    return Statement(text, lambda boxes: all(map(content.holds, boxes)))


def items_at_location(rng: random.Random) -> Statement:
    noun = random_noun(rng, size_probability=0.04)
    location = random_location(rng)
    probability = rng.random()
    if probability > 0.85:
        noun = any_item(rng)
    quantity = random_quantity(rng, 4, kinds="a a a bare bare exactly exactly least least no only most")
    text = f"There {quantity.verb} {quantity.with_noun(noun.text)} {location.text}"
    if probability < 0.04:
        quantity = random_quantity(rng, 3, kinds="a")
        text = f"{noun.text} is {location.text}"
    elif probability < 0.08:
        quantity = random_quantity(rng, 3, kinds="no")
        text = f"None of the {noun.text}s are {location.text}"
    elif probability < 0.1:
        quantity = random_quantity(rng, 3, kinds="bare least")
        text = f"{quantity.text} of the {noun.text}s {quantity.verb} {location.text}"
    return Statement(
        text, number_in_all(quantity, lambda box: sum(noun.fits(item) and location.holds(item) for item in box))
    )


def items_in_all(rng: random.Random) -> Statement:
    noun = random_noun(rng, size_probability=0.02)
    quantity = random_quantity(rng, MAX_ITEMS, kinds="bare bare exactly least only")
    return Statement(f"There {quantity.verb} {quantity.with_noun(noun.text)}", number_in_all(quantity, noun.count))


def equal_boxes(rng: random.Random) -> Statement:
    """State that two or all three boxes have as many items."""
    two = rng.choice(
        (
            f"{numeral(rng, 2)} boxes have the same number of items",
            f"There are {numeral(rng, 2)} boxes that have the same number of items",
        )
    )
    text, count = rng.choice(((two, 2), ("All boxes have the same number of items", 3)))
    return Statement(text, partial(equal_in, value=len, count=count))


def boxes_with_item(rng: random.Random) -> Statement:
    """State how many boxes have an item of a kind: the only kind of statement at an easy level."""
    noun = random_noun(rng)
    quantity = random_quantity(rng, 3, kinds="a exactly least no")
    text = f"There {quantity.verb} {quantity.with_noun('box')} with a {noun.text}"
    return Statement(text, number_of_boxes(quantity, lambda box: noun.count(box) > 0))


TOWER_STATEMENTS: dict[Maker, float] = {  # kinds with their weights
    towers_with: 10,
    tower_of_height: 1.6,
    end_blocks: 4.5,
    blocks_in_all: 2.5,
    block_on_block: 2.5,
    towers_of_colour: 2.2,
    block_at_level: 1,
    equal_towers: 0.8,
    some_of_three_towers: 0.4,
    partial(boxes_with, makers=properties.TOWER_BOX_PROPERTIES): 2,
}
SCATTER_STATEMENTS: dict[Maker, float] = {
    boxes_with: 12,
    some_of_the_boxes: 2,
    every_box: 1.2,
    items_at_location: 13,
    items_in_all: 3,
    equal_boxes: 0.4,
}


def random_makers(rng: random.Random, makers: dict[Maker, float], *, count: int, simple_share: float) -> list[Maker]:
    """Return kinds of statements by their weights; a `simple_share` of them is boxes_with_item."""
    chosen = rng.choices(list(makers), list(makers.values()), k=count)
    return [boxes_with_item if rng.random() < simple_share else maker for maker in chosen]


def make_statement(rng: random.Random, maker: Maker) -> Statement:
    """Return a statement with a capital letter, with or without a full stop."""
    statement = maker(rng)
    text = statement.text[0].upper() + statement.text[1:] + rng.choice((".", ""))
    return Statement(text, statement.is_true)
