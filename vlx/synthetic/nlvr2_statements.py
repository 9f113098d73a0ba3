"""Statements about pairs of images, like NLVR2's.

A set is eight images in four pairs, and sentences that are each true of exactly two pairs. So the text alone does not
give the label, and a sentence with its four pairs is a consistency group.
"""

import operator
import random
from collections.abc import Callable, Container
from functools import partial
from typing import NamedTuple, Protocol

from vlx.synthetic.images import COLOURS, NUMBERS, Difficulty, ImageShapes, Noun, generate_images

NUM_PAIRS = 4  # of a set
NUM_SENTENCES = 5  # of a set, at most
TRIES = 60  # statements of one category before the next category
SIDES = ("left", "right")
WHERE = {" in the left image": (0,), " in the right image": (1,), "": (0, 1)}  # images of the pair
POSITIONS = {  # axis and grid line
    "at the top": (1, 0),
    "at the bottom": (1, 2),
    "on the left side": (0, 0),
    "on the right side": (0, 2),
}
COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "exactly": operator.eq,
    "at least": operator.ge,
    "at most": operator.le,
    "same": operator.eq,
    "more": operator.gt,
    "fewer": operator.lt,
}
QUANTIFIERS = {  # in how many images of the pair the noun must occur
    "Both images contain a {}.": (2,),
    "There is a {} in each image.": (2,),
    "Only one of the images contains a {}.": (1,),
    "At least one of the images contains a {}.": (1, 2),
    "Neither image contains a {}.": (0,),
}

Pair = tuple[ImageShapes, ImageShapes]  # left, right


class Statement(NamedTuple):
    text: str
    is_true: Callable[[Pair], bool]


class Sentence(NamedTuple):
    """A statement of a set. `labels`: whether it is true of each pair."""

    text: str
    category: str
    labels: list[bool]


class Maker(Protocol):
    def __call__(self, rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement: ...


def generate_pairs(rng: random.Random, part: str, *, level: Difficulty) -> list[Pair]:
    images = generate_images(rng, part, level=level)
    return list(zip(images[::2], images[1::2], strict=True))


def generate_set(
    rng: random.Random, part: str, *, level: Difficulty, num_sentences: int
) -> tuple[list[Pair], list[Sentence]]:
    """Return four pairs of images and sentences about them."""
    while True:  # a set with too few balanced statements is replaced
        pairs = generate_pairs(rng, part, level=level)
        sentences: dict[str, Sentence] = {}
        for category in rng.choices(list(MAKERS), level.statement_weights, k=4 * NUM_SENTENCES):
            sentence = balanced_sentence(rng, pairs, category=category, level=level, exclude=sentences.keys())
            if sentence:
                sentences[sentence.text] = sentence
            if len(sentences) == num_sentences:
                return pairs, list(sentences.values())


def balanced_sentence(
    rng: random.Random, pairs: list[Pair], *, category: str, level: Difficulty, exclude: Container[str]
) -> Sentence | None:
    """Return a new statement that is true of half the pairs; None if no try gives one."""
    for _ in range(TRIES):
        statement = MAKERS[category](rng, pairs, level=level)
        labels = [statement.is_true(pair) for pair in pairs]
        if sum(labels) == NUM_PAIRS // 2 and statement.text not in exclude:
            return Sentence(statement.text, category, labels)
    return None


def noun_in_images(rng: random.Random, pairs: list[Pair], *, level: Difficulty, with_size: bool = False) -> Noun:
    """Return some attributes of a shape that is in one of the images."""
    shape = rng.choice([shape for pair in pairs for shapes in pair for shape in shapes])
    has_colour, has_shape = rng.choices(((True, False), (False, True), (True, True)), level.noun_weights)[0]
    return Noun(
        shape.size if with_size else None,
        shape.colour if has_colour else None,
        shape.shape if has_shape else None,
    )


def existence(rng: random.Random, pairs: list[Pair], *, level: Difficulty, with_size: bool = False) -> Statement:
    noun = noun_in_images(rng, pairs, level=level, with_size=with_size)
    negated = rng.random() < 0.2
    where, images = rng.choices(list(WHERE.items()), (1, 1, 3))[0]
    positive = ("There is a {}{}.", "A {} can be seen{}.", "There is at least one {}{}.")
    template = rng.choice(("There is no {}{}.", "No {} can be seen{}.") if negated else positive)
    text = template.format(noun, where)
    return Statement(text, lambda pair: any(noun.count(pair[image]) for image in images) != negated)


def counting(rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement:
    noun = noun_in_images(rng, pairs, level=level)
    image = rng.randrange(2)
    number = max(1, noun.count(rng.choice(pairs)[image]))
    comparison = rng.choice(("exactly", "exactly", "at least", "at most") if number > 1 else ("exactly",))
    things = f"{comparison} {NUMBERS[number]} {noun}{'s' * (number > 1)}"
    template = rng.choice(("The {0} image contains {2}.", "There {1} {2} in the {0} image."))
    text = template.format(SIDES[image], "are" if number > 1 else "is", things)
    return Statement(text, lambda pair: COMPARISONS[comparison](noun.count(pair[image]), number))


def comparison(rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement:
    noun = noun_in_images(rng, pairs, level=level)
    first = rng.randrange(2)
    second = 1 - first
    relation = rng.choice(("more", "more", "fewer", "same"))
    equal = ("Both images have the same number of {0}s.", "There are as many {0}s on the left as on the right.")
    unequal = (
        "There are {1} {0}s in the {2} image than in the {3} one.",
        "The {2} image has {1} {0}s than the {3} image.",
    )
    template = rng.choice(equal if relation == "same" else unequal)
    text = template.format(noun, relation, SIDES[first], SIDES[second])
    return Statement(text, lambda pair: COMPARISONS[relation](noun.count(pair[first]), noun.count(pair[second])))


def quantifier(rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement:
    noun = noun_in_images(rng, pairs, level=level)
    template, counts = rng.choice(list(QUANTIFIERS.items()))
    return Statement(template.format(noun), lambda pair: sum(noun.count(shapes) > 0 for shapes in pair) in counts)


def position(rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement:
    noun = noun_in_images(rng, pairs, level=level)
    image = rng.randrange(2)
    where, (axis, line) = rng.choice(list(POSITIONS.items()))
    template = rng.choice(("There is a {0} {2} of the {1} image.", "In the {1} image, a {0} is {2}."))
    text = template.format(noun, SIDES[image], where)
    return Statement(text, lambda pair: any(noun.fits(shape) and shape.place[axis] == line for shape in pair[image]))


def colour(rng: random.Random, pairs: list[Pair], *, level: Difficulty) -> Statement:
    image = rng.randrange(2)
    larger, smaller = (Noun(None, name, None) for name in rng.sample(list(COLOURS), 2))
    text = f"In the {SIDES[image]} image there are more {larger}s than {smaller}s."
    return Statement(text, lambda pair: larger.count(pair[image]) > smaller.count(pair[image]))


MAKERS: dict[str, Maker] = {  # by category
    "existence": existence,
    "counting": counting,
    "comparison": comparison,
    "quantifier": quantifier,
    "position": position,
    "size": partial(existence, with_size=True),
    "colour": colour,
}
