"""Answers and labels of official files: the vocabulary, soft scores, true or false; and held-out splits."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlx.corpora.formats.records import ANSWER, text_field, unique
from vlx.errors import CorpusError

BOOLEAN = re.compile("true|false", re.IGNORECASE)
HELD_OUT_SHARE = 10  # a tenth of the images for each held-out split


def answer_table(answers: Sequence[Any], where: str, inverse: Mapping[str, Any] | None = None) -> list[str]:
    """The answers by label, each once. inverse: the official answer -> label, which must agree."""
    seen: set[str] = set()
    for label, answer in enumerate(answers):
        at = f"{where}: label {label}"
        unique(text_field({"answer": answer}, "answer", at, ANSWER), seen, at, "answer")
    labels = {answer: label for label, answer in enumerate(answers)}
    given = labels if inverse is None else inverse
    for answer in labels | dict(given):
        if labels.get(answer) != given.get(answer):
            problem = f"{where}: label of {answer!a} is {labels.get(answer)}, in its inverse {given.get(answer)}"
            raise CorpusError(f"{problem}. Take both files from one download.")
    return list(answers)


def soft_labels(labels: Any, where: str) -> dict[str, float]:
    """answer -> score in 0..1 of every correct answer; may be empty."""
    if not isinstance(labels, dict):
        raise CorpusError(f"{where}: label is {ascii(labels)[:60]}, expected an object, answer: score. Correct it.")
    for answer, score in labels.items():
        if type(score) not in (int, float) or not 0 <= score <= 1 or not ANSWER.fullmatch(answer):
            raise CorpusError(f"{where}: {answer!a} has score {ascii(score)[:60]}, expected one in 0..1. Correct it.")
    return labels


def binary_label(record: dict[str, Any], where: str) -> int:
    """A label that must be the number 0 or 1."""
    label = record.get("label")
    if type(label) is not int or label not in (0, 1):
        raise CorpusError(f"{where}: label is {ascii(label)[:60]}, expected 0 or 1. Correct the record.")
    return label


def sentence_and_label(record: dict[str, Any], where: str) -> tuple[str, int]:
    """Statement of NLVR, and 1 for true, 0 for false."""
    label = text_field(record, "label", where, BOOLEAN, "true or false")
    return text_field(record, "sentence", where), int(label.lower() == "true")


def hold_out(image_ids: Iterable[str], splits: Sequence[str], where: Path | str) -> dict[str, str]:
    """Image id -> split of sources without official splits: a tenth of the images, at least one, for each of `splits`,
    the rest for train. The order is a hash of the image's id, so that all examples of an image share its split."""
    order = sorted(set(image_ids), key=lambda image_id: hashlib.sha256(image_id.encode()).digest())
    count = max(1, len(order) // HELD_OUT_SHARE)
    if len(order) <= count * len(splits):
        raise CorpusError(f"{where}: {len(order)} images, expected {len(splits) + 1} or more, to hold some out.")
    return {name: (*splits, "train")[min(rank // count, len(splits))] for rank, name in enumerate(order)}
