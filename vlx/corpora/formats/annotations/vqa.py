"""VQA v2 as published: questions about COCO's images, and ten human answers to each.

<source>/v2_OpenEnded_mscoco_{train2014,val2014,test2015,test-dev2015}_questions.json   at least one
<source>/v2_mscoco_{train2014,val2014}_annotations.json                                 for those of train and val
regions and images                                                                      by COCO's image ids (sources.py)

Questions without an answer in the vocabulary stay: the official score counts them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vlx.corpora.answers import MIN_ANSWER_COUNT, soft_scores, vocabulary
from vlx.corpora.formats.folders import existing_files, first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import ANSWER, Record, load_json, object_list, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SUBTYPES = {"train": "train2014", "val": "val2014", "test": "test2015", "testdev": "test-dev2015"}  # by split
LABELED_SPLITS = ("train", "val")  # splits with published answers, which make the vocabulary
NUM_ANNOTATORS = 10


class Annotation(NamedTuple):
    """The annotation of a question."""

    image: str
    answer: str  # multiple_choice_answer, the most frequent one
    human_answers: list[str]  # ten, as given
    question_type: str
    answer_type: str


def find(folder: Path) -> Files:
    """The splits that exist, regions and images."""
    names = {f"{split} questions": f"v2_OpenEnded_mscoco_{name}_questions.json" for split, name in SUBTYPES.items()}
    files = existing_files(folder, names)
    for split, name in SUBTYPES.items():
        path = folder / f"v2_mscoco_{name}_annotations.json"
        if f"{split} questions" in files and (split in LABELED_SPLITS or path.is_file()):
            files[f"{split} annotations"] = first_existing(folder, path.name)
    return files | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write questions, answers and images; returns the detector's name."""
    by_split = {split: annotations(path) for split in SUBTYPES if (path := files.get(f"{split} annotations"))}
    labeled = [split for split in LABELED_SPLITS if split in by_split]
    table = vocabulary(annotation.answer for split in labeled for annotation in by_split[split].values())
    if table:
        writer.add_answers("vqa", table)
    elif labeled:
        where = " and ".join(files[f"{split} annotations"].name for split in labeled)
        problem = f"no answer is given to {MIN_ANSWER_COUNT} questions"
        raise CorpusError(f"{where}: {problem}, so there is no vocabulary to learn.")
    mentions: dict[str, str] = {}
    for split in [name for name in SUBTYPES if f"{name} questions" in files]:
        rows = questions(files[f"{split} questions"], by_split.get(split), set(table), mentions)
        writer.add_examples("vqa", split, rows)
    return add_images(writer, files, mentions)


def questions(
    path: Path, annotated: Mapping[str, Annotation] | None, table: set[str], mentions: dict[str, str]
) -> Iterator[Example]:
    """A split. annotated: by question id, None for a split without. Image ids are added to `mentions`."""
    seen: set[str] = set()
    for where, record in object_list(load_json(path, dict), "questions", path):
        number = unique(official_id(record, "question_id", where), seen, where, "question_id")
        text = text_field(record, "question", where)
        image = official_id(record, "image_id", where)
        mentions.setdefault(image, f"question {number}")
        example = Example(number, text, [image])
        if annotated is not None:
            if number not in annotated or annotated[number].image != image:
                problem = f"of image {annotated[number].image}" if number in annotated else "absent"
                problem = f"question {number} of image {image} is {problem} in the annotations"
                raise CorpusError(f"{where}: {problem}. Check both.")
            example = with_answers(example, annotated[number], table)
        yield example
    if annotated and len(annotated) != len(seen):
        number = next(number for number in annotated if number not in seen)
        raise CorpusError(f"{path}: question {number} of the annotations is absent. Take both files of one split.")


def with_answers(example: Example, annotation: Annotation, table: set[str]) -> Example:
    """The example with the score of every answer of the vocabulary; the official metric reads the ten answers."""
    scores = soft_scores(annotation.human_answers, table)
    extra = json.dumps({"answers": annotation.human_answers, "question_type": annotation.question_type})
    return example._replace(answers=[*scores], scores=[*scores.values()], category=annotation.answer_type, extra=extra)


def annotations(path: Path) -> dict[str, Annotation]:
    """By question id, in the order of the file."""
    by_question: dict[str, Annotation] = {}
    for where, record in object_list(load_json(path, dict), "annotations", path):
        number = official_id(record, "question_id", where)
        if number in by_question:
            raise CorpusError(f"{where}: question_id {number} found twice, expected once. Remove one of them.")
        by_question[number] = annotation_of(record, where)
    return by_question


def annotation_of(record: Record, where: str) -> Annotation:
    humans = [text_field(row, "answer", at, ANSWER) for at, row in object_list(record, "answers", where)]
    if len(humans) != NUM_ANNOTATORS:
        hint = "Questions with one answer each are of the format vqa-rad."
        raise CorpusError(f"{where}: {len(humans)} answers, expected those of {NUM_ANNOTATORS} people. {hint}")
    return Annotation(
        image=official_id(record, "image_id", where),
        answer=text_field(record, "multiple_choice_answer", where, ANSWER),
        human_answers=humans,
        question_type=text_field(record, "question_type", where),
        answer_type=text_field(record, "answer_type", where),
    )


VQA = Format(find, read, id_space="coco")
