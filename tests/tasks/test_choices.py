"""VCR's choices, by hand."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from vlx import tasks
from vlx.errors import SubmissionError
from vlx.tokenization import WordPiece

TASK = tasks.load("vcr_q2a")
EXAMPLES = Dataset.from_dict(
    {
        "identifier": ["val-0", "val-1"],
        "text": ["why is he sad ?", "where ?"],
        "choices": [["he fell", "he won", "it rains", "no"], ["home", "here", "there", "no"]],
        "image_ids": [["a"], ["b"]],
        "label": [2, 0],
        "category": ["", ""],
    }
)
PROBABILITIES = np.array([[0.1, 0.2, 0.6, 0.1], [0.2, 0.5, 0.2, 0.1]])  # correct, wrong


def test_each_choice_stands_beside_the_question() -> None:
    tokenizer = WordPiece.train([*EXAMPLES["text"], "he fell won it rains no home here there"], size=120)
    row = TASK.encode(EXAMPLES, tokenizer, limit=20)[0]
    pieces = {index: piece for piece, index in tokenizer.vocab.items()}
    assert len(row.texts) == 4 and row.label == 2 and row.image_ids == ("a",)
    assert " ".join(pieces[index] for index in row.texts[2]) == "[CLS] why is he sad ? [SEP] it rains [SEP]"
    assert row.segments[2] == [0] * 7 + [1] * 3


def test_score_baseline_and_table() -> None:
    assert TASK.score(EXAMPLES, PROBABILITIES) == {"accuracy": 0.5} and TASK.majority_baseline(EXAMPLES) == 0.25
    rows = TASK.predictions(EXAMPLES, PROBABILITIES)
    assert rows["prediction"] == ["it rains", "here"] and rows["label"] == ["it rains", "home"]
    assert rows["correct"] == [True, False]


def test_the_file_has_a_probability_of_each_choice(tmp_path: Path) -> None:
    path = TASK.write_submission(EXAMPLES, PROBABILITIES, tmp_path / "vcr_test")
    lines = path.read_text().splitlines()
    assert lines[0] == "annot_id,vcr_q2a_0,vcr_q2a_1,vcr_q2a_2,vcr_q2a_3" and lines[1] == "val-0,0.1,0.2,0.6,0.1"
    assert TASK.score_submission(EXAMPLES, path) == {"accuracy": 0.5}
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(SubmissionError, match="3 answers, 1 of a repeated id, 0 of unknown ids, 0 missing"):
        TASK.score_submission(EXAMPLES, path)


def test_choices_belong_to_an_example_and_have_no_answer_names() -> None:
    assert TASK.head == ("multiple_choice", 1, 1) and not TASK.answers_one_text and not TASK.soft_targets
