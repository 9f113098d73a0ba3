"""Statements about three boxes in the manner of NLVR's, each with its truth of a picture."""

import random
from collections.abc import Callable
from functools import partial

from vlx.synthetic import nlvr_contents as contents
from vlx.synthetic.nlvr_contents import Content, height, of_colour, one_of, pairs
from vlx.synthetic.nlvr_pictures import HIGHEST, MOST, Box, Boxes
from vlx.synthetic.nlvr_words import Quantity, colour_of, noun, number, pick, place, quantity, thing

Claim = tuple[str, Callable[[Boxes], bool]]
Maker = Callable[[random.Random], Claim]
ANY = Content("", lambda box: True)


def how_many(found: Quantity, fits: Callable[[Box], bool]) -> Callable[[Boxes], bool]:
    """Of the boxes."""
    return lambda boxes: found.fits(sum(map(fits, boxes)))


def in_all(found: Quantity, count: Callable[[Box], int]) -> Callable[[Boxes], bool]:
    """Things, in the boxes together."""
    return lambda boxes: found.fits(sum(map(count, boxes)))


def of_towers(rng: random.Random) -> Claim:
    found, has = quantity(rng, 3, "a a bare bare exactly exactly least only no"), contents.tower(rng)
    forms = ["There {v} {q} with {h}"] * 7 + [
        "There {v} {q} that has {h}",
        "There {v} {q} which has {h}",
        "{q} has {h}",
    ]
    return rng.choice(forms).format(v=found.verb, q=found.of("tower"), h=has.words), how_many(found, has.fits)


def the_tower(rng: random.Random) -> Claim:
    """Of the tower of a height."""
    blocks, has = rng.randint(1, HIGHEST), one_of(rng, contents.OF_TALL | {contents.some_blocks: 1})
    tall = f"{pick(rng, '', '', 'exactly ')}{number(rng, blocks)} block{'s' * (blocks > 1)}"
    return f"The tower with {tall} has {has.words}", lambda boxes: any(
        len(box) == blocks and has.fits(box) for box in boxes
    )


def ends(rng: random.Random) -> Claim:
    """Blocks at the top or the base of towers, of a height or any."""
    colour, (word, at), chance = colour_of(rng), rng.choice((("top", -1), ("base", 0))), rng.random()
    if chance < 0.08:
        found = quantity(rng, 3, "least only exactly bare")
        said = f"There is a {colour} block as the {word} of {found.of('tower')}"
        return said, how_many(found, lambda box: box[at].colour == colour)
    found, tall = quantity(rng, 3, "a a a a bare bare exactly least only no"), height(rng) if chance < 0.55 else ANY
    said = f"There {found.verb} {found.of(f'{colour} block')} as the {word} of a tower"
    said += f" with {tall.words}" if tall.words else ""
    return said, how_many(found, lambda box: box[at].colour == colour and tall.fits(box))


def blocks(rng: random.Random) -> Claim:
    found, colour = quantity(rng, HIGHEST + 1, "bare bare bare bare exactly least least a no"), colour_of(rng)
    said = f"There {found.verb} {found.of(f'{colour} block')}"
    return said, in_all(found, lambda box: of_colour(box, colour))


def block_on_block(rng: random.Random) -> Claim:
    one, other, above = colour_of(rng), colour_of(rng), rng.random() < 0.8
    found = quantity(rng, 3, "a a a a a no least bare exactly")
    where = pick(rng, "above", "on", "over") if above else pick(rng, *contents.BELOW)
    said = f"There {found.verb} {found.of(f'{one} block')} {where} a {other} block"
    return said, in_all(found, lambda box: pairs(box, *((one, other) if above else (other, one))))


def one_colour(rng: random.Random) -> Claim:
    """Towers of one colour, and of a height or any."""
    colour, tall, found = colour_of(rng), height(rng), quantity(rng, 3, "a a bare bare exactly least only no")
    form, after = pick(rng, "{c} tower", "{c} tower", "{c} tower with {t}", "tower"), ""
    if form == "{c} tower":
        tall = ANY
    elif form == "tower":
        endings = "which is of {} color", "which is {} in color", "and the color is {}", "of {} color"
        after = f" with {tall.words} {pick(rng, *endings).format(colour)}"
    name, _, rest = form.partition(" with ")
    said = found.of(name.format(c=colour)) + (f" with {tall.words}" if rest else after)
    return f"There {found.verb} {said}", how_many(
        found, lambda box: {b.colour for b in box} == {colour} and tall.fits(box)
    )


def level(rng: random.Random) -> Claim:
    """The colour of one block of a tower, of a height or any."""
    colour, at = colour_of(rng), rng.choice((0, 1, 2, -1))
    name = {0: "base", 1: "second block from the base", 2: "third block from the base", -1: "top"}[at]
    form = pick(rng, "the {n} of a tower is {c}", "There is a tower that the {n} is {c}",
                "the {n} of a {t} blocks tower is {c}", "There is a {t} blocks tower that the {n} is {c}")  # fmt: skip
    tall = rng.randint(max(at, 0) + 1, HIGHEST)
    heights = (tall,) if "{t}" in form else range(max(at, 0) + 1, HIGHEST + 1)
    said = form.format(n=name, c=colour, t=number(rng, tall))
    return said, lambda boxes: any(len(box) in heights and box[at].colour == colour for box in boxes)


def alike(rng: random.Random) -> Claim:
    """Two or all three towers or boxes have something in common."""
    words, of = rng.choice((
        ("base", lambda box: box[0].colour), ("top color", lambda box: box[-1].colour), ("height", len),
        ("base color", lambda box: box[0].colour),
    ))  # fmt: skip
    many = rng.choice((2, 3))
    pair = (
        "{n} of the 3 towers has the same {w}",
        "There are {n} towers with the same {w}",
        "{n} towers have the same {w}",
    )
    form = pick(
        rng, *(pair if many == 2 else ("All the towers have the same {w}", "All the {n} towers has the same {w}"))
    )
    return form.format(w=words, n=number(rng, many)), partial(most_alike, of, many)


def most_alike(of: Callable[[Box], object], many: int, boxes: Boxes) -> bool:
    """Whether `many` boxes, and no more, agree."""
    values = list(map(of, boxes))
    return max(map(values.count, values)) == many


def of_the_towers(rng: random.Random) -> Claim:
    colour, found = colour_of(rng), quantity(rng, 3, "bare")
    words, at = rng.choice((("is {}", slice(None)), ("has a {} base", slice(1)), ("has a {} top", slice(-1, None))))
    said = f"{found} of the {number(rng, 3)} towers {words.format(colour)}"
    return said, how_many(found, lambda box: {block.colour for block in box[at]} == {colour})


def of_boxes(rng: random.Random, *, makers: dict[contents.Maker, float] = contents.OF_BOXES) -> Claim:
    found, has = quantity(rng, 3, "a a a a a some some least exactly no only"), one_of(rng, makers)
    boxes = found.of(pick(rng, "box", "box", "box", "box", "box", "grey box", "grey square"))
    forms = ["There {v} {b} with {h}"] * 6 + ["There {v} {b} with {h} in it", "{b} {have} {h}"]
    forms += ["There {v} {b} that {have} {h}", "There {v} {b} which {have} {h}"]
    said = rng.choice(forms).format(v=found.verb, b=boxes, have="have" if found.many else "has", h=has.words)
    return said, how_many(found, has.fits)


def of_the_boxes(rng: random.Random) -> Claim:
    found, has = quantity(rng, 2, "some some some exactly least"), one_of(rng, contents.OF_SOME)
    boxes, verb = (
        pick(rng, "square", "square", "box", "box", "boxes"),
        pick(rng, "contains", "has", "contains", "has", "contain"),
    )
    return f"{found} of the grey {boxes} {verb} {has.words}", how_many(found, has.fits)


def every_box(rng: random.Random) -> Claim:
    has = one_of(rng, contents.OF_EVERY_BOX)
    forms = ["Each box has {}", "Each grey box has {}", "All boxes have {}", "All the boxes has {}", "Every box has {}"]
    forms += ["There is {} in each box", "There is {} in every box"]
    return rng.choice(forms).format(has.words), lambda boxes: all(map(has.fits, boxes))


def placed(rng: random.Random) -> Claim:
    what, (words, meaning), chance = noun(rng, sized=0.04), place(rng), rng.random()
    what = thing(rng) if chance > 0.85 else what
    found = quantity(rng, 4, "a a a bare bare exactly exactly least least no only most")
    said = f"There {found.verb} {found.of(what.words)} {words}"
    if chance < 0.04:
        found, said = quantity(rng, 3, "a"), f"{what.words} is {words}"
    elif chance < 0.08:
        found, said = quantity(rng, 3, "no"), f"None of the {what.words}s are {words}"
    elif chance < 0.1:
        found = quantity(rng, 3, "bare least")
        said = f"{found} of the {what.words}s {found.verb} {words}"
    return said, in_all(found, lambda box: sum(what.fits(item) and meaning(item) for item in box))


def total(rng: random.Random) -> Claim:
    what, found = noun(rng, sized=0.02), quantity(rng, MOST, "bare bare exactly least only")
    return f"There {found.verb} {found.of(what.words)}", in_all(found, what.count)


def same_number(rng: random.Random) -> Claim:
    pair = (
        f"{number(rng, 2)} boxes have the same number of items",
        f"There are {number(rng, 2)} boxes that have the same number of items",
    )
    said, many = rng.choice(((pick(rng, *pair), 2), ("All boxes have the same number of items", 3)))
    return said, partial(most_alike, len, many)


def plain(rng: random.Random) -> Claim:
    """Whether something is in boxes."""
    what, found = noun(rng), quantity(rng, 3, "a exactly least no")
    return f"There {found.verb} {found.of('box')} with a {what.words}", how_many(found, lambda box: what.count(box) > 0)


OF_TOWERS: dict[Maker, float] = {
    **{of_towers: 10, the_tower: 1.6, ends: 4.5, blocks: 2.5, block_on_block: 2.5, one_colour: 2.2, level: 1},
    **{alike: 0.8, of_the_towers: 0.4, partial(of_boxes, makers=contents.OF_BOXES_WITH_TOWERS): 2},
}
OF_SCATTER: dict[Maker, float] = {of_boxes: 12, of_the_boxes: 2, every_box: 1.2, placed: 13, total: 3, same_number: 0.4}


def makers(rng: random.Random, count: int, *, towers: bool, plain_share: float) -> list[Maker]:
    """So many kinds of statements that suit a picture."""
    kinds = OF_TOWERS if towers else OF_SCATTER
    drawn = rng.choices(list(kinds), list(kinds.values()), k=count)
    return [plain if rng.random() < plain_share else make for make in drawn]


def claim(rng: random.Random, make: Maker) -> Claim:
    """A sentence, and whether it is true of a picture."""
    said, truth = make(rng)
    return said[0].upper() + said[1:] + rng.choice((".", "")), truth
