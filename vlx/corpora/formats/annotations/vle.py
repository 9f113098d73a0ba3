"""VLE's VQA v2, as its write_vqa.py writes it: an image with its questions a row.

<source>/vqav2_{train,val,trainable_val,rest_val,test,test-dev}.arrow   Arrow IPC files; at least one
<source>/label2answer.json                                             the answers, by label
<source>/answer2label.json                                             its inverse, optional

The file val is trainable_val and rest_val together; VLE trains on train and trainable_val. Questions without an answer
in the vocabulary are not in these files, so that they do not yield the official score: format vqa has all.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from vlx.corpora.formats.folders import existing_files, first_existing
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.labels import answer_table, soft_labels
from vlx.corpora.formats.records import Record, load_json, official_id, text_field, unique
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SPLITS = {
    "train": "vqav2_train.arrow",
    "val": "vqav2_val.arrow",
    "trainable_val": "vqav2_trainable_val.arrow",
    "rest_val": "vqav2_rest_val.arrow",
    "test": "vqav2_test.arrow",
    "testdev": "vqav2_test-dev.arrow",
}
NUMBERS = pa.list_(pa.int64())
ANSWER_COLUMNS = ("answers", "answer_labels", "answer_scores")
ROW = pa.schema(
    {
        "image_id": pa.int64(),
        "question_id": NUMBERS,
        "questions": pa.list_(pa.string()),
        "answers": pa.list_(pa.list_(pa.string())),
        "answer_labels": pa.list_(NUMBERS),
        "answer_scores": pa.list_(pa.list_(pa.float64())),
    }
)
ROWS_AT_ONCE = 1_000


def find(folder: Path) -> Files:
    """The splits that exist and the vocabulary."""
    files = existing_files(folder, SPLITS) | {"vocabulary": first_existing(folder, "label2answer.json")}
    inverse = folder / "answer2label.json"
    return files | ({"inverse": inverse} if inverse.is_file() else {})


def read(files: Files, writer: CorpusWriter) -> str:
    """Write questions and images; an image of several files once. There are no regions."""
    inverse = load_json(files["inverse"], dict) if "inverse" in files else None
    table = answer_table(load_json(files["vocabulary"], list), str(files["vocabulary"]), inverse)
    writer.add_answers("vqa", table)
    labels = {answer: label for label, answer in enumerate(table)}
    for split in [name for name in SPLITS if name in files]:
        writer.add_examples("vqa", split, questions(files[split], labels, writer))
    return "none"


def questions(path: Path, labels: Mapping[str, int], writer: CorpusWriter) -> Iterator[Example]:
    """A split, image by image; each image is written before its questions. labels: answer -> label."""
    images: set[str] = set()
    numbers: set[str] = set()
    for where, row, data in rows(path):
        image = unique(official_id(row, "image_id", where), images, where, "image_id")
        if image not in writer.image_ids:
            writer.add_image(image, size=size_of_image(data, where), data=data, where=where)
        lists = {name: values or [] for name, values in row.items() if name != "image_id"}
        has_answers = any(lists[name] for name in ANSWER_COLUMNS)  # not in the test splits
        refuse_uneven_lists(lists, has_answers, where)
        for position, text in enumerate(lists["questions"]):
            record = {"question": text, "question_id": lists["question_id"][position]}
            number = unique(official_id(record, "question_id", where), numbers, where, "question_id")
            question = Example(number, text_field(record, "question", where), [image])
            if has_answers:
                answers = {name: lists[name][position] or [] for name in ANSWER_COLUMNS}
                question = with_answers(question, answers, labels, where)
            yield question


def refuse_uneven_lists(lists: Mapping[str, list[Any]], has_answers: bool, where: str) -> None:
    """Every column holds a value for each question."""
    count = len(lists["questions"])
    for name, values in lists.items():
        if len(values) != count and (has_answers or name not in ANSWER_COLUMNS):
            problem = f"{len(values)} {name} for {count} questions"
            raise CorpusError(f"{where}: {problem}, expected as many. Make the file again.")


def with_answers(row: Example, columns: Mapping[str, list[Any]], labels: Mapping[str, int], where: str) -> Example:
    """The question with its answers, whose labels must be those of the vocabulary. columns: ANSWER_COLUMNS."""
    answers = columns["answers"]
    numbers = columns["answer_labels"]
    scores = columns["answer_scores"]
    if numbers != [labels.get(answer) for answer in answers] or None in numbers or len(scores) != len(answers):
        values = f"answers {ascii(answers)[:60]}, labels {numbers[:9]}, {len(scores)} scores"
        problem = f"question {row.identifier}: {values}; label2answer.json differs"
        raise CorpusError(f"{where}: {problem}. Take all files from one run of write_vqa.py.")
    soft = soft_labels(dict(zip(answers, scores, strict=True)), where)
    return row._replace(answers=[*soft], scores=[*soft.values()])


def rows(path: Path) -> Iterator[tuple[str, Record, bytes]]:
    """(file: row N, its lists, its image file) of an Arrow file, which is memory-mapped; N counts from 1."""
    number = 0
    for table, images in batches(path):
        for start in range(0, len(table), ROWS_AT_ONCE):
            lists = table.slice(start, ROWS_AT_ONCE).to_pylist()
            for row, image in zip(lists, images[start : start + ROWS_AT_ONCE], strict=True):
                number += 1
                yield f"{path}: row {number}", row, image.as_py()


def batches(path: Path) -> Iterator[tuple[pa.Table, pa.Array]]:
    """The lists of every record batch, cast to the types of ROW, and its images."""
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                yield pa.Table.from_batches([batch]).select(ROW.names).cast(ROW), batch.column("image")
    except (pa.ArrowException, KeyError) as error:
        first_line = str(error).partition("\n")[0]
        raise CorpusError(f"{path}: {first_line}. Expected an Arrow file of VLE's write_vqa.py; is it whole?") from None


def size_of_image(data: Any, where: str) -> tuple[int, int]:
    """Width and height of an image, decoded once to prove that it can be."""
    try:
        return Image.open(BytesIO(data)).convert("RGB").size
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise CorpusError(f"{where}: its image cannot be decoded ({error}). Make the file again.") from None


VLE_VQA = Format(find, read, id_space="coco")
