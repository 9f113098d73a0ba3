"""Tasks about annotated boxes, as ViLBERT 12-in-1 reads them. Every box is a shape, which the detector finds too."""

import pickle
import random
from itertools import groupby
from pathlib import Path

from vlx.synthetic.pictures import COLOURS, SHAPES, SIDE, SIZES, Noun, Picture, Shape, name_of
from vlx.synthetic.records import PICTURES_OF_A_PART, Record, write_json, write_lines

CHOICES = 4  # of a question
ROUNDS = 4  # questions of a dialogue at most
HONEST = 3  # how much likelier a question about the object is answered yes than no
VALUES = {"size": tuple(SIZES), "colour": tuple(COLOURS), "shape": SHAPES}
ASK = {"size": "Is it {}?", "colour": "Is it {}?", "shape": "Is it a {}?"}
VCR_PICTURES = 1_000_000  # numbers that VCR has for the pictures of a split


def say_which(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """Visual7W: up to three questions, each with boxes of four shapes of which its words mean one."""
    records = list[Record]()
    for index in rng.sample(range(len(picture)), min(3, len(picture))):
        noun = name_of(picture[index], picture, rng)
        if noun is not None:
            wrong = rng.sample([other for other in range(len(picture)) if other != index], CHOICES - 1)
            form = rng.choice(("Which one is the {}?", "Which is the {}?", "Where is the {}?"))
            boxes = {"answer": image * 10 + index, "multiple_choices": [image * 10 + other for other in wrong]}
            about = {"image_id": image, "picture": picture, "qa_id": image * 10 + len(records), "type": "which"}
            records.append(about | {"question": form.format(noun)} | boxes)
    return records


def write_visual7w(folder: Path, splits: dict[str, list[Record]]) -> None:
    images, boxes, dropped = list[Record](), list[Record](), ("image_id", "picture")
    for split, records in splits.items():
        for image, found in groupby(records, key=lambda record: record["image_id"]):
            asked = list(found)
            pairs = [{key: value for key, value in one.items() if key not in dropped} for one in asked]
            images.append({"image_id": image, "split": split, "filename": f"v7w_{image}.jpg", "qa_pairs": pairs})
            for index, shape in enumerate(asked[0]["picture"]):
                place = dict(zip(("x", "y", "width", "height"), shape.box(), strict=True))
                boxes.append({"box_id": image * 10 + index, "name": shape.shape, **place})
    write_json(folder / "dataset_v7w_pointing.json", {"dataset": "v7w_pointing", "images": images, "boxes": boxes})


def say_guesses(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """GuessWhat: questions that are as often true as not and as not applicable, since there is no such shape."""
    records = list[Record]()
    for answer in rng.sample(("Yes", "No", "N/A"), 3):
        axis = rng.choice(list(VALUES))
        count = 0 if answer == "N/A" else 1
        nouns = [noun for value in VALUES[axis] if (noun := noun_of(axis, value)).count(picture) == count]
        if nouns:
            noun, other = rng.choice(nouns), "shape" if axis == "colour" else "colour"
            meant = next(filter(noun.fits, picture), None)
            said = rng.choice([word for word in VALUES[other] if fair(answer, word, meant and getattr(meant, other))])
            text = f"Is the {str(noun).replace('shape', 'thing')} {'a ' if other == 'shape' else ''}{said}?"
            index = picture.index(meant) if meant else rng.randrange(len(picture))
            about = {"image_id": image, "picture": picture, "target": index}
            records.append(about | {"qas": [(text, answer)]})
    return records


def noun_of(axis: str, value: str) -> Noun:
    return Noun(**({"size": None, "colour": None, "shape": None} | {axis: value}))


def fair(answer: str, word: str, right: str | None) -> bool:
    return right is None or (word == right) == (answer == "Yes")


def say_dialogues(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """GuessWhat's games about up to two of the shapes that a dialogue tells from the others."""
    games = [(index, dialogue(rng, picture, picture[index])) for index in rng.sample(range(len(picture)), 2)]
    about = {"image_id": image, "picture": picture}
    return [about | {"target": index, "qas": said} for index, said in games if said]


def dialogue(rng: random.Random, picture: Picture, target: Shape) -> list[tuple[str, str]]:
    """Questions that part the shapes, until one is left; nothing if that takes too long."""
    left, said = list(picture), list[tuple[str, str]]()
    while len(left) > 1 and len(said) < ROUNDS:
        found = [(axis, value) for axis in VALUES for value in dict.fromkeys(getattr(one, axis) for one in left)]
        parting = [(axis, value) for axis, value in found if any(getattr(one, axis) != value for one in left)]
        if not parting:
            return []
        weights = [HONEST if getattr(target, axis) == value else 1 for axis, value in parting]
        axis, value = rng.choices(parting, weights)[0]
        truth = getattr(target, axis) == value
        said.append((ASK[axis].format(value), "Yes" if truth else "No"))
        left = [one for one in left if (getattr(one, axis) == value) == truth]
    return said if len(left) == 1 else []


def write_guesses(folder: Path, splits: dict[str, list[Record]]) -> None:
    """One game a picture, with all its questions."""
    games: dict[str, list[Record]] = {}
    for split, records in splits.items():
        for _, found in groupby(records, key=lambda record: record["image_id"]):
            asked = list(found)
            games.setdefault(split, []).append(asked[0] | {"qas": [pair for one in asked for pair in one["qas"]]})
    write_dialogues(folder, games)


def write_dialogues(folder: Path, splits: dict[str, list[Record]]) -> None:
    """One game a record."""
    for split, records in splits.items():
        games = list[Record]()
        for record in records:
            image, picture = record["image_id"], record["picture"]
            number = image * 10 + sum(game["image"]["id"] == image for game in games[-10:])
            qas = [
                {"id": number * 10 + place, "question": question, "answer": answer}
                for place, (question, answer) in enumerate(record["qas"])
            ]
            objects = [
                {"id": image * 10 + index, "bbox": list(shape.box()), "category": shape.shape}
                for index, shape in enumerate(picture)
            ]
            about = {"id": image, "width": SIDE, "height": SIDE, "file_name": f"{image}.png"}
            games.append({"id": number, "image": about, "objects": objects, "qas": qas, "status": "success"})
            games[-1]["object_id"] = image * 10 + record["target"]
        write_lines(folder / f"guesswhat.{split}.jsonl", games)


def vcr_number(image: int) -> str:
    part, number = divmod(image, PICTURES_OF_A_PART)
    return str(part * VCR_PICTURES + number)


def say_choices(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """VCR: a shape's colour, one answer of four; what else there is, one reason of four, of which no colour is its."""
    records = list[Record]()
    for index, shape in rng.sample(list(enumerate(picture)), len(picture)):
        nouns = (Noun(None, None, shape.shape), Noun(shape.size, None, None), Noun(shape.size, None, shape.shape))
        noun = next((noun for noun in nouns if noun.count(picture) == 1), None)
        pairs = [Noun(None, colour, form) for colour in COLOURS if colour != shape.colour for form in SHAPES]
        there = [pair for pair in pairs if pair.count(picture)]
        if noun is None or not there:
            continue
        reasons = [rng.choice(there), *rng.sample([pair for pair in pairs if not pair.count(picture)], CHOICES - 1)]
        colours, order = rng.sample(list(COLOURS), CHOICES), rng.sample(range(CHOICES), CHOICES)
        records.append(
            {
                **{"image_id": image, "picture": picture, "annot_id": f"{image}-{len(records)}"},
                **{"question": ["What", "color", "is", "the", *str(noun).split(), [index], "?"]},
                **{"answer_choices": [[[index], "is", colour, "."] for colour in colours]},
                **{"rationale_choices": [["There", "is", "a", *str(reasons[place]).split(), "."] for place in order]},
                **{"answer_label": colours.index(shape.colour), "rationale_label": order.index(0)},
            }
        )
    return records


def write_genome(folder: Path, splits: dict[str, list[Record]]) -> None:
    """Questions in the order of their ids, of which the last are validation."""
    records = [record for found in splits.values() for record in found]
    table = sorted({record["answer"] for record in records})
    places = {answer: place for place, answer in enumerate(table)}
    items = [record | {"labels": [places[record["answer"]]], "scores": [1.0]} for record in records]
    (folder / "cache").mkdir()
    (folder / "cache" / "trainval_target.pkl").write_bytes(pickle.dumps(items))
    (folder / "cache" / "trainval_label2ans.pkl").write_bytes(pickle.dumps(table))


def write_vcr(folder: Path, splits: dict[str, list[Record]]) -> None:
    """Lines, and the metadata of every picture."""
    for split, records in splits.items():
        lines = list[Record]()
        for record in records:
            picture, number = record["picture"], record["image_id"] % PICTURES_OF_A_PART
            path = folder / "vcr1images" / "scenes" / f"{split}-{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            names = [shape.shape for shape in picture]
            corners = [(x, y, x + width, y + height, 1.0) for x, y, width, height in (one.box() for one in picture)]
            write_json(path, {"width": SIDE, "height": SIDE, "names": names, "boxes": corners})
            said = {key: value for key, value in record.items() if key not in ("image_id", "picture")}
            about = {"img_id": f"{split}-{number}", "metadata_fn": f"scenes/{path.name}", "objects": names}
            lines.append(said | about)
        write_lines(folder / f"{split}.jsonl", lines)
