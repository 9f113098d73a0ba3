"""Grounding, computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from vlx import tasks
from vlx.boxes import iou
from vlx.errors import SubmissionError
from vlx.tokenization import WordPiece

LEFT, RIGHT, ALL = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)


def examples(boxes: list[list[tuple[float, ...]]], labels: list[int]) -> Dataset:
    size = len(boxes)
    return Dataset.from_dict(
        {
            "identifier": [str(n) for n in range(size)],
            "text": ["that one"] * size,
            "boxes": boxes,
            "image_ids": [["a"]] * size,
            "label": labels,
            "category": [""] * size,
        }
    )


def test_overlap_is_intersection_over_union() -> None:
    overlap = iou(torch.tensor([[LEFT, (0.0, 0.0, 0.0, 0.0)]]), torch.tensor([[LEFT, RIGHT, ALL]]))
    assert overlap.tolist() == [[[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]]]


def test_a_box_with_an_overlap_of_more_than_a_half_is_correct() -> None:
    task = tasks.load("refcoco")
    data = examples([[LEFT], [LEFT], [LEFT]], [-1, -1, -1])
    predictions = np.array([[*LEFT, 0.9], [*ALL, 0.8], [0, 0, 0.26, 1, 0.7]])  # overlaps 1, exactly 1/2, 0.52
    assert task.score(data, predictions) == {"accuracy": pytest.approx(2 / 3)}
    table = task.predictions(data, predictions)
    assert table["correct"] == [True, False, True]
    assert table["drawn_boxes"][1] == [list(LEFT), list(ALL)] and table["label"][1] == "0.00 0.00 0.50 1.00"
    assert task.majority_baseline(data) == 0.0  # the whole image covers a half of the left, not more


def test_the_region_with_the_highest_score_is_predicted() -> None:
    batch = {"boxes": torch.tensor([[[LEFT, RIGHT]]])}
    task = tasks.load("refcoco")
    probabilities = task.probabilities(torch.tensor([[-1.0, 2.0]]), batch)
    assert probabilities[0, :4].tolist() == list(RIGHT) and probabilities[0, 4] == torch.tensor(2.0).sigmoid()
    assert task.describe_answers(probabilities[0].tolist(), 3)[0][0] == "0.500 0.000 1.000 1.000"


def test_a_candidate_has_the_score_of_the_region_that_covers_it_best() -> None:
    task = tasks.load("visual7w")
    batch = {
        "boxes": torch.tensor([[[RIGHT, LEFT]]]),
        "candidates": torch.tensor([[LEFT, (0.6, 0.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0)]]),  # the third is padding
    }
    probabilities = task.probabilities(torch.tensor([[2.0, 1.0]]), batch)
    assert probabilities[0].tolist() == pytest.approx([*torch.tensor([1.0, 2.0]).softmax(0).tolist(), 0.0])
    data = examples([[LEFT, RIGHT], [LEFT, RIGHT]], [1, 0])
    assert task.score(data, probabilities[:, :2].repeat(2, 1).numpy()) == {"accuracy": 0.5}
    assert task.majority_baseline(data) == 0.5


def test_the_answers_are_written_with_their_boxes(tmp_path: Path) -> None:
    data = examples([[LEFT]], [-1])
    path = tasks.load("refcoco").write_submission(data, np.array([[*RIGHT, 0.9]]), tmp_path / "refcoco_val")
    assert json.loads(path.read_text()) == [{"id": "0", "box": list(RIGHT)}]


def test_a_damaged_file_is_reported_in_one_line(tmp_path: Path) -> None:
    task = tasks.load("visual7w")
    data = examples([[LEFT, RIGHT]], [1])
    path = tmp_path / "visual7w_test.json"
    assert task.score_submission(data, task.write_submission(data, np.array([[0.2, 0.8]]), path)) == {"accuracy": 1.0}
    for content, message in (
        (path.read_text()[:20], "not JSON"),
        ('[{"id": "0"}]', "expected a list of objects with id and box"),
        ('[{"id": "0", "box": [0, 1]}]', r"box \[0, 1\] is none of its example's"),
    ):
        path.write_text(content)
        with pytest.raises(SubmissionError, match=message):
            task.score_submission(data, path)
    (row,) = tasks.load("refcoco").encode(examples([[]], [-1]), WordPiece.train(data["text"], size=40), limit=9)
    assert row.box is None  # a text without a labeled box
    assert tasks.load("refcoco").answers_one_text and not task.answers_one_text
