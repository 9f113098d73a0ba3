"""Texts to pre-train on, as LXMERT's files: captions and questions of every picture, regions with detected classes."""

import base64
import random
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np

from vlx.corpora.answers import get_score
from vlx.corpora.formats.lxmert import convert_answer
from vlx.corpora.regions import DETECTOR
from vlx.synthetic import captions, questions
from vlx.synthetic.pictures import COLOURS, SHAPES, SIDE, Picture
from vlx.synthetic.records import PICTURES_OF_A_PART, Record, write_json

SPLITS = ("mscoco_train", "mscoco_minival")
PICTURES = ("train2014", "val2014")  # of the splits, in COCO's names
FILL = {"circle": 0.78, "square": 1.0, "triangle": 0.54}  # share of its box that a shape covers
COLOUR_SCALE, FILL_SCALE = 0.02, 0.005  # distances, squared, at which a class is e times less likely


def name_of(image: int) -> str:
    return f"COCO_{PICTURES[min(image // PICTURES_OF_A_PART, 1)]}_{image:012d}"


def say_all(rng: random.Random, picture: Picture, image: int) -> list[Record]:
    """Captions of the whole and of each shape, and the questions of VQA with their soft scores and of GQA with their
    one answer: about as many of each kind as LXMERT's."""
    said: list[Record] = [{"source": "mscoco", "text": text} for text in captions.captions(rng, picture)]
    said += [{"source": "vg", "text": text} for text in captions.phrases(rng, picture)]
    for question in questions.ask(rng, picture, questions.VQA, 2):
        humans = Counter(map(convert_answer, questions.human_answers(rng, question)))
        scores = {answer: get_score(count) for answer, count in humans.items()}
        said.append({"source": "vqa", "text": question.text, "label": scores})
    for question in questions.ask(rng, picture, questions.GQA, 2):
        said.append({"source": "gqa", "text": question.text, "label": {convert_answer(question.answer): 1.0}})
    return [{"image_id": image} | record for record in said]


def write_texts(folder: Path, splits: dict[str, list[Record]]) -> None:
    (folder / "lxmert").mkdir()
    known: dict[str, set[str]] = {}
    for split, records in splits.items():
        images = []
        for image, found in groupby(records, key=lambda record: record["image_id"]):
            about: Record = {"img_id": name_of(image), "sentf": {}, "labelf": {}}
            for record in found:
                about["sentf"].setdefault(record["source"], []).append(record["text"])
                if "label" in record:
                    about["labelf"].setdefault(record["source"], []).append(record["label"])
                    for answer in record["label"]:
                        known.setdefault(answer, set()).add(record["source"])
            images.append(about)
        write_json(folder / "lxmert" / f"{split}.json", images)
    table = [{"ans": answer, "dsets": sorted(known[answer])} for answer in sorted(known)]
    write_json(folder / "lxmert" / "all_ans.json", table)


def write_regions(folder: Path, regions: dict[str, np.ndarray]) -> None:
    """Rows [R,D+6] of every picture, as LXMERT's TSV with the classes that the features themselves tell."""
    (folder / "mscoco_imgfeat").mkdir()
    for part in PICTURES:
        with (folder / "mscoco_imgfeat" / f"{part}_{DETECTOR}_obj36.tsv").open("wb") as file:
            for name, rows in regions.items():
                if part in name:
                    features, boxes = rows[:, :-6], rows[:, -6:-2] * SIDE
                    cells = [base64.b64encode(x.tobytes()) for x in (*classes(features), boxes, features)]
                    about = [name.encode(), *[b"%d" % SIDE] * 2, *cells[:4], b"%d" % len(rows), *cells[4:]]
                    file.write(b"\t".join(about) + b"\n")
        vocabulary = "".join(f"{name}\n" for name in SHAPES)
        (folder / "mscoco_imgfeat" / "objects_vocab.txt").write_text(vocabulary, encoding="utf-8")


def classes(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shape and colour of regions as numbers, each with its confidence: which known one is nearest in the features."""
    fill, colour = features[:, 3:4], features[:, :3]
    shapes = -((fill - np.array([FILL[name] for name in SHAPES])) ** 2) / FILL_SCALE
    palette = np.array(list(COLOURS.values())) / 255
    colours = -((colour[:, None] - palette) ** 2).sum(-1) / COLOUR_SCALE
    found = []
    for scores in (shapes, colours):
        likely = np.exp(scores - scores.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        found += [likely.argmax(1).astype("<i8"), likely.max(1).astype("<f4")]
    return found[0], found[1], found[2], found[3]
