"""Questions about one picture: VQA's with ten human-like answers, GQA's with types, entailments and a scene graph."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from vlx.synthetic.pictures import COLOURS, NUMBERS, SHAPES, SIDE, Noun, Picture, name_of

ANNOTATORS = 10
AGREEMENT = 0.88  # how likely an annotator gives the right answer; the others say what else one might
SYNONYMS = {"circle": "round", "square": "box", "yes": "yes it is", "no": "no it isn't"}
COLUMNS, ROWS = ("left", "middle", "right"), ("top", "middle", "bottom")


class Question(NamedTuple):
    """`entails`: a further question that its answer decides."""

    text: str
    answer: str
    structural: str  # GQA's: verify, query, choose, logical, compare
    semantic: str  # GQA's: obj, attr, rel, cat, global
    others: tuple[str, ...]  # wrong answers that one might give
    shapes: tuple[int, ...] = ()  # which of the picture it is about
    entails: "Question | None" = None


def yes_no(text: str, truth: bool, structural: str, semantic: str, shapes: tuple[int, ...] = ()) -> Question:
    answer, other = ("yes", "no") if truth else ("no", "yes")
    return Question(text, answer, structural, semantic, (other,), shapes)


def any_noun(rng: random.Random) -> Noun:
    """A noun of one or two words, whether or not a picture has it."""
    colour, form = rng.choices(((True, False), (False, True), (True, True)), (3, 3, 4))[0]
    return Noun(None, rng.choice(list(COLOURS)) if colour else None, rng.choice(SHAPES) if form else None)


def existence(rng: random.Random, picture: Picture) -> Question:
    noun, wanted = any_noun(rng), rng.random() < 0.5
    for _ in range(20):  # as often yes as no
        if (noun.count(picture) > 0) == wanted:
            break
        noun = any_noun(rng)
    form = rng.choice(("Is there a {}?", "Are there any {}s?", "Can you see a {} in the picture?"))
    return yes_no(form.format(noun), noun.count(picture) > 0, "verify", "obj", meant(noun, picture))


def both(rng: random.Random, picture: Picture) -> Question:
    one, other = any_noun(rng), any_noun(rng)
    truth = one.count(picture) > 0 and other.count(picture) > 0
    return yes_no(f"Are there both a {one} and a {other}?", truth, "logical", "obj", meant(one, picture))


def number(rng: random.Random, picture: Picture) -> Question:
    noun = any_noun(rng)
    count = noun.count(picture)
    others = tuple(str(near) for near in (count + 1, abs(count - 1))) + (NUMBERS[count],)
    return Question(f"How many {noun}s are there?", str(count), "query", "global", others, meant(noun, picture))


def colour(rng: random.Random, picture: Picture) -> Question | None:
    index, shape = rng.choice(list(enumerate(picture)))
    nouns = (Noun(None, None, shape.shape), Noun(shape.size, None, None), Noun(shape.size, None, shape.shape))
    noun = next((noun for noun in nouns if noun.count(picture) == 1), None)
    if noun is None:
        return None
    said = rng.choice((shape.colour, rng.choice(list(COLOURS))))
    sure = yes_no(f"Is the {noun} {said}?", said == shape.colour, "verify", "attr", (index,))
    others = tuple(name for name in COLOURS if name != shape.colour)
    if rng.random() < 0.3:
        pair = rng.sample([shape.colour, rng.choice(others)], 2)
        return Question(
            f"Is the {noun} {pair[0]} or {pair[1]}?", shape.colour, "choose", "attr", others, (index,), sure
        )
    return Question(f"What color is the {noun}?", shape.colour, "query", "attr", others, (index,), sure)


def form(rng: random.Random, picture: Picture) -> Question | None:
    index, shape = rng.choice(list(enumerate(picture)))
    nouns = (Noun(None, shape.colour, None), Noun(shape.size, None, None), Noun(shape.size, shape.colour, None))
    noun = next((noun for noun in nouns if noun.count(picture) == 1), None)
    if noun is None:
        return None
    said = rng.choice((shape.shape, rng.choice(SHAPES)))
    sure = yes_no(f"Is the {noun} a {said}?", said == shape.shape, "verify", "obj", (index,))
    others = tuple(name for name in SHAPES if name != shape.shape)
    return Question(
        f"What is the {str(noun).replace('shape', 'thing')}?", shape.shape, "query", "obj", others, (index,), sure
    )


def place(rng: random.Random, picture: Picture) -> Question | None:
    index, shape = rng.choice(list(enumerate(picture)))
    noun, axis = name_of(shape, picture, rng), rng.randrange(2)
    names = (COLUMNS, ROWS)[axis]
    if noun is None or shape.place[axis] == 1:
        return None
    answer = names[shape.place[axis]]
    text = f"Is the {noun} {('on the left or on the right', 'at the top or at the bottom')[axis]}?"
    others = tuple(name for name in names if name != answer)
    return Question(text, answer, "choose", "rel", others, (index,))


def meant(noun: Noun, picture: Picture) -> tuple[int, ...]:
    return tuple(index for index, shape in enumerate(picture) if noun.fits(shape))


Maker = Callable[[random.Random, Picture], Question | None]
VQA: dict[Maker, int] = {existence: 4, number: 2, colour: 4, form: 2, place: 1}
GQA: dict[Maker, int] = {existence: 3, both: 2, colour: 4, form: 2, place: 2}
ANSWER_TYPES = {"yes": "yes/no", "no": "yes/no"} | {str(count): "number" for count in range(10)}


def ask(rng: random.Random, picture: Picture, makers: dict[Maker, int], count: int) -> list[Question]:
    """Different questions about a picture, at most `count`."""
    found: dict[str, Question] = {}
    for maker in rng.choices(list(makers), list(makers.values()), k=4 * count):
        question = maker(rng, picture)
        if question is not None:
            found.setdefault(question.text, question)
        if len(found) == count:
            break
    return list(found.values())


def human_answers(rng: random.Random, question: Question) -> list[str]:
    """What ten annotators say: mostly the answer, now and then in other words, or something else."""
    alike = [question.answer, question.answer, SYNONYMS.get(question.answer, question.answer)]
    return [rng.choice(alike) if rng.random() < AGREEMENT else rng.choice(question.others) for _ in range(ANNOTATORS)]


def scene_graph(picture: Picture) -> dict[str, Any]:
    """As GQA publishes them: objects with boxes in pixels, attributes and where they lie from each other."""
    objects = {}
    for index, shape in enumerate(picture):
        right = [str(n) for n, other in enumerate(picture) if other.place[0] < shape.place[0]]
        x, y, width, height = shape.box()
        objects[str(index)] = {
            **{"name": shape.shape, "x": x, "y": y, "w": width, "h": height},
            "attributes": [shape.size, shape.colour],
            "relations": [{"name": "to the right of", "object": other} for other in right],
        }
    return {"width": SIDE, "height": SIDE, "objects": objects}
