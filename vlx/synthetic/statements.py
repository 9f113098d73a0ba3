"""Statements about pairs of pictures, as NLVR2's: a set is eight pictures in four pairs and some sentences, each true
of exactly two of the four pairs. Text alone says nothing, and a sentence over its four pairs is a consistency group."""

import operator
import random
from collections.abc import Callable
from functools import partial

from vlx.synthetic.pictures import COLOURS, NUMBERS, Difficulty, Noun, Picture, draw_pictures

PAIRS, SENTENCES = 4, 5  # of a set
TRIES = 60  # statements drawn of one kind before another kind is tried
SIDES = ("left", "right")
WHERE = {" in the left image": (0,), " in the right image": (1,), "": (0, 1)}
PLACES = {"at the top": (1, 0), "at the bottom": (1, 2), "on the left side": (0, 0), "on the right side": (0, 2)}
TESTS: dict[str, Callable[[int, int], bool]] = {
    **{"exactly": operator.eq, "at least": operator.ge, "at most": operator.le},
    **{"same": operator.eq, "more": operator.gt, "fewer": operator.lt},
}
QUANTIFIERS = {  # of how many of the two images it must be true
    "Both images contain a {}.": (2,),
    "There is a {} in each image.": (2,),
    "Only one of the images contains a {}.": (1,),
    "At least one of the images contains a {}.": (1, 2),
    "Neither image contains a {}.": (0,),
}

Pair = tuple[Picture, ...]
Claim = tuple[str, Callable[[Pair], bool]]  # a sentence, and whether it is true of a pair
Maker = Callable[[random.Random, list[Pair], Difficulty], Claim]


def draw_pairs(rng: random.Random, part: str, level: Difficulty) -> list[Pair]:
    pictures = draw_pictures(rng, part, level)
    return list(zip(pictures[::2], pictures[1::2], strict=True))


def draw_set(
    rng: random.Random, part: str, level: Difficulty, count: int
) -> tuple[list[Pair], dict[str, tuple[str, list[bool]]]]:
    """The pairs of a set, and `count` sentences, each with its kind and its truth of every pair."""
    while True:  # other pairs where too few sentences suit these
        pairs, claims = draw_pairs(rng, part, level), dict[str, tuple[str, list[bool]]]()
        for kind in rng.choices(list(KINDS), level.kinds, k=4 * SENTENCES):
            for _ in range(TRIES):
                sentence, truth = KINDS[kind](rng, pairs, level)
                truths = [truth(pair) for pair in pairs]
                if sum(truths) == PAIRS // 2 and sentence not in claims:
                    claims[sentence] = kind, truths
                    break
            if len(claims) == count:
                return pairs, claims


def draw_noun(rng: random.Random, pairs: list[Pair], level: Difficulty, *, sized: bool = False) -> Noun:
    """Some attributes of a shape that is there."""
    shape = rng.choice([shape for pair in pairs for picture in pair for shape in picture])
    colour, form = rng.choices(((True, False), (False, True), (True, True)), level.nouns)[0]
    return Noun(shape.size if sized else None, shape.colour if colour else None, shape.shape if form else None)


def existence(rng: random.Random, pairs: list[Pair], level: Difficulty, *, sized: bool = False) -> Claim:
    noun, absent = draw_noun(rng, pairs, level, sized=sized), rng.random() < 0.2
    words, sides = rng.choices(list(WHERE.items()), (1, 1, 3))[0]
    some = ("There is a {}{}.", "A {} can be seen{}.", "There is at least one {}{}.")
    form = rng.choice(("There is no {}{}.", "No {} can be seen{}.") if absent else some)
    return form.format(noun, words), lambda pair: any(noun.count(pair[side]) for side in sides) != absent


def counting(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side = draw_noun(rng, pairs, level), rng.randrange(2)
    number = max(1, noun.count(rng.choice(pairs)[side]))
    test = rng.choice(("exactly", "exactly", "at least", "at most") if number > 1 else ("exactly",))
    things = f"{test} {NUMBERS[number]} {noun}{'s' * (number > 1)}"
    form = rng.choice(("The {0} image contains {2}.", "There {1} {2} in the {0} image."))
    sentence = form.format(SIDES[side], "are" if number > 1 else "is", things)
    return sentence, lambda pair: TESTS[test](noun.count(pair[side]), number)


def comparison(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side, test = draw_noun(rng, pairs, level), rng.randrange(2), rng.choice(("more", "more", "fewer", "same"))
    same = ("Both images have the same number of {0}s.", "There are as many {0}s on the left as on the right.")
    more = (
        "There are {1} {0}s in the {2} image than in the {3} one.",
        "The {2} image has {1} {0}s than the {3} image.",
    )
    sentence = rng.choice(same if test == "same" else more).format(noun, test, SIDES[side], SIDES[1 - side])
    return sentence, lambda pair: TESTS[test](noun.count(pair[side]), noun.count(pair[1 - side]))


def quantifier(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, (form, images) = draw_noun(rng, pairs, level), rng.choice(list(QUANTIFIERS.items()))
    return form.format(noun), lambda pair: sum(noun.count(side) > 0 for side in pair) in images


def position(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    noun, side = draw_noun(rng, pairs, level), rng.randrange(2)
    where, (axis, line) = rng.choice(list(PLACES.items()))
    form = rng.choice(("There is a {0} {2} of the {1} image.", "In the {1} image, a {0} is {2}."))
    sentence = form.format(noun, SIDES[side], where)
    return sentence, lambda pair: any(noun.count((shape,)) and shape.place[axis] == line for shape in pair[side])


def colour(rng: random.Random, pairs: list[Pair], level: Difficulty) -> Claim:
    side, (one, other) = rng.randrange(2), (Noun(None, name, None) for name in rng.sample(list(COLOURS), 2))
    sentence = f"In the {SIDES[side]} image there are more {one}s than {other}s."
    return sentence, lambda pair: one.count(pair[side]) > other.count(pair[side])


KINDS: dict[str, Maker] = {
    "existence": existence,
    "counting": counting,
    "comparison": comparison,
    "quantifier": quantifier,
    "position": position,
    "size": partial(existence, sized=True),
    "colour": colour,
}
