"""VLE's Arrow files: what went in comes out, what is wrong is one line."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.corpora.files import png
from tests.corpora.files_official import prepare, refused, write_json
from vlx.corpora import Example
from vlx.corpora.formats.annotations.vle import SPLITS

Row = dict[str, Any]


def picture_row(image: int, questions: int, *, split: str = "train", known: bool = True) -> Row:
    """An image with its questions; of each, dog by some and yes by one. The image is 10+N wide."""
    row = {"image": png((10 + image, 10)), "image_id": image, "split": split}
    row |= {
        "questions": [f"Is it {n}?" for n in range(questions)],
        "question_id": [image * 1000 + n for n in range(questions)],
    }
    answers = {"answers": ["dog", "yes"], "answer_labels": [1, 0], "answer_scores": [0.9, 0.3]}
    return row | {name: [list(values)] * questions if known else [] for name, values in answers.items()}


def write_arrow(path: Path, rows: list[Row]) -> None:
    """As pandas and Arrow write them: the types are those of what is there."""
    columns = {name: [row[name] for row in rows] for name in picture_row(0, 0)}
    table = pa.table(columns) if rows else pa.table({name: pa.nulls(0) for name in columns})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "vqav2_arrow"
    write_json(folder / "label2answer.json", ["yes", "dog"])
    write_json(folder / "answer2label.json", {"yes": 0, "dog": 1})
    write_arrow(folder / SPLITS["train"], [picture_row(9, 2), picture_row(7, 1)])
    for split in ("val", "rest_val"):
        write_arrow(folder / SPLITS[split], [picture_row(42, 1, split="val")])
    write_arrow(folder / SPLITS["trainable_val"], [])
    write_arrow(folder / SPLITS["testdev"], [picture_row(1, 2, split="test-dev", known=False)])
    return folder


def change(source: Path, edit: Callable[[list[Row]], Any], *, split: str = "train") -> None:
    rows = [picture_row(9, 2), picture_row(7, 1)]
    edit(rows)
    write_arrow(source / SPLITS[split], rows)


def test_files_come_out_as_they_went_in(source: Path) -> None:
    corpus = prepare("vle-vqa", source)
    assert corpus.splits("vqa") == ["train", "val", "trainable_val", "rest_val", "testdev"]
    assert corpus.manifest["examples"]["vqa"] == {"train": 3, "val": 1, "trainable_val": 0, "rest_val": 1, "testdev": 2}
    scores = pytest.approx([0.9, 0.3])
    assert corpus.examples("vqa", "train")[1] == Example("9001", "Is it 1?", ["9"], ["dog", "yes"], scores)._asdict()
    assert corpus.examples("vqa", "testdev")[1] == Example("1001", "Is it 1?", ["1"])._asdict()
    assert corpus.answers("vqa") == ["yes", "dog"] and corpus.detector == "none"


def test_an_image_is_kept_as_it_is_and_once(source: Path) -> None:
    corpus = prepare("vle-vqa", source)
    assert corpus.image_ids() == ["9", "7", "42", "1"]
    assert corpus.image_bytes("42") == png((52, 10)) and corpus.image_size("42") == (52, 10)


def test_one_split_will_do_and_none_will_not(source: Path) -> None:
    for split in ("val", "trainable_val", "rest_val", "testdev"):
        (source / SPLITS[split]).unlink()
    (source / "answer2label.json").unlink()
    (source / SPLITS["train"]).rename(source / "kept")
    refused("vle-vqa", source, "found none of vqav2_train.arrow")
    (source / "kept").rename(source / SPLITS["train"])
    assert prepare("vle-vqa", source).splits("vqa") == ["train"]


def test_several_record_batches_are_one_split(source: Path) -> None:
    rows = [picture_row(image, 1) for image in range(3, 8)]
    table = pa.Table.from_pylist(rows)
    path = source / SPLITS["train"]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert prepare("vle-vqa", source).examples("vqa", "train")["identifier"] == [f"{n}000" for n in range(3, 8)]


def test_more_rows_than_are_read_at_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlx.corpora.formats.annotations.vle.ROWS_AT_ONCE", 2)
    change(source, lambda rows: rows.extend(picture_row(image, 1) for image in (3, 4, 5)))
    corpus = prepare("vle-vqa", source)
    assert corpus.examples("vqa", "train")["identifier"] == ["9000", "9001", "7000", "3000", "4000", "5000"]
    assert corpus.image_size("5") == (15, 10)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows[1].update(image_id=9), "vqav2_train.arrow: row 2: image_id 9 found twice"),
        (lambda rows: rows[1].update(question_id=[9001]), "row 2: question_id 9001 found twice"),
        (lambda rows: rows[0].update(question_id=[9000]), "row 1: 1 question_id for 2 questions, expected as many"),
        (lambda rows: rows[0]["answers"].pop(), "row 1: 1 answers for 2 questions"),
        (lambda rows: rows[0].update(answer_scores=[]), "row 1: 0 answer_scores for 2 questions"),
        (lambda rows: rows[1].update(questions=[None]), "row 2: question is None, expected text"),
        (lambda rows: rows[1].update(question_id=[-1]), "row 2: question_id is -1"),
        (
            lambda rows: rows[1].update(answer_labels=[[0, 1]]),
            r"question 7000: answers \['dog', 'yes'\], labels \[0, 1\]",
        ),
        (
            lambda rows: rows[1].update(answers=[["cat", "yes"]]),
            "label2answer.json differs. Take all files from one run",
        ),
        (lambda rows: rows[1].update(answers=[[None, "yes"]], answer_labels=[[None, 0]]), "labels .None, 0., 2 scores"),
        (lambda rows: rows[1].update(answer_scores=[[0.9]]), r"labels \[1, 0\], 1 scores; label2answer.json differs"),
        (lambda rows: rows[1].update(answer_scores=[[0.9, 1.5]]), "'yes' has score 1.5, expected one in 0..1"),
        (lambda rows: rows[0].update(image=b"no image"), "row 1: its image cannot be decoded"),
        (lambda rows: rows[0].update(image=png((10, 10))[:-30]), "row 1: its image cannot be decoded"),
        (lambda rows: rows[0].update(image=None), "row 1: its image cannot be decoded"),
        (lambda rows: [row.update(questions=["x"] * 2, image_id="a") for row in rows], "vqav2_train.arrow: .*'a'"),
    ],
)
def test_what_is_wrong_in_a_row_is_named(source: Path, edit: Callable[[list[Row]], Any], message: str) -> None:
    change(source, edit)
    refused("vle-vqa", source, message)


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"no Arrow file", b"ARROW1\0\0" + b"\xff" * 200 + b"ARROW1"])
def test_a_file_that_is_not_arrow(source: Path, content: bytes) -> None:
    (source / SPLITS["val"]).write_bytes(content)
    refused("vle-vqa", source, "vqav2_val.arrow: .*Expected an Arrow file of VLE's write_vqa.py; is it whole")


def test_a_cut_or_damaged_file_is_refused(source: Path) -> None:
    path = source / SPLITS["train"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("vle-vqa", source, "vqav2_train.arrow: .*Expected an Arrow file")
    first, second = (len(png((10 + image, 10))) for image in (9, 7))
    for offsets in ((0, 8, 16, 24), (0, first, first + second)):  # where the three questions and two images end
        at = whole.index(struct.pack(f"<{len(offsets)}i", *offsets)) + 4 * len(offsets)
        path.write_bytes(whole[: at - 4] + struct.pack("<i", 2**30) + whole[at:])
        refused("vle-vqa", source, "vqav2_train.arrow: .*1073741824.*Expected an Arrow file")


def test_another_arrow_file_lacks_a_column(source: Path) -> None:
    table = pa.table({"image": [png((10, 10))], "caption": [["a"]], "image_id": [1]})
    with pa.OSFile(str(source / SPLITS["train"]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    refused("vle-vqa", source, "question_id.*Expected an Arrow file of VLE's write_vqa.py")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("label2answer.json", {"yes": 0}, "label2answer.json: found dict, expected a JSON list"),
        ("label2answer.json", ["yes", "yes"], "label 1: answer yes found twice"),
        ("answer2label.json", {"yes": 1, "dog": 0}, "label of 'yes' is 0, in its inverse 1"),
    ],
)
def test_a_vocabulary_that_contradicts(source: Path, name: str, content: object, message: str) -> None:
    write_json(source / name, content)
    refused("vle-vqa", source, message)


def test_the_vocabulary_must_be_there(source: Path) -> None:
    (source / "label2answer.json").unlink()
    refused("vle-vqa", source, "found no label2answer.json")
