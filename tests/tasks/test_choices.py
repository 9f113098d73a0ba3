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
SAYS = np.array([[0.1, 0.2, 0.6, 0.1], [0.2, 0.5, 0.2, 0.1]])  # right, wrong


def test_each_choice_stands_beside_the_question() -> None:
    tokenizer = WordPiece.train([*EXAMPLES["text"], "he fell won it rains no home here there"], size=120)
    row = TASK.encode(EXAMPLES, tokenizer, limit=20)[0]
    words = {index: word for word, index in tokenizer.vocab.items()}
    assert len(row.texts) == 4 and row.label == 2 and row.image_ids == ("a",)
    assert " ".join(words[index] for index in row.texts[2]) == "[CLS] why is he sad ? [SEP] it rains [SEP]"
    assert row.segments[2] == [0] * 7 + [1] * 3


def test_score_chance_and_table() -> None:
    assert TASK.score(EXAMPLES, SAYS) == {"accuracy": 0.5} and TASK.chance_level(EXAMPLES) == 0.25
    rows = TASK.predictions(EXAMPLES, SAYS)
    assert rows["prediction"] == ["it rains", "here"] and rows["label"] == ["it rains", "home"]
    assert rows["right"] == [True, False]


def test_the_file_has_a_probability_of_each_choice(tmp_path: Path) -> None:
    path = TASK.write_submission(EXAMPLES, SAYS, tmp_path / "vcr_test")
    lines = path.read_text().splitlines()
    assert lines[0] == "annot_id,vcr_q2a_0,vcr_q2a_1,vcr_q2a_2,vcr_q2a_3" and lines[1] == "val-0,0.1,0.2,0.6,0.1"
    assert TASK.rescore(EXAMPLES, path) == {"accuracy": 0.5}
    path.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(SubmissionError, match="3 answers, 1 of an id again, 0 of unknown ids, 0 missing"):
        TASK.rescore(EXAMPLES, path)
