"""ViLBERT 12-in-1's VCR (see vilbert.py): questions about people and objects of a film's image.

vilbert-vcr-q2a, -vcr-qa2r   <train|val|test>.jsonl, vcr1images/ with every image's metadata; images are numbers:
                             train-7 is 7, val-7 is 1000007, test-7 is 2000007
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from vlx.corpora.formats.annotations.vilbert import read_each
from vlx.corpora.formats.annotations.vilbert_boxes import find_with_boxes
from vlx.corpora.formats.boxes import image_size, unit_box_of_corners
from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import Record, json_lines, load_json, matched_field, text_field, unique
from vlx.corpora.formats.sources import IMAGES, without_role
from vlx.corpora.store import Example
from vlx.errors import CorpusError

FIRST_NUMBER = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # of image 0 of each split
IMAGE = re.compile("(train|val|test)-([0-9]{1,6})")
FILE_BELOW = re.compile(r"(?!.*\.\.)[^/\0\ud800-\udfff][^\0\ud800-\udfff]*")  # a file's path below a folder
TEXT_KEYS = ("question", "answer_choices", "rationale_choices")
NUM_CHOICES = 4


class Metadata(NamedTuple):
    """Boxes in 0..1 and class names of an image's objects."""

    size: tuple[int, int]  # of the image in pixels
    boxes: list[list[float]]
    names: list[str]


class Question(NamedTuple):
    """A line of the official files. answer, rationale: index of the correct choice; -1: not published."""

    name: str
    image: str
    metadata: Metadata
    text: str
    answers: list[str]
    rationales: list[str]
    answer: int
    rationale: int
    extra: Record


def find(folder: Path) -> Files:
    """Image files have other names than regions, and are left out."""
    splits = {split: f"{split}.jsonl" for split in FIRST_NUMBER}
    return without_role(find_with_boxes(folder, splits, required={"metadata": "vcr1images"}), IMAGES)


def questions(path: Path) -> Iterator[Question]:
    seen: set[str] = set()
    for where, record in json_lines(path):
        name = unique(text_field(record, "annot_id", where), seen, where, "annot_id")
        split = matched_field(record, "img_id", where, IMAGE, "train-7 or the like")
        file = text_field(record, "metadata_fn", where, FILE_BELOW, "a file of vcr1images")
        metadata = load_metadata(path.parent / "vcr1images", file)
        if record.get("objects") != metadata.names:
            raise CorpusError(f"{where}: objects are not those of {file}. Take both from one download.")
        extra = {key: record[key] for key in TEXT_KEYS if key in record}
        yield Question(
            name=name,
            image=str(FIRST_NUMBER[split[1]] + int(split[2])),
            metadata=metadata,
            text=as_text(record.get("question"), metadata.names, f"{where}: question"),
            answers=choice_texts(record, "answer_choices", metadata.names, where),
            rationales=choice_texts(record, "rationale_choices", metadata.names, where),
            answer=label_of(record, "answer_label", where),
            rationale=label_of(record, "rationale_label", where),
            extra=extra | {"objects": record["objects"], "size": metadata.size},
        )


def answer_examples(path: Path) -> Iterator[Example]:
    """Q -> A: the answers to each question."""
    for question in questions(path):
        yield Example(
            question.name, question.text, [question.image],
            label=question.answer, choices=question.answers, boxes=question.metadata.boxes,
            extra=json.dumps(question.extra),
        )  # fmt: skip


def rationale_examples(path: Path) -> Iterator[Example]:
    """QA -> R: the rationales of each question's correct answer, or of each of its answers if it is not published."""
    for question in questions(path):
        is_labeled = question.answer >= 0
        for answer in [question.answer] if is_labeled else range(NUM_CHOICES):
            yield Example(
                question.name if is_labeled else f"{question.name}#{answer}",
                f"{question.text} {question.answers[answer]}",
                [question.image],
                label=question.rationale,
                choices=question.rationales,
                boxes=question.metadata.boxes,
                group=question.name,
                extra=json.dumps(question.extra | {"answer": answer}),
            )


@lru_cache(maxsize=64)  # questions about an image follow each other
def load_metadata(folder: Path, name: str) -> Metadata:
    path = first_existing(folder, name)
    content = load_json(path, dict)
    boxes = content.get("boxes")
    names = content.get("names")
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise CorpusError(f"{path}: boxes and names are not lists of one length. Get it again.")
    if not all(isinstance(name, str) for name in names):
        raise CorpusError(f"{path}: some of names are not text. Get it again.")
    size = image_size(content, str(path))
    return Metadata(size, [unit_box_of_corners(box, size, str(path)) for box in boxes], names)


def choice_texts(record: Record, key: str, names: Sequence[str], where: str) -> list[str]:
    choices = record.get(key)
    if not isinstance(choices, list) or len(choices) != NUM_CHOICES:
        raise CorpusError(f"{where}: {key} is {ascii(choices)[:60]}, expected {NUM_CHOICES} texts. Correct the line.")
    return [as_text(tokens, names, f"{where}: {key}") for tokens in choices]


def as_text(tokens: Any, names: Sequence[str], where: str) -> str:
    """A list of words and of lists of object indices -> text: [[0, 1], "look", "up"] -> [person1, dog2] look up."""
    parts = []
    for word in tokens if isinstance(tokens, list) else [None]:
        if isinstance(word, list) and word and all(type(index) is int and 0 <= index < len(names) for index in word):
            parts.append(f"[{', '.join(f'{names[index]}{index + 1}' for index in word)}]")
        elif isinstance(word, str):
            parts.append(word)
        else:
            raise CorpusError(f"{where}: {ascii(word)[:60]} is no word and no list of 0..{len(names) - 1}. Correct it.")
    return text_field({"text": " ".join(parts)}, "text", where)


def label_of(record: Record, key: str, where: str) -> int:
    """Index of the correct choice; -1: not published."""
    label = record.get(key, -1)
    if type(label) is not int or not -1 <= label < NUM_CHOICES:
        raise CorpusError(f"{where}: {key} is {ascii(label)[:60]}, expected 0..{NUM_CHOICES - 1}. Correct the line.")
    return label


VILBERT_VCR_Q2A = Format(find, partial(read_each, "vcr_q2a", answer_examples))
VILBERT_VCR_QA2R = Format(find, partial(read_each, "vcr_qa2r", rationale_examples))
