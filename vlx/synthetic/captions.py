"""Texts about one image: captions, referring expressions, and hypotheses with an entailment label."""

import random
from typing import NamedTuple

from vlx.synthetic.images import COLOURS, NUMBERS, SHAPES, ImageShapes, Noun, Shape, unique_noun

CAPTIONS_PER_IMAGE = 5  # as in COCO
POSITIONS = (("on the left", "in the middle", "on the right"), ("at the top", "in the middle", "at the bottom"))
NEUTRAL_CLAIMS = ("made of wood", "very old", "somebody's favorite", "worth a lot of money", "soft to the touch")


class Hypothesis(NamedTuple):
    label: str  # entailment, neutral or contradiction
    text: str


def description(rng: random.Random, shape: Shape) -> str:
    """Return colour and shape, often with the size and sometimes with the position."""
    noun = Noun(shape.size if rng.random() < 0.5 else None, shape.colour, shape.shape)
    axis = rng.randrange(2)
    if rng.random() < 0.4:
        return f"a {noun} {POSITIONS[axis][shape.place[axis]]}"
    return f"a {noun}"


def counts_caption(shapes: ImageShapes) -> str:
    """Return a sentence with the number of circles, squares and triangles."""
    counts = {form: Noun(None, None, form).count(shapes) for form in SHAPES}
    parts = [f"{NUMBERS[count]} {form}{'s' * (count > 1)}" for form, count in counts.items() if count]
    return f"Shapes: {', '.join(parts)}."


def caption(rng: random.Random, shapes: ImageShapes) -> str:
    """Return a sentence about two or three shapes, or about the counts of all."""
    if len(shapes) > 3 and rng.random() < 0.2:
        return counts_caption(shapes)
    count = min(len(shapes), rng.choice((2, 3, 3)))
    parts = [description(rng, shape) for shape in rng.sample(shapes, count)]
    template = rng.choice(("There is {}.", "A picture of {}.", "{} on a grey ground.", "{} can be seen."))
    listing = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    sentence = template.format(listing)
    return sentence[0].upper() + sentence[1:]


def captions(rng: random.Random, shapes: ImageShapes) -> list[str]:
    return [caption(rng, shapes) for _ in range(CAPTIONS_PER_IMAGE)]


def region_descriptions(rng: random.Random, shapes: ImageShapes) -> list[str]:
    """Return one description of every shape, like Visual Genome's of regions."""
    return [description(rng, shape) for shape in rng.sample(shapes, len(shapes))]


def referring_expressions(rng: random.Random, shapes: ImageShapes, *, index: int) -> list[str]:
    """Return up to three texts that fit shape `index` and no other; none if every text fits several shapes."""
    nouns = [unique_noun(rng, shapes, index=index) for _ in range(3)]
    return list(dict.fromkeys(f"{rng.choice(('the ', ''))}{noun}" for noun in nouns if noun))


def hypotheses(rng: random.Random, shapes: ImageShapes) -> list[Hypothesis]:
    """Return one hypothesis of each label, in a random order."""
    shape = rng.choice(shapes)
    present = Noun(None, shape.colour, shape.shape if rng.random() < 0.7 else None)
    nouns = [Noun(None, colour, form) for colour in COLOURS for form in (*SHAPES, None)]
    absent = [noun for noun in nouns if not noun.count(shapes)]
    templates = ("There is a {}.", "One can see a {}.")
    entailed = rng.choice(templates).format(present)
    neutral = f"The {present} is {rng.choice(NEUTRAL_CLAIMS)}."
    contradicted = rng.choice(templates).format(rng.choice(absent))
    return rng.sample(
        [
            Hypothesis("entailment", entailed),
            Hypothesis("neutral", neutral),
            Hypothesis("contradiction", contradicted),
        ],
        3,
    )
