"""What one says of a picture: captions, expressions that mean one of its shapes, and hypotheses to judge."""

import random
from typing import NamedTuple

from vlx.synthetic.pictures import COLOURS, NUMBERS, SHAPES, Noun, Picture, Shape, name_of

CAPTIONS = 5  # of a picture, as in COCO
WHERE = (("on the left", "in the middle", "on the right"), ("at the top", "in the middle", "at the bottom"))
UNKNOWABLE = ("made of wood", "very old", "somebody's favorite", "worth a lot of money", "soft to the touch")


class Hypothesis(NamedTuple):
    label: str  # entailment, neutral or contradiction
    text: str


def full_name(shape: Shape, rng: random.Random) -> str:
    """Colour and shape, often the size, and now and then where it is."""
    noun = Noun(shape.size if rng.random() < 0.5 else None, shape.colour, shape.shape)
    axis = rng.randrange(2)
    return f"a {noun} {WHERE[axis][shape.place[axis]]}" if rng.random() < 0.4 else f"a {noun}"


def caption(rng: random.Random, picture: Picture) -> str:
    """A sentence about two or three of the shapes, or about all there are."""
    if len(picture) > 3 and rng.random() < 0.2:
        kinds = [(form, Noun(None, None, form).count(picture)) for form in SHAPES]
        return (
            "Shapes: "
            + ", ".join(f"{NUMBERS[count]} {form}{'s' * (count > 1)}" for form, count in kinds if count)
            + "."
        )
    parts = [full_name(shape, rng) for shape in rng.sample(picture, min(len(picture), rng.choice((2, 3, 3))))]
    form = rng.choice(("There is {}.", "A picture of {}.", "{} on a grey ground.", "{} can be seen."))
    sentence = form.format(" and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))))
    return sentence[0].upper() + sentence[1:]


def captions(rng: random.Random, picture: Picture) -> list[str]:
    return [caption(rng, picture) for _ in range(CAPTIONS)]


def phrases(rng: random.Random, picture: Picture) -> list[str]:
    """One of each of its shapes, as Visual Genome describes regions."""
    return [full_name(shape, rng) for shape in rng.sample(picture, len(picture))]


def expressions(rng: random.Random, picture: Picture, index: int) -> list[str]:
    """Up to three ways to mean this shape and no other; none where words do not tell it from the others."""
    nouns = [name_of(picture[index], picture, rng) for _ in range(3)]
    return list(dict.fromkeys(f"{rng.choice(('the ', ''))}{noun}" for noun in nouns if noun))


def hypotheses(rng: random.Random, picture: Picture) -> list[Hypothesis]:
    """One of each label, in a random order."""
    shape = rng.choice(picture)
    there = Noun(None, shape.colour, shape.shape if rng.random() < 0.7 else None)
    absent = [
        noun for colour in COLOURS for form in (*SHAPES, None) if not (noun := Noun(None, colour, form)).count(picture)
    ]
    found = [
        Hypothesis("entailment", rng.choice(("There is a {}.", "One can see a {}.")).format(there)),
        Hypothesis("neutral", f"The {there} is {rng.choice(UNKNOWABLE)}."),
        Hypothesis("contradiction", rng.choice(("There is a {}.", "One can see a {}.")).format(rng.choice(absent))),
    ]
    return rng.sample(found, 3)
