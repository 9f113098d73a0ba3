"""Questions about one image: VQA's with ten human-like answers, GQA's with types, entailments and a scene graph."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vlx.synthetic.images import (
    COLOURS,
    IMAGE_SIZE,
    NUMBERS,
    SHAPES,
    ImageShapes,
    Noun,
    first_unique,
    unique_noun,
)

NUM_ANNOTATORS = 10
AGREEMENT = 0.88  # probability that an annotator gives the correct answer, else a plausible wrong one
SYNONYMS = {"circle": "round", "square": "box", "yes": "yes it is", "no": "no it isn't"}
POSITIONS = (("left", "middle", "right"), ("top", "middle", "bottom"))  # by column, by row
CHOICES = ("on the left or on the right", "at the top or at the bottom")  # by column, by row


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    structural: str  # GQA's structural type: verify, query, choose, logical, compare
    semantic: str  # GQA's semantic type: obj, attr, rel, cat, global
    wrong_answers: tuple[str, ...]  # plausible ones
    shape_indices: tuple[int, ...] = ()  # shapes of the image that the question is about
    entails: "Question | None" = None  # a question that the answer of this one decides


Maker = Callable[[random.Random, ImageShapes], Question | None]


def yes_no(text: str, truth: bool, *, structural: str, semantic: str, shape_indices: tuple[int, ...]) -> Question:
    answer = "yes" if truth else "no"
    wrong = "no" if truth else "yes"
    return Question(text, answer, structural, semantic, (wrong,), shape_indices)


def matching_shapes(noun: Noun, shapes: ImageShapes) -> tuple[int, ...]:
    return tuple(index for index, shape in enumerate(shapes) if noun.fits(shape))


def random_noun(rng: random.Random) -> Noun:
    """Return a noun with a colour, a shape or both, whether or not an image contains it."""
    has_colour, has_shape = rng.choices(((True, False), (False, True), (True, True)), (3, 3, 4))[0]
    colour = rng.choice(list(COLOURS)) if has_colour else None
    return Noun(None, colour, rng.choice(SHAPES) if has_shape else None)


def existence(rng: random.Random, shapes: ImageShapes) -> Question:
    noun = random_noun(rng)
    present = rng.random() < 0.5
    for _ in range(20):  # until the noun gives the answer that was chosen: yes as often as no
        if (noun.count(shapes) > 0) == present:
            break
        noun = random_noun(rng)
    template = rng.choice(("Is there a {}?", "Are there any {}s?", "Can you see a {} in the picture?"))
    return yes_no(
        template.format(noun),
        noun.count(shapes) > 0,
        structural="verify",
        semantic="obj",
        shape_indices=matching_shapes(noun, shapes),
    )


def conjunction(rng: random.Random, shapes: ImageShapes) -> Question:
    first = random_noun(rng)
    second = random_noun(rng)
    return yes_no(
        f"Are there both a {first} and a {second}?",
        first.count(shapes) > 0 and second.count(shapes) > 0,
        structural="logical",
        semantic="obj",
        shape_indices=matching_shapes(first, shapes),
    )


def count(rng: random.Random, shapes: ImageShapes) -> Question:
    noun = random_noun(rng)
    number = noun.count(shapes)
    wrong = (str(number + 1), str(abs(number - 1)), NUMBERS[number])
    return Question(
        f"How many {noun}s are there?", str(number), "query", "global", wrong, matching_shapes(noun, shapes)
    )


def colour(rng: random.Random, shapes: ImageShapes) -> Question | None:
    index, shape = rng.choice(list(enumerate(shapes)))
    nouns = [Noun(None, None, shape.shape), Noun(shape.size, None, None), Noun(shape.size, None, shape.shape)]
    noun = first_unique(nouns, shapes)
    if noun is None:
        return None
    guess = rng.choice((shape.colour, rng.choice(list(COLOURS))))
    entailed = yes_no(
        f"Is the {noun} {guess}?",
        guess == shape.colour,
        structural="verify",
        semantic="attr",
        shape_indices=(index,),
    )
    wrong = tuple(name for name in COLOURS if name != shape.colour)
    text = f"What color is the {noun}?"
    structural = "query"
    if rng.random() < 0.3:
        first, second = rng.sample([shape.colour, rng.choice(wrong)], 2)
        text = f"Is the {noun} {first} or {second}?"
        structural = "choose"
    return Question(text, shape.colour, structural, "attr", wrong, (index,), entailed)


def form(rng: random.Random, shapes: ImageShapes) -> Question | None:
    index, shape = rng.choice(list(enumerate(shapes)))
    nouns = [Noun(None, shape.colour, None), Noun(shape.size, None, None), Noun(shape.size, shape.colour, None)]
    noun = first_unique(nouns, shapes)
    if noun is None:
        return None
    guess = rng.choice((shape.shape, rng.choice(SHAPES)))
    entailed = yes_no(
        f"Is the {noun} a {guess}?",
        guess == shape.shape,
        structural="verify",
        semantic="obj",
        shape_indices=(index,),
    )
    wrong = tuple(name for name in SHAPES if name != shape.shape)
    text = f"What is the {str(noun).replace('shape', 'thing')}?"
    return Question(text, shape.shape, "query", "obj", wrong, (index,), entailed)


def position(rng: random.Random, shapes: ImageShapes) -> Question | None:
    index, shape = rng.choice(list(enumerate(shapes)))
    noun = unique_noun(rng, shapes, index=index)
    axis = rng.randrange(2)
    if noun is None or shape.place[axis] == 1:  # in the middle
        return None
    answer = POSITIONS[axis][shape.place[axis]]
    wrong = tuple(name for name in POSITIONS[axis] if name != answer)
    return Question(f"Is the {noun} {CHOICES[axis]}?", answer, "choose", "rel", wrong, (index,))


VQA_MAKERS: dict[Maker, int] = {existence: 4, count: 2, colour: 4, form: 2, position: 1}  # with weights
GQA_MAKERS: dict[Maker, int] = {existence: 3, conjunction: 2, colour: 4, form: 2, position: 2}
ANSWER_TYPES = {"yes": "yes/no", "no": "yes/no"} | {str(number): "number" for number in range(10)}


def generate_questions(
    rng: random.Random, shapes: ImageShapes, *, makers: dict[Maker, int], most: int
) -> list[Question]:
    """Return up to `most` different questions about an image."""
    questions: dict[str, Question] = {}
    for maker in rng.choices(list(makers), list(makers.values()), k=4 * most):
        question = maker(rng, shapes)
        if question is not None:
            questions.setdefault(question.text, question)
        if len(questions) == most:
            break
    return list(questions.values())


def human_answers(rng: random.Random, question: Question) -> list[str]:
    """Return ten annotators' answers: mostly the correct one, sometimes a synonym or a wrong one."""
    correct = [question.answer, question.answer, SYNONYMS.get(question.answer, question.answer)]
    return [
        rng.choice(correct) if rng.random() < AGREEMENT else rng.choice(question.wrong_answers)
        for _ in range(NUM_ANNOTATORS)
    ]


def scene_graph(shapes: ImageShapes) -> dict[str, Any]:
    """Return GQA's scene graph: objects with boxes in pixels, attributes and relations."""
    objects: dict[str, Any] = {}
    for index, shape in enumerate(shapes):
        left_of_it = [str(number) for number, neighbour in enumerate(shapes) if neighbour.place[0] < shape.place[0]]
        x, y, width, height = shape.box()
        objects[str(index)] = {
            "name": shape.shape,
            "x": x,
            "y": y,
            "w": width,
            "h": height,
            "attributes": [shape.size, shape.colour],
            "relations": [{"name": "to the right of", "object": number} for number in left_of_it],
        }
    return {"width": IMAGE_SIZE, "height": IMAGE_SIZE, "objects": objects}
