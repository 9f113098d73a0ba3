"""VQA-RAD as published, and questions of your own in its form: one answer each, to be given from a vocabulary.

<source>/VQA_RAD Dataset Public.json, or questions.json   list of objects with qid, image_name, question, answer; and
                                                          perhaps answer_type, by which scores are split, and others
regions and pictures                                      by image_name without suffix (sources.py)

Rows whose phrase_type begins with test are the test split; without any, it is held out by picture as val is.
The vocabulary is every answer of train, in VQA's normal form; other splits may have answers that are not in it.
"""

import json
from pathlib import Path
from typing import Any

from vlx.corpora.answers import normalize_word, one_line
from vlx.corpora.formats.files import Format, field, held_out, load_json, objects, require, unique, whole_or_text
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter

TASK, SPLITS = "vqa_rad", ("train", "val", "test")
NAMES = ("VQA_RAD Dataset Public.json", "questions.json")
KINDS = ("question_type", "phrase_type", "image_organ")  # what of a question is kept besides


def find(folder: Path) -> dict[str, Path]:
    return {"questions": require(folder, *NAMES)} | find_images(folder)


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write questions, the vocabulary and pictures; returns the detector's name."""
    found = questions(files["questions"])
    official = any(is_test for is_test, _ in found)
    pictures = (row.image_ids[0] for is_test, row in found if not is_test)
    split_of = held_out(pictures, ("val",) if official else ("val", "test"), files["questions"])
    splits: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for is_test, row in found:
        splits["test" if is_test else split_of[row.image_ids[0]]].append(row)
    for split, rows in splits.items():
        writer.add_examples(TASK, split, rows)
    writer.add_answers(TASK, list(dict.fromkeys(answer for row in splits["train"] for answer in row.answers)))
    return add_images(writer, files, {row.image_ids[0]: f"question {row.identifier}" for _, row in found})


def questions(path: Path) -> list[tuple[bool, Example]]:
    """(whether it is of the official test, question), in the order of the file."""
    found, seen = [], set[str]()
    for where, record in objects(load_json(path, list), path):
        identifier = unique(whole_or_text(record, "qid", where), seen, where, "qid")
        text, image = field(record, "question", where)[0], Path(field(record, "image_name", where)[0]).stem
        extra = {key: field(record, key, where)[0].strip() for key in KINDS if record.get(key) is not None}
        is_test = extra.get("phrase_type", "").startswith("test")
        answers = [] if is_test and "answer" not in record else [answer_of(record, where)]
        category = field(record, "answer_type", where)[0].strip().lower() if "answer_type" in record else ""
        row = Example(identifier, text, [image], answers, [1.0] * len(answers), category=category)
        found.append((is_test, row._replace(extra=json.dumps(extra) if extra else "")))
    return found


def answer_of(record: dict[str, Any], where: str) -> str:
    """In normal form; as it is where nothing would be left of it, as of the answer "A"."""
    number = type(record.get("answer")) in (int, float)
    given = str(record["answer"]) if number else field(record, "answer", where)[0]
    return normalize_word(given) or one_line(given).lower()


FORMATS = {"vqa-rad": Format(find, read)}
