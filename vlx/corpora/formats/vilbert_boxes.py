"""ViLBERT 12-in-1's tasks about annotated boxes (see vilbert.py).

vilbert-visual7w                        dataset_v7w_pointing.json; images are v7w_<Visual Genome's id>
vilbert-guesswhat, -guesswhat-pointing  guesswhat.<train|valid|test>.jsonl; COCO's images
vilbert-vcr-q2a, -vcr-qa2r              <train|val|test>.jsonl, vcr1images/ with every picture's metadata; images are
                                        numbers: train-7 is 7, val-7 is 1000007, test-7 is 2000007

The regions of the annotated boxes, in *_gt_*.lmdb, follow the detector's, so that every choice is a region. Not in
guesswhat, whose questions are about the whole picture.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from vlx.corpora.formats.files import Format, field, json_lines, listed, load_json, require, unique, whole_or_text
from vlx.corpora.formats.refcoco import box_of, sides
from vlx.corpora.formats.sources import ANNOTATED
from vlx.corpora.formats.vilbert import (
    COCO,
    GENOME,
    NOTHING,
    V7W,
    Files,
    Places,
    add_regions,
    add_splits,
    find,
    read_each,
)
from vlx.corpora.store import Example, Size
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

Record = dict[str, Any]
SPLITS_7W = ("train", "val", "test")
SPLIT = re.compile("|".join(SPLITS_7W))
GUESSES = {"Yes": 0, "No": 1, "N/A": 2}
GUESS = re.compile("|".join(GUESSES))
FIRST = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # the number of a split's image 0
IMAGE = re.compile("(train|val|test)-([0-9]{1,6})")
BELOW = re.compile(r"(?!.*\.\.)[^/\0\ud800-\udfff][^\0\ud800-\udfff]*")  # a file's path below a folder
TEXTS = ("question", "answer_choices", "rationale_choices")
CHOICES = 4


class Picture(NamedTuple):
    """One of VCR's: the boxes in 0..1 and names of its objects."""

    size: tuple[int, int]
    boxes: list[list[float]]
    names: list[str]


class Game(NamedTuple):
    """One of GuessWhat's, with the box in 0..1 of every object of the picture."""

    where: str
    record: Record
    image: str
    size: tuple[int, int]
    boxes: dict[int, list[float]]
    target: int


def find_boxes(folder: Path, parts: Places, *, needed: Places = NOTHING, perhaps: Places = NOTHING) -> Files:
    annotated = sorted(folder.rglob(f"{ANNOTATED}.lmdb"))
    if len(annotated) > 1:
        names = " and ".join(path.name for path in annotated[:2])
        raise CorpusError(f"{folder}: found {names}, expected one file of annotated boxes. Keep the task's own.")
    found = find(folder, parts, needed=needed, perhaps=perhaps)
    return found | {"annotated": annotated[0]} if annotated else found


def read_visual7w(files: Files, writer: CorpusWriter) -> str:
    """Images come first, since no other file tells their sizes."""
    path, splits = files["questions"], {split: list[Example]() for split in SPLITS_7W}
    content, images, seen = load_json(path, dict), dict[str, tuple[str, Record]](), set[str]()
    for where, one in listed(content, "images", path):
        images[unique(f"{V7W}{whole_or_text(one, 'image_id', where)}", seen, where, "image")] = where, one
    detector = add_regions({image: where for image, (where, _) in images.items()}, files, writer)
    boxes = {whole_or_text(one, "box_id", where): one for where, one in listed(content, "boxes", path)}
    for image, (where, one) in images.items():
        split, size = field(one, "split", where, SPLIT, " or ".join(SPLITS_7W))[0], writer.image_ids[image]
        splits[split] += [which(asked, image, boxes, size, at, seen) for at, asked in listed(one, "qa_pairs", where)]
    add_splits("visual7w", splits, files, writer)
    return detector


def which(
    asked: Record, image: str, boxes: Mapping[Any, Record], size: Size, where: str, seen: set[str]
) -> Example:  # fmt: skip
    """A question with its boxes to choose from, in the order of their ids."""
    others, right = asked.get("multiple_choices"), asked.get("answer")
    choices = [*others, right] if isinstance(others, list) else []
    if {int} != set(map(type, choices)) or len({*choices}) != CHOICES or not boxes.keys() >= set(map(str, choices)):
        found = f"multiple_choices {ascii(others)[:60]}, answer {ascii(right)[:20]}"
        raise CorpusError(f"{where}: {found}, expected {CHOICES} boxes of the file in all. Correct the record.")
    width, height = size
    if width is None or height is None:
        raise CorpusError(f"{where}: the size of picture {image} is not known. Add pictures, or regions that tell it.")
    drawn = [[boxes[str(box)].get(key) for key in ("x", "y", "width", "height")] for box in sorted(choices)]
    name = unique(whole_or_text(asked, "qa_id", where), seen, where, "qa_id")
    return Example(
        name, field(asked, "question", where)[0], [image],
        label=sorted(choices).index(right), boxes=[box_of(box, (width, height), where, clip=True) for box in drawn],
        extra=json.dumps({"box_ids": sorted(choices), "size": size}),
    )  # fmt: skip


def games(path: Path) -> Iterator[Game]:
    for where, record in json_lines(path):
        picture, boxes = record.get("image"), dict[int, list[float]]()
        if not isinstance(picture, dict):
            raise CorpusError(f"{where}: image is {ascii(picture)[:60]}, expected an object. Correct the line.")
        size = sides(picture, where)
        for at, one in listed(record, "objects", where):
            if boxes.setdefault(number(one, "id", at), box := box_of(one.get("bbox"), size, at)) is not box:
                raise CorpusError(f"{at}: object {one['id']} found twice, expected once. Correct the line.")
        target = number(record, "object_id", where)
        if target not in boxes:
            raise CorpusError(f"{where}: object_id {target} is none of its {len(boxes)} objects. Correct the line.")
        yield Game(where, record, whole_or_text(picture, "id", where), size, boxes, target)


def number(record: Record, key: str, where: str) -> int:
    return int(field({key: str(record.get(key))}, key, where, re.compile("[0-9]{1,18}"), "a number")[0])


def guesses(path: Path) -> Iterator[Example]:
    """Every question of every game, with the object it is about."""
    seen: set[str] = set()
    for game in games(path):
        group = whole_or_text(game.record, "id", game.where)
        for at, asked in questions_of(game):
            name, text = unique(whole_or_text(asked, "id", at), seen, at, "question"), field(asked, "question", at)[0]
            label = GUESSES[field(asked, "answer", at, GUESS, " or ".join(GUESSES))[0]]
            yield Example(name, text, [game.image], label=label, boxes=[game.boxes[game.target]], group=group)


def dialogues(path: Path) -> Iterator[Example]:
    """Every game: its questions and answers, and the objects to choose from in the order of their ids."""
    seen: set[str] = set()
    for game in games(path):
        name = unique(whole_or_text(game.record, "id", game.where), seen, game.where, "game")
        said = [(field(asked, "question", at)[0], field(asked, "answer", at)[0]) for at, asked in questions_of(game)]
        text = " ".join(f"start {question} answer {answer} stop" for question, answer in said)
        order = sorted(game.boxes)
        extra = json.dumps({"object_ids": order, "size": game.size, "status": game.record.get("status")})
        boxes = [game.boxes[number] for number in order]
        yield Example(name, text, [game.image], label=order.index(game.target), boxes=boxes, extra=extra)


def questions_of(game: Game) -> Iterable[tuple[str, Record]]:
    """None of a game that was given up at once."""
    return () if game.record.get("qas") == [] else listed(game.record, "qas", game.where)


def find_vcr(folder: Path) -> Files:
    """Pictures have other names than regions, and are left out."""
    found = find_boxes(folder, {split: f"{split}.jsonl" for split in FIRST}, needed={"metadata": "vcr1images"})
    return {role: path for role, path in found.items() if not role.startswith("pictures ")}


def choices(path: Path, *, task: str) -> Iterator[Example]:
    """vcr_q2a: the answers to a question; vcr_qa2r: the reasons for its answer, for each where the right is hidden."""
    seen: set[str] = set()
    for where, record in json_lines(path):
        name = unique(field(record, "annot_id", where)[0], seen, where, "annot_id")
        split = field(record, "img_id", where, IMAGE, "train-7 or the like")
        file = field(record, "metadata_fn", where, BELOW, "a file of vcr1images")[0]
        picture = annotated(path.parent / "vcr1images", file)
        if record.get("objects") != picture.names:
            raise CorpusError(f"{where}: objects are not those of {file}. Take both from one download.")
        question, answers, reasons = (texts(record, key, picture.names, where) for key in TEXTS)
        answer, reason = (label_of(record, key, where) for key in ("answer_label", "rationale_label"))
        about = {key: record[key] for key in (*TEXTS, "objects")} | {"size": picture.size}
        image = str(FIRST[split[1]] + int(split[2]))
        row = Example(name, question[0], [image], boxes=picture.boxes, extra=json.dumps(about))
        if task == "vcr_q2a":
            yield row._replace(choices=answers, label=answer)
        for given in () if task == "vcr_q2a" else [answer] if answer >= 0 else range(CHOICES):
            extra, text = json.dumps(about | {"answer": given}), f"{question[0]} {answers[given]}"
            number = name if answer >= 0 else f"{name}#{given}"
            yield row._replace(identifier=number, text=text, choices=reasons, label=reason, group=name, extra=extra)


@lru_cache(maxsize=64)  # questions about one picture follow each other
def annotated(folder: Path, name: str) -> Picture:
    path = require(folder, name)
    content, where = load_json(path, dict), str(path)
    boxes, names = content.get("boxes"), content.get("names")
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise CorpusError(f"{path}: boxes and names are not lists of one length. Get it again.")
    if not all(isinstance(name, str) for name in names):
        raise CorpusError(f"{path}: some of names are not text. Get it again.")
    size = sides(content, where)
    return Picture(size, [corners_of(box, size, where) for box in boxes], names)


def corners_of(box: Any, size: tuple[int, int], where: str) -> list[float]:
    """x1 y1 x2 y2 and confidence in pixels -> x1 y1 x2 y2 in 0..1."""
    if not isinstance(box, list) or len(box) != 5 or not {int, float}.issuperset(map(type, box)):
        raise CorpusError(
            f"{where}: box is {ascii(box)[:60]}, expected x1 y1 x2 y2 and confidence. Get the file again."
        )
    return box_of([*box[:2], box[2] - box[0], box[3] - box[1]], size, where)


def texts(record: Record, key: str, names: Sequence[str], where: str) -> list[str]:
    """A list of words and of lists of objects, or four of such lists, as texts: [person1, dog2] looks up."""
    values = [record.get(key)] if key == "question" else record.get(key)
    if not isinstance(values, list) or len(values) != (1 if key == "question" else CHOICES):
        raise CorpusError(f"{where}: {key} is {ascii(values)[:60]}, expected {CHOICES} texts. Correct the line.")
    return [spoken(words, names, f"{where}: {key}") for words in values]


def spoken(words: Any, names: Sequence[str], where: str) -> str:
    said = []
    for word in words if isinstance(words, list) else [None]:
        if isinstance(word, list) and word and all(type(index) is int and 0 <= index < len(names) for index in word):
            said.append(f"[{', '.join(f'{names[index]}{index + 1}' for index in word)}]")
        elif isinstance(word, str):
            said.append(word)
        else:
            raise CorpusError(f"{where}: {ascii(word)[:60]} is no word and no list of 0..{len(names) - 1}. Correct it.")
    return field({"text": " ".join(said)}, "text", where)[0]


def label_of(record: Record, key: str, where: str) -> int:
    """-1: hidden."""
    label = record.get(key, -1)
    if type(label) is not int or not -1 <= label < CHOICES:
        raise CorpusError(f"{where}: {key} is {ascii(label)[:60]}, expected 0..{CHOICES - 1}. Correct the line.")
    return label


def vcr(task: str) -> Format:
    return Format(find_vcr, partial(read_each, task, partial(choices, task=task)))


GAMES = {split: f"guesswhat.{split}.jsonl" for split in ("train", "valid", "test")}
FORMATS = {
    "vilbert-visual7w": Format(
        partial(find_boxes, parts={"questions": "dataset_v7w_pointing.json"}, perhaps=GENOME), read_visual7w
    ),
    "vilbert-guesswhat": Format(partial(find, parts=GAMES, perhaps=COCO), partial(read_each, "guesswhat", guesses)),
    "vilbert-guesswhat-pointing": Format(
        partial(find_boxes, parts=GAMES, perhaps=COCO), partial(read_each, "guesswhat_pointing", dialogues)
    ),
    "vilbert-vcr-q2a": vcr("vcr_q2a"),
    "vilbert-vcr-qa2r": vcr("vcr_qa2r"),
}
