"""VQA-RAD as published, and a user's own questions in its form: one answer each, from a vocabulary.

<source>/VQA_RAD Dataset Public.json, or questions.json   list of objects with qid, image_name, question, answer; and
                                                          optionally answer_type, by which scores are split, and others
regions and images                                        by image_name without suffix (sources.py)

Rows whose phrase_type begins with test are the test split; without any, it is held out by image, as val is.
The vocabulary is every answer of train, in VQA's normal form; other splits may have answers outside it.
"""

import json
from pathlib import Path

from vlx.corpora.answers import normalize_word, one_line
from vlx.corpora.formats.folders import first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.labels import hold_out
from vlx.corpora.formats.records import Record, load_json, objects, official_id, text_field, unique
from vlx.corpora.formats.sources import add_images, find_images
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter

TASK = "vqa_rad"
SPLITS = ("train", "val", "test")
NAMES = ("VQA_RAD Dataset Public.json", "questions.json")
EXTRA_FIELDS = ("question_type", "phrase_type", "image_organ")


def find(folder: Path) -> Files:
    return {"questions": first_existing(folder, *NAMES)} | find_images(folder)


def read(files: Files, writer: CorpusWriter) -> str:
    """Write questions, the vocabulary and images; returns the detector's name."""
    rows = questions(files["questions"])
    has_official_test = any(is_test for is_test, _ in rows)
    image_ids = (row.image_ids[0] for is_test, row in rows if not is_test)
    split_of = hold_out(image_ids, ("val",) if has_official_test else ("val", "test"), files["questions"])
    splits: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for is_test, row in rows:
        splits["test" if is_test else split_of[row.image_ids[0]]].append(row)
    for split, examples in splits.items():
        writer.add_examples(TASK, split, examples)
    writer.add_answers(TASK, list(dict.fromkeys(answer for row in splits["train"] for answer in row.answers)))
    return add_images(writer, files, {row.image_ids[0]: f"question {row.identifier}" for _, row in rows})


def questions(path: Path) -> list[tuple[bool, Example]]:
    """(whether it belongs to the official test split, question), in the order of the file."""
    rows = []
    seen: set[str] = set()
    for where, record in objects(load_json(path, list), path):
        identifier = unique(official_id(record, "qid", where), seen, where, "qid")
        text = text_field(record, "question", where)
        image = Path(text_field(record, "image_name", where)).stem
        extra = {key: text_field(record, key, where).strip() for key in EXTRA_FIELDS if record.get(key) is not None}
        is_test = extra.get("phrase_type", "").startswith("test")
        answers = [] if is_test and "answer" not in record else [answer_of(record, where)]
        category = text_field(record, "answer_type", where).strip().lower() if "answer_type" in record else ""
        row = Example(identifier, text, [image], answers, [1.0] * len(answers), category=category)
        rows.append((is_test, row._replace(extra=json.dumps(extra) if extra else "")))
    return rows


def answer_of(record: Record, where: str) -> str:
    """The answer in normal form, or as it is where the normal form is empty, as of the answer "A"."""
    is_number = type(record.get("answer")) in (int, float)
    given = str(record["answer"]) if is_number else text_field(record, "answer", where)
    return normalize_word(given) or one_line(given).lower()


VQA_RAD = Format(find, read, default_task="vqa_rad")
