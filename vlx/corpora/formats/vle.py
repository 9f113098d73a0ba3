"""VLE's VQA v2, as its write_vqa.py leaves it: a picture with its questions a row (specs: VLE 3).

<source>/vqav2_{train,val,trainable_val,rest_val,test,test-dev}.arrow   Arrow IPC files; one of them will do
<source>/label2answer.json                                             the answers, by label
<source>/answer2label.json                                             its inverse, if there

The file val is trainable_val and rest_val together; VLE learns from train and trainable_val. Questions without an
answer in the vocabulary are not in these files, so the official score cannot be had from them: format vqa has all.
"""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from vlx.corpora.formats.files import (
    Format,
    answer_table,
    field,
    load_json,
    require,
    soft_labels,
    some_of,
    unique,
    whole_or_text,
)
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
NUMBERS, ANSWERS = pa.list_(pa.int64()), ("answers", "answer_labels", "answer_scores")
ROW = pa.schema(
    {
        **{"image_id": pa.int64(), "question_id": NUMBERS, "questions": pa.list_(pa.string())},
        **{"answers": pa.list_(pa.list_(pa.string())), "answer_labels": pa.list_(NUMBERS)},
        **{"answer_scores": pa.list_(pa.list_(pa.float64()))},
    }
)
ROWS_AT_ONCE = 1_000


def find(folder: Path) -> dict[str, Path]:
    """The splits there are and the vocabulary."""
    found = some_of(folder, SPLITS) | {"vocabulary": require(folder, "label2answer.json")}
    inverse = folder / "answer2label.json"
    return found | ({"inverse": inverse} if inverse.is_file() else {})


def read(files: dict[str, Path], writer: CorpusWriter) -> str:
    """Write questions and pictures; a picture of several files once. There are no regions."""
    inverse = load_json(files["inverse"], dict) if "inverse" in files else None
    table = answer_table(load_json(files["vocabulary"], list), str(files["vocabulary"]), inverse)
    writer.add_answers("vqa", table)
    labels = {answer: label for label, answer in enumerate(table)}
    for split in [name for name in SPLITS if name in files]:
        writer.add_examples("vqa", split, questions(files[split], labels, writer))
    return "none"


def questions(path: Path, labels: dict[str, int], writer: CorpusWriter) -> Iterator[Example]:
    """A split, picture by picture; each picture is written before its questions. labels: of the vocabulary."""
    images, numbers = set[str](), set[str]()
    for where, row, data in rows(path):
        image = unique(whole_or_text(row, "image_id", where), images, where, "image_id")
        if image not in writer.image_ids:
            writer.add_image(image, size=picture_size(data, where), data=data, where=where)
        lists = {name: values or [] for name, values in row.items() if name != "image_id"}
        known = any(lists[name] for name in ANSWERS)  # of test they are not
        wrong = [
            name for name in lists if len(lists[name]) != len(lists["questions"]) and (known or name not in ANSWERS)
        ]
        if wrong:
            found = f"{len(lists[wrong[0]])} {wrong[0]} for {len(lists['questions'])} questions"
            raise CorpusError(f"{where}: {found}, expected as many. Make the file again.")
        for place, text in enumerate(lists["questions"]):
            record = {"question": text, "question_id": lists["question_id"][place]}
            number = unique(whole_or_text(record, "question_id", where), numbers, where, "question_id")
            question = Example(number, field(record, "question", where)[0], [image])
            said = [lists[name][place] or [] for name in ANSWERS] if known else []
            yield answered(question, said, labels, where) if known else question


def answered(row: Example, said: list[list[Any]], labels: dict[str, int], where: str) -> Example:
    """With its answers, which must have the labels of the vocabulary. said: answers, labels and scores."""
    answers, numbers, scores = said
    if numbers != [labels.get(answer) for answer in answers] or None in numbers or len(scores) != len(answers):
        found = f"question {row.identifier}: answers {ascii(answers)[:60]}, labels {numbers[:9]}, {len(scores)} scores"
        raise CorpusError(f"{where}: {found}; label2answer.json differs. Take all files from one run of write_vqa.py.")
    soft = soft_labels(dict(zip(answers, scores, strict=True)), where)
    return row._replace(answers=[*soft], scores=[*soft.values()])


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """(file: row N, its lists, its picture's file) of an Arrow file, which is mapped; N counts from 1."""
    number = 0
    for table, pictures in batches(path):
        for start in range(0, len(table), ROWS_AT_ONCE):
            lists = table.slice(start, ROWS_AT_ONCE).to_pylist()
            for row, picture in zip(lists, pictures[start : start + ROWS_AT_ONCE], strict=True):
                number += 1
                yield f"{path}: row {number}", row, picture.as_py()


def batches(path: Path) -> Iterator[tuple[pa.Table, pa.Array]]:
    """The lists of every record batch, of the types they have where none is empty, and its pictures."""
    try:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                batch.validate(full=True)
                yield pa.Table.from_batches([batch]).select(ROW.names).cast(ROW), batch.column("image")
    except (pa.ArrowException, KeyError) as error:
        found = str(error).partition("\n")[0]
        raise CorpusError(f"{path}: {found}. Expected an Arrow file of VLE's write_vqa.py; is it whole?") from None


def picture_size(data: Any, where: str) -> tuple[int, int]:
    """Of a picture that can be decoded."""
    try:
        return Image.open(BytesIO(data)).convert("RGB").size
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise CorpusError(f"{where}: its picture cannot be decoded ({error}). Make the file again.") from None


FORMATS = {"vle-vqa": Format(find, read)}
