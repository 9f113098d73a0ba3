"""vle/arrow, vle/answers, vle/image_processor: VLE's files of VQA v2 and what it makes them from."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from vlx import corpora
from vlx.corpora.answers import get_score, normalize_word
from vlx.corpora.formats.annotations.vle import SPLITS
from vlx.models.vle import image_processor


def check(case: Path) -> None:
    {"arrow": check_arrow, "answers": check_answers, "image_processor": check_pixels}[case.name](case)


def check_arrow(case: Path) -> None:
    """The files it wrote, row by row; and the vocabulary and scores made from the official ones."""
    readable = json.loads((case / "expected_readable.json").read_text())
    table = json.loads((case / "expected" / "label2answer.json").read_text())
    with TemporaryDirectory() as folder:
        written = corpora.prepare("vle-vqa", case / "expected", Path(folder) / "written")
        official = corpora.prepare("vqa", case / "raw", Path(folder) / "official")
        assert written.answers("vqa") == official.answers("vqa") == table
        pictures = {path.stem.rsplit("_", 1)[1].lstrip("0"): path for path in (case / "raw").rglob("*.jpg")}
        for name in written.image_ids():
            assert written.image_bytes(name) == pictures[name].read_bytes()
        rows = {split: list(written.examples("vqa", split)) for split in written.splits("vqa")}
        for split, found in rows.items():
            check_split(found, readable[SPLITS[split]]["rows"], table)
        assert rows["trainable_val"] + rows["rest_val"] == rows["val"]
        for split in official.splits("vqa"):
            check_official(list(official.examples("vqa", split)), rows[split])


def check_split(rows: list[dict[str, Any]], expected: list[dict[str, Any]], table: list[str]) -> None:
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_image.setdefault(*row["image_ids"], []).append(row)
    assert by_image.keys() == {str(picture["image_id"]) for picture in expected}
    for picture in expected:
        found = by_image[str(picture["image_id"])]
        assert [int(row["identifier"]) for row in found] == picture["question_id"]
        assert [row["text"] for row in found] == picture["questions"]
        answers = picture["answers"] or [[]] * len(found)
        assert [row["answers"] for row in found] == answers
        labels = picture["answer_labels"] or [[]] * len(found)
        assert [[table.index(answer) for answer in row["answers"]] for row in found] == labels
        scores = picture["answer_scores"] or [[]] * len(found)
        assert [row["scores"] for row in found] == [np.float32(values).tolist() for values in scores]


def check_official(rows: list[dict[str, Any]], written: list[dict[str, Any]]) -> None:
    """The same answers with the same scores; what the original drops has none."""
    keys = ("text", "image_ids", "answers", "scores")
    theirs = {row["identifier"]: [row[key] for key in keys] for row in written}
    unanswered = any(row["answers"] for row in written)  # of test all are kept
    ours = {row["identifier"]: [row[key] for key in keys] for row in rows if row["answers"] or not unanswered}
    assert ours == theirs


def check_answers(case: Path) -> None:
    cases = json.loads((case / "cases.json").read_text())
    for answer, expected in cases["normalize_word"]:
        assert normalize_word(answer) == expected, answer
    for count, expected in cases["get_score"]:
        assert get_score(count) == expected, count


def check_pixels(case: Path) -> None:
    """Bit by bit."""
    options = json.loads((case / "preprocessor_config.json").read_text())
    expected = load_file(case / "expected.safetensors")
    size = options["crop_size"]["height"]
    for name, pixels in expected.items():
        with Image.open(case / f"img{name.removeprefix('pixel_values_')}.png") as picture:
            own = image_processor(size, **options)(picture.convert("RGB"), return_tensors="pt")
        assert torch.equal(own["pixel_values"], pixels), name
    assert len(expected) == len(list(case.glob("*.png")))
