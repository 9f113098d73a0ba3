"""ViLBERT 12-in-1's tasks with annotated boxes (see vilbert.py).

vilbert-visual7w                        dataset_v7w_pointing.json; images are v7w_<Visual Genome's id>
vilbert-guesswhat, -guesswhat-pointing  guesswhat.<train|valid|test>.jsonl; COCO's images
vilbert-vcr-q2a, -vcr-qa2r              in vilbert_vcr.py

The regions of the annotated boxes, in *_gt_*.lmdb, follow the detector's, so that every choice is a region. Not in
guesswhat, whose questions are about the whole image.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vlx.corpora.formats.annotations.vilbert import (
    COCO,
    GENOME,
    NO_FILES,
    VISUAL7W_PREFIX,
    Names,
    add_regions,
    add_splits,
    find,
    read_each,
)
from vlx.corpora.formats.boxes import image_size, unit_box
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import Record, json_lines, load_json, object_list, official_id, text_field, unique
from vlx.corpora.formats.sources import ANNOTATED_BOXES
from vlx.corpora.store import Example, Size
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

VISUAL7W_SPLITS = ("train", "val", "test")
SPLIT = re.compile("|".join(VISUAL7W_SPLITS))
GUESSWHAT_ANSWERS = {"Yes": 0, "No": 1, "N/A": 2}
ANSWER = re.compile("|".join(GUESSWHAT_ANSWERS))
NUMBER = re.compile("[0-9]{1,18}")
NUM_CHOICES = 4


class Game(NamedTuple):
    """A game of GuessWhat."""

    where: str
    record: Record
    image: str
    size: tuple[int, int]  # of the image in pixels
    boxes: dict[int, list[float]]  # object id -> x1 y1 x2 y2 in 0..1
    target: int  # object id


def find_with_boxes(folder: Path, splits: Names, *, required: Names = NO_FILES, optional: Names = NO_FILES) -> Files:
    """As vilbert.find, and the region file of annotated boxes if there is one."""
    annotated = sorted(folder.rglob(f"{ANNOTATED_BOXES}.lmdb"))
    if len(annotated) > 1:
        names = " and ".join(path.name for path in annotated[:2])
        raise CorpusError(f"{folder}: found {names}, expected one file of annotated boxes. Keep the task's own.")
    files = find(folder, splits, required=required, optional=optional)
    return files | {"annotated": annotated[0]} if annotated else files


def read_visual7w(files: Files, writer: CorpusWriter) -> str:
    """Images are written before the questions, since no other file holds their sizes."""
    path = files["questions"]
    content = load_json(path, dict)
    images: dict[str, tuple[str, Record]] = {}
    seen: set[str] = set()
    for where, record in object_list(content, "images", path):
        image = f"{VISUAL7W_PREFIX}{official_id(record, 'image_id', where)}"
        images[unique(image, seen, where, "image")] = where, record
    detector = add_regions({image: where for image, (where, _) in images.items()}, files, writer)
    boxes = {official_id(record, "box_id", where): record for where, record in object_list(content, "boxes", path)}
    splits: dict[str, list[Example]] = {split: [] for split in VISUAL7W_SPLITS}
    for image, (where, record) in images.items():
        split = text_field(record, "split", where, SPLIT, " or ".join(VISUAL7W_SPLITS))
        size = writer.image_ids[image]
        for at, question in object_list(record, "qa_pairs", where):
            splits[split].append(which_question(question, image, boxes, size, at, seen))
    add_splits("visual7w", splits, files, writer)
    return detector


def which_question(
    question: Record, image: str, boxes: Mapping[Any, Record], size: Size, where: str, seen: set[str]
) -> Example:  # fmt: skip
    """A question with its candidate boxes in the order of their ids."""
    distractors = question.get("multiple_choices")
    answer = question.get("answer")
    choices = [*distractors, answer] if isinstance(distractors, list) else []
    is_complete = {int} == set(map(type, choices)) and len({*choices}) == NUM_CHOICES
    if not is_complete or not boxes.keys() >= set(map(str, choices)):
        problem = f"multiple_choices {ascii(distractors)[:60]}, answer {ascii(answer)[:20]}"
        raise CorpusError(f"{where}: {problem}, expected {NUM_CHOICES} boxes of the file in all. Correct the record.")
    width, height = size
    if width is None or height is None:
        raise CorpusError(f"{where}: the size of image {image} is not known. Add images, or regions with sizes.")
    box_ids = sorted(choices)
    pixels = [[boxes[str(box)].get(key) for key in ("x", "y", "width", "height")] for box in box_ids]
    name = unique(official_id(question, "qa_id", where), seen, where, "qa_id")
    return Example(
        name, text_field(question, "question", where), [image],
        label=box_ids.index(answer), boxes=[unit_box(box, (width, height), where, clip=True) for box in pixels],
        extra=json.dumps({"box_ids": box_ids, "size": size}),
    )  # fmt: skip


def games(path: Path) -> Iterator[Game]:
    for where, record in json_lines(path):
        image = record.get("image")
        if not isinstance(image, dict):
            raise CorpusError(f"{where}: image is {ascii(image)[:60]}, expected an object. Correct the line.")
        size = image_size(image, where)
        boxes: dict[int, list[float]] = {}
        for at, item in object_list(record, "objects", where):
            number = number_field(item, "id", at)
            if number in boxes:
                raise CorpusError(f"{at}: object {number} found twice, expected once. Correct the line.")
            boxes[number] = unit_box(item.get("bbox"), size, at)
        target = number_field(record, "object_id", where)
        if target not in boxes:
            raise CorpusError(f"{where}: object_id {target} is none of its {len(boxes)} objects. Correct the line.")
        yield Game(where, record, official_id(image, "id", where), size, boxes, target)


def number_field(record: Record, key: str, where: str) -> int:
    return int(text_field({key: str(record.get(key))}, key, where, NUMBER, "a number"))


def game_questions(path: Path) -> Iterator[Example]:
    """Every question of every game, with the box of its target object."""
    seen: set[str] = set()
    for game in games(path):
        group = official_id(game.record, "id", game.where)
        for at, record in questions_of(game):
            name = unique(official_id(record, "id", at), seen, at, "question")
            text = text_field(record, "question", at)
            label = GUESSWHAT_ANSWERS[text_field(record, "answer", at, ANSWER, " or ".join(GUESSWHAT_ANSWERS))]
            yield Example(name, text, [game.image], label=label, boxes=[game.boxes[game.target]], group=group)


def dialogues(path: Path) -> Iterator[Example]:
    """Every game: its questions and answers, and the candidate objects in the order of their ids."""
    seen: set[str] = set()
    for game in games(path):
        name = unique(official_id(game.record, "id", game.where), seen, game.where, "game")
        turns = [(text_field(turn, "question", at), text_field(turn, "answer", at)) for at, turn in questions_of(game)]
        text = " ".join(f"start {question} answer {answer} stop" for question, answer in turns)
        object_ids = sorted(game.boxes)
        extra = json.dumps({"object_ids": object_ids, "size": game.size, "status": game.record.get("status")})
        boxes = [game.boxes[number] for number in object_ids]
        yield Example(name, text, [game.image], label=object_ids.index(game.target), boxes=boxes, extra=extra)


def questions_of(game: Game) -> Iterable[tuple[str, Record]]:
    """(where, question) of a game; none if it was abandoned before the first."""
    return () if game.record.get("qas") == [] else object_list(game.record, "qas", game.where)


GAMES = {split: f"guesswhat.{split}.jsonl" for split in ("train", "valid", "test")}
VILBERT_VISUAL7W = Format(
    partial(find_with_boxes, splits={"questions": "dataset_v7w_pointing.json"}, optional=GENOME), read_visual7w
)
VILBERT_GUESSWHAT = Format(
    partial(find, splits=GAMES, optional=COCO), partial(read_each, "guesswhat", game_questions), id_space="coco"
)
VILBERT_GUESSWHAT_POINTING = Format(
    partial(find_with_boxes, splits=GAMES, optional=COCO),
    partial(read_each, "guesswhat_pointing", dialogues),
    id_space="coco",
)
