"""Tasks about annotated boxes in the files of ViLBERT 12-in-1: Visual7W, GuessWhat and VCR.

Every annotated box is a shape, and every shape is also a region of the detector.
"""

import random
from itertools import groupby
from pathlib import Path

from vlx.synthetic.images import COLOURS, IMAGE_SIZE, SHAPES, SIZES, ImageShapes, Noun, Shape, first_unique, unique_noun
from vlx.synthetic.records import IMAGES_PER_PART, Record, Splits, without, write_json, write_lines

NUM_CHOICES = 4  # of a question of Visual7W or VCR
MAX_ROUNDS = 4  # questions of a dialogue
YES_WEIGHT = 3  # how much likelier a question is in a dialogue if its answer is yes
ATTRIBUTES = {"size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES}
ATTRIBUTE_QUESTIONS = {"size": "Is it {}?", "colour": "Is it {}?", "shape": "Is it a {}?"}
VCR_IMAGES_PER_SPLIT = 1_000_000  # image ids that the VCR reader has for a split
VCR_MOVIE = "scenes"  # VCR has a folder of metadata for every movie


def visual7w_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return up to three questions, each with the boxes of four shapes, one of which fits the question."""
    records: list[Record] = []
    for index in rng.sample(range(len(shapes)), min(3, len(shapes))):
        noun = unique_noun(rng, shapes, index=index)
        if noun is None:
            continue
        wrong = rng.sample([number for number in range(len(shapes)) if number != index], NUM_CHOICES - 1)
        template = rng.choice(("Which one is the {}?", "Which is the {}?", "Where is the {}?"))
        records.append(
            {
                "image_id": image_id,
                "shapes": shapes,
                "qa_id": image_id * 10 + len(records),
                "type": "which",
                "question": template.format(noun),
                "answer": image_id * 10 + index,
                "multiple_choices": [image_id * 10 + number for number in wrong],
            }
        )
    return records


def write_visual7w(folder: Path, splits: Splits) -> None:
    images: list[Record] = []
    boxes: list[Record] = []
    for split, records in splits.items():
        for image_id, group in groupby(records, key=lambda record: record["image_id"]):
            questions = list(group)
            images.append(
                {
                    "image_id": image_id,
                    "split": split,
                    "filename": f"v7w_{image_id}.jpg",
                    "qa_pairs": [without(question, "image_id", "shapes") for question in questions],
                }
            )
            boxes += [
                {"box_id": image_id * 10 + index, "name": shape.shape}
                | dict(zip(("x", "y", "width", "height"), shape.box(), strict=True))
                for index, shape in enumerate(questions[0]["shapes"])
            ]
    write_json(folder / "dataset_v7w_pointing.json", {"dataset": "v7w_pointing", "images": images, "boxes": boxes})


def guesswhat_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return up to one question for every answer: Yes, No, and N/A where no shape fits the noun."""
    records: list[Record] = []
    for answer in rng.sample(("Yes", "No", "N/A"), 3):
        attribute = rng.choice(list(ATTRIBUTES))
        nouns = [attribute_noun(attribute, value) for value in ATTRIBUTES[attribute]]
        nouns = [noun for noun in nouns if noun.count(shapes) == (0 if answer == "N/A" else 1)]
        if nouns:
            records.append(
                {"image_id": image_id, "shapes": shapes}
                | guesswhat_question(rng, shapes, noun=rng.choice(nouns), answer=answer)
            )
    return records


def guesswhat_question(rng: random.Random, shapes: ImageShapes, *, noun: Noun, answer: str) -> Record:
    """Return a question with that answer about the colour of a noun, or about the shape of a noun with a colour."""
    attribute = "shape" if noun.colour else "colour"
    target = next(filter(noun.fits, shapes), None)
    values = ATTRIBUTES[attribute]
    if target:
        actual = getattr(target, attribute)
        values = tuple(value for value in values if (value == actual) == (answer == "Yes"))
    value = rng.choice(values)
    subject = str(noun).replace("shape", "thing")
    text = f"Is the {subject} {'a ' if attribute == 'shape' else ''}{value}?"
    index = shapes.index(target) if target else rng.randrange(len(shapes))
    return {"target": index, "qas": [(text, answer)]}


def attribute_noun(attribute: str, value: str) -> Noun:
    return Noun(None, None, None)._replace(**{attribute: value})


def dialogue_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return games about up to two shapes, each with a dialogue that identifies its target."""
    games = [(index, dialogue(rng, shapes, target=shapes[index])) for index in rng.sample(range(len(shapes)), 2)]
    return [{"image_id": image_id, "shapes": shapes, "target": index, "qas": qas} for index, qas in games if qas]


def dialogue(rng: random.Random, shapes: ImageShapes, *, target: Shape) -> list[tuple[str, str]]:
    """Return questions and answers after which only the target is left; empty if they do not suffice."""
    candidates = list(shapes)
    turns: list[tuple[str, str]] = []
    while len(candidates) > 1 and len(turns) < MAX_ROUNDS:
        questions = splitting_questions(candidates)
        if not questions:
            return []
        weights = [YES_WEIGHT if getattr(target, attribute) == value else 1 for attribute, value in questions]
        attribute, value = rng.choices(questions, weights)[0]
        is_yes = getattr(target, attribute) == value
        turns.append((ATTRIBUTE_QUESTIONS[attribute].format(value), "Yes" if is_yes else "No"))
        candidates = [shape for shape in candidates if (getattr(shape, attribute) == value) == is_yes]
    return turns if len(candidates) == 1 else []


def splitting_questions(candidates: list[Shape]) -> list[tuple[str, str]]:
    """Return every attribute and value that some but not all candidates have."""
    questions: list[tuple[str, str]] = []
    for attribute in ATTRIBUTES:
        values = list(dict.fromkeys(getattr(shape, attribute) for shape in candidates))
        if len(values) > 1:
            questions += [(attribute, value) for value in values]
    return questions


def write_guesswhat(folder: Path, splits: Splits) -> None:
    """Write one game an image, with the questions of all its records."""
    games: Splits = {}
    for split, records in splits.items():
        for _, group in groupby(records, key=lambda record: record["image_id"]):
            questions = list(group)
            qas = [turn for record in questions for turn in record["qas"]]
            games.setdefault(split, []).append(questions[0] | {"qas": qas})
    write_dialogues(folder, games)


def write_dialogues(folder: Path, splits: Splits) -> None:
    """Write one game a record."""
    for split, records in splits.items():
        games: list[Record] = []
        for image_id, group in groupby(records, key=lambda record: record["image_id"]):
            games += [game(record, game_id=image_id * 10 + index) for index, record in enumerate(group)]
        write_lines(folder / f"guesswhat.{split}.jsonl", games)


def game(record: Record, *, game_id: int) -> Record:
    """Return a game of GuessWhat. Object ids: ten for every image."""
    image_id = record["image_id"]
    return {
        "id": game_id,
        "image": {"id": image_id, "width": IMAGE_SIZE, "height": IMAGE_SIZE, "file_name": f"{image_id}.png"},
        "objects": [
            {"id": image_id * 10 + index, "bbox": list(shape.box()), "category": shape.shape}
            for index, shape in enumerate(record["shapes"])
        ],
        "qas": [
            {"id": game_id * 10 + index, "question": question, "answer": answer}
            for index, (question, answer) in enumerate(record["qas"])
        ],
        "status": "success",
        "object_id": image_id * 10 + record["target"],
    }


def vcr_image_name(image_id: int) -> str:
    part, number = divmod(image_id, IMAGES_PER_PART)
    return str(part * VCR_IMAGES_PER_SPLIT + number)


def vcr_records(rng: random.Random, shapes: ImageShapes, *, image_id: int) -> list[Record]:
    """Return questions about the colour of a shape, with four colours as answers, and four rationales that name
    another coloured shape, one of which is in the image."""
    records: list[Record] = []
    for index, shape in rng.sample(list(enumerate(shapes)), len(shapes)):
        nouns = [Noun(None, None, shape.shape), Noun(shape.size, None, None), Noun(shape.size, None, shape.shape)]
        noun = first_unique(nouns, shapes)
        rationales = [Noun(None, colour, form) for colour in COLOURS if colour != shape.colour for form in SHAPES]
        present = [rationale for rationale in rationales if rationale.count(shapes)]
        absent = [rationale for rationale in rationales if not rationale.count(shapes)]
        if noun is None or not present or len(absent) < NUM_CHOICES - 1:
            continue
        choices = [rng.choice(present), *rng.sample(absent, NUM_CHOICES - 1)]  # the correct one first
        colours = rng.sample(list(COLOURS), NUM_CHOICES)
        order = rng.sample(range(NUM_CHOICES), NUM_CHOICES)
        records.append(
            {
                "image_id": image_id,
                "shapes": shapes,
                "annot_id": f"{image_id}-{len(records)}",
                "question": ["What", "color", "is", "the", *str(noun).split(), [index], "?"],
                "answer_choices": [[[index], "is", colour, "."] for colour in colours],
                "rationale_choices": [["There", "is", "a", *str(choices[number]).split(), "."] for number in order],
                "answer_label": colours.index(shape.colour),
                "rationale_label": order.index(0),
            }
        )
    return records


def write_vcr(folder: Path, splits: Splits) -> None:
    """Write the questions of every split, and one file of metadata for every image."""
    metadata_folder = folder / "vcr1images" / VCR_MOVIE
    metadata_folder.mkdir(parents=True)
    for split, records in splits.items():
        lines: list[Record] = []
        for record in records:
            name = f"{split}-{record['image_id'] % IMAGES_PER_PART}"
            metadata = vcr_metadata(record["shapes"])
            write_json(metadata_folder / f"{name}.json", metadata)
            line = without(record, "image_id", "shapes")
            image = {"img_id": name, "metadata_fn": f"{VCR_MOVIE}/{name}.json", "objects": metadata["names"]}
            lines.append(line | image)
        write_lines(folder / f"{split}.jsonl", lines)


def vcr_metadata(shapes: ImageShapes) -> Record:
    """Return an image's size, and its boxes as x1, y1, x2, y2, confidence."""
    boxes = [(x, y, x + width, y + height, 1.0) for x, y, width, height in (shape.box() for shape in shapes)]
    return {"width": IMAGE_SIZE, "height": IMAGE_SIZE, "names": [shape.shape for shape in shapes], "boxes": boxes}
