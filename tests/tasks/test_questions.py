"""VQA's and GQA's targets, scores and files, computed by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset

from vlx import tasks
from vlx.errors import CorpusError, SubmissionError
from vlx.tokenization import WordPiece

HUMANS = [["yes"] * 10, ["2"] * 3 + ["two"] * 2 + ["3"] * 5]
VQA = Dataset.from_dict(
    {
        "identifier": ["7", "mine-8"],
        "text": ["is it red?", "how many?"],
        "image_ids": [["a"], ["b"]],
        "answers": [["yes"], ["2", "3"]],
        "scores": [[1.0], [0.9, 1.0]],
        "category": ["yes/no", "number"],
        "extra": [json.dumps({"answers": answers}) for answers in HUMANS],
    }
)
PROBABILITIES = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.3]])  # yes, 2
TASK = tasks.load("vqa", ["yes", "2", "3"])


def test_the_official_score_normalises_and_leaves_each_annotator_out() -> None:
    # "two" is "2": five of ten said it. The five left out see 4 others, the rest 5: all at least 3, so 1.
    assert TASK.score(VQA, PROBABILITIES) == {"accuracy": 1.0, "accuracy_yes_no": 1.0, "accuracy_number": 1.0}


def test_without_the_ten_answers_the_soft_score_counts() -> None:
    plain = VQA.map(lambda row: {"extra": "", "category": ""})
    assert TASK.score(plain, PROBABILITIES) == pytest.approx({"accuracy": (1.0 + 0.9) / 2})


def test_targets_are_the_soft_scores_of_known_answers() -> None:
    tokenizer = WordPiece.train(VQA["text"], size=60)
    first, second = TASK.encode(VQA, tokenizer, limit=10)
    assert (first.scores, first.label) == ({0: 1.0}, 0)
    assert second.scores == pytest.approx({1: 0.9, 2: 1.0}) and second.label == 2
    (unknown,) = tasks.load("vqa", ["no"]).encode(VQA.select([0]), tokenizer, limit=10)
    assert unknown.scores == {} and unknown.label == -1


def test_each_answer_is_scored_by_itself_in_vqa_and_against_the_others_in_gqa() -> None:
    logits = torch.tensor([[0.0, 2.0, -2.0]])
    assert torch.equal(TASK.probabilities(logits, {}), logits.sigmoid())
    assert tasks.load("gqa", ["a", "b", "c"]).probabilities(logits, {}).sum() == pytest.approx(1.0)


def test_official_files(tmp_path: Path) -> None:
    path = TASK.write_submission(VQA, PROBABILITIES, tmp_path / "vqa_testdev")
    assert json.loads(path.read_text()) == [
        {"question_id": 7, "answer": "yes"},
        {"question_id": "mine-8", "answer": "2"},
    ]
    gqa = tasks.load("gqa", ["yes", "2", "3"])
    path = gqa.write_submission(VQA, PROBABILITIES, tmp_path / "gqa_testdev")
    assert json.loads(path.read_text())[0] == {"questionId": "7", "prediction": "yes"}


def test_a_damaged_file_is_reported_in_one_line(tmp_path: Path) -> None:
    path = TASK.write_submission(VQA, PROBABILITIES, tmp_path / "vqa_testdev")
    for content, message in (
        (path.read_text()[:40], "not JSON"),
        ('{"question_id": 7}', "expected a list of objects with question_id and answer"),
        ('[{"question_id": 7, "answer": 2}]', "answer is 2, expected text"),
    ):
        path.write_text(content)
        with pytest.raises(SubmissionError, match=message):
            TASK.score_submission(VQA, path)


def test_gqa_counts_consistency_over_what_correct_answers_entail() -> None:
    examples = Dataset.from_dict(
        {
            "identifier": ["1", "2", "3", "4"],
            "answers": [["a"], ["b"], ["a"], ["a"]],
            "scores": [[1.0]] * 4,
            "category": ["query", "verify", "verify", "query"],
            # 1 is correct and entails 2 (correct) and 3 (wrong): one half. 4 is wrong: what it entails does not count.
            "extra": [json.dumps({"entailed": ["1", "2", "3"]}), "", "", json.dumps({"entailed": ["1"]})],
        }
    )
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    scores = tasks.load("gqa", ["a", "b"]).score(examples, probabilities)
    by_type = {"accuracy_query": 0.5, "accuracy_verify": 0.5, "accuracy_open": 0.5, "accuracy_binary": 0.5}
    assert scores == {"accuracy": 0.5, "consistency": 0.5} | by_type


def test_gqa_counts_balanced_questions_and_how_answers_are_spread() -> None:
    groups = json.dumps({"groups": {"global": "colour"}})
    unbalanced = json.dumps({"isBalanced": False, "groups": {"global": "colour"}})
    examples = Dataset.from_dict(
        {
            "identifier": ["1", "2", "3", "4"],
            "answers": [["a"], ["a"], ["b"], ["b"]],
            "scores": [[1.0]] * 4,
            "category": [""] * 4,
            "extra": [groups, groups, groups, unbalanced],
        }
    )
    probabilities = np.array([[0.9, 0.1]] * 4)  # always a: right twice of the three balanced ones
    # gold a 2, b 1; predicted a 3: (3 - 2)^2 / 2 + (0 - 1)^2 / 1, of which the script gives a hundredth
    assert tasks.load("gqa", ["a", "b"]).score(examples, probabilities) == pytest.approx(
        {"accuracy": 2 / 3, "distribution": 0.015}
    )


def test_gqa_counts_answers_that_are_valid_and_plausible() -> None:
    facts = [
        {"valid": ["red", "blue"], "plausible": ["red"]},
        {"valid": ["red", "blue"], "plausible": ["blue"]},
        {"valid": ["red"], "plausible": ["red"], "types": {"detailed": "twoCommon"}},  # red is in neither, whatever
        {"valid": ["yes"], "plausible": [], "isBalanced": False},  # not counted
    ]
    examples = Dataset.from_dict(
        {
            "identifier": ["1", "2", "3", "4"],
            "answers": [["red"], ["blue"], ["color"], ["red"]],
            "scores": [[1.0]] * 4,
            "category": [""] * 4,
            "extra": [json.dumps(row) for row in facts],
        }
    )
    task = tasks.load("gqa", ["red", "color"])
    always = task.score(examples, np.array([[0.9, 0.1]] * 4))  # red: valid of two of three, plausible of one
    assert always == pytest.approx({"accuracy": 1 / 3, "validity": 2 / 3, "plausibility": 1 / 3})
    common = task.score(examples.select([2]), np.array([[0.1, 0.9]]))
    assert common == {"accuracy": 1.0, "validity": 1.0, "plausibility": 1.0}


def test_the_majority_baseline_is_the_best_single_answer() -> None:
    assert TASK.majority_baseline(VQA) == 0.5  # "yes" and "3" are worth 1 of 2 questions each


def test_a_corpus_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(CorpusError, match="task vqa: the corpus has no answer vocabulary"):
        tasks.load("vqa", [])
