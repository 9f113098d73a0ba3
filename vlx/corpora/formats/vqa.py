"""VQA v2 as published: questions about COCO's pictures, and the ten answers people gave to each.

<source>/v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json   one of them will do
<source>/v2_mscoco_{train2014,val2014}_annotations.json                                 for those of train and val
regions and pictures                                                                    by COCO's image ids (sources.py)

Questions without an answer in the vocabulary are kept: the official score counts them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vlx.corpora.answers import LEAST_COUNT, soft_scores, vocabulary
from vlx.corpora.formats.files import ANSWER, Format, field, listed, load_json, require, some_of, unique, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SUBTYPES = {"train": "train2014", "val": "val2014", "test": "test2015", "testdev": "test-dev2015"}  # by split
ANSWERED = ("train", "val")  # splits whose answers are published, and make the vocabulary
PEOPLE = 10


class Annotation(NamedTuple):
    """What is known of a question besides its text."""

    image: str
    answer: str  # multiple_choice_answer, the one most often given
    humans: list[str]  # the ten answers, as they were given
    question_type: str
    answer_type: str


def find(folder: Path) -> dict[str, Path]:
    """The splits there are, regions and pictures."""
    names = {f"{split} questions": f"v2_OpenEnded_mscoco_{name}_questions.json" for split, name in SUBTYPES.items()}
    found = some_of(folder, names)
    for split, name in SUBTYPES.items():
        path = folder / f"v2_mscoco_{name}_annotations.json"
        if f"{split} questions" in found and (split in ANSWERED or path.is_file()):
            found[f"{split} annotations"] = require(folder, path.name)
    return found | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write questions, answers and pictures; returns the detector's name."""
    known = {split: annotations(path) for split in SUBTYPES if (path := files.get(f"{split} annotations"))}
    table = vocabulary(one.answer for split in ANSWERED for one in known.get(split, {}).values())
    if table:
        writer.add_answers("vqa", table)
    elif known.keys() & set(ANSWERED):
        where = " and ".join(files[f"{split} annotations"].name for split in ANSWERED if split in known)
        raise CorpusError(
            f"{where}: no answer is given to {LEAST_COUNT} questions, so there is no vocabulary to learn."
        )
    wanted: dict[str, str] = {}
    for split in [name for name in SUBTYPES if f"{name} questions" in files]:
        rows = questions(files[f"{split} questions"], known.get(split), set(table), wanted)
        writer.add_examples("vqa", split, rows)
    return add_images(writer, files, wanted)


def questions(
    path: Path, known: Mapping[str, Annotation] | None, table: set[str], wanted: dict[str, str]
) -> Iterator[Example]:
    """A split; `known`: its annotations by question id. The images are noted in `wanted`."""
    seen: set[str] = set()
    for where, record in listed(load_json(path, dict), "questions", path):
        number = unique(whole_or_text(record, "question_id", where), seen, where, "question_id")
        text, image = field(record, "question", where)[0], whole_or_text(record, "image_id", where)
        wanted.setdefault(image, f"question {number}")
        if known is None:
            yield Example(number, text, [image])
            continue
        if number not in known or known[number].image != image:
            found = f"of image {known[number].image}" if number in known else "absent"
            raise CorpusError(f"{where}: question {number} of image {image} is {found} in the annotations. Check both.")
        yield answered(Example(number, text, [image]), known[number], table)
    if known and len(known) != len(seen):
        number = next(number for number in known if number not in seen)
        raise CorpusError(f"{path}: question {number} of the annotations is absent. Take both files of one split.")


def answered(row: Example, said: Annotation, table: set[str]) -> Example:
    """With the score of every answer that is in the vocabulary; the official metric reads the ten answers."""
    scores = soft_scores(said.humans, table)
    extra = json.dumps({"answers": said.humans, "question_type": said.question_type})
    return row._replace(answers=[*scores], scores=[*scores.values()], category=said.answer_type, extra=extra)


def annotations(path: Path) -> dict[str, Annotation]:
    """By question id, in the order of the file."""
    found: dict[str, Annotation] = {}
    for where, record in listed(load_json(path, dict), "annotations", path):
        number = whole_or_text(record, "question_id", where)
        if number in found:
            raise CorpusError(f"{where}: question_id {number} found twice, expected once. Remove one of them.")
        found[number] = annotation(record, where)
    return found


def annotation(record: dict[str, Any], where: str) -> Annotation:
    humans = [field(one, "answer", at, ANSWER)[0] for at, one in listed(record, "answers", where)]
    if len(humans) != PEOPLE:
        hint = "Questions with one answer each are of the format vqa-rad."
        raise CorpusError(f"{where}: {len(humans)} answers, expected those of {PEOPLE} people. {hint}")
    image, answer = whole_or_text(record, "image_id", where), field(record, "multiple_choice_answer", where, ANSWER)[0]
    kinds = (field(record, key, where)[0] for key in ("question_type", "answer_type"))
    return Annotation(image, answer, humans, *kinds)


FORMATS = {"vqa": Format(find, read)}
