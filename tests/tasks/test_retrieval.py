"""Retrieval's ranks and recalls, computed by hand."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from datasets import Dataset

from vlx import tasks
from vlx.tasks.retrieval import ranks_of
from vlx.tokenization import WordPiece

TASK = tasks.load("retrieval")
EXAMPLES = Dataset.from_dict(
    {
        "identifier": ["0", "1", "2", "3"],
        "text": ["a dog", "a small dog", "a cat", "two cats"],
        "image_ids": [["x"], ["x"], ["y"], ["y"]],
        "category": [""] * 4,
    }
)
# captions x images. t2i: the right picture comes first for captions 0, 2 and 3. i2t: x finds caption 0 first;
# y finds caption 1 (wrong) before 2.
SCORES = np.array([[0.9, 0.1], [0.3, 0.8], [0.2, 0.7], [0.1, 0.6]])


def test_recalls_both_ways() -> None:
    assert TASK.score(EXAMPLES, SCORES) == pytest.approx(
        {
            **{"t2i_recall_at_1": 0.75, "t2i_recall_at_5": 1.0, "t2i_recall_at_10": 1.0},
            **{"i2t_recall_at_1": 0.5, "i2t_recall_at_5": 1.0, "i2t_recall_at_10": 1.0},
            "recall_mean": (0.75 + 0.5 + 4) / 6,
        }
    )


def test_of_equal_scores_the_later_candidate_comes_first() -> None:
    belongs = np.array([[True, False, False]])
    assert ranks_of(np.array([[0.5, 0.5, 0.1]]), belongs).tolist() == [1]
    assert ranks_of(np.zeros((1, 3)), belongs).tolist() == [2]
    assert ranks_of(np.zeros((1, 3)), ~belongs & False).tolist() == [3]  # nothing to find: beyond the last


def test_chance_is_the_recall_of_a_random_order() -> None:
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        found.append(TASK.score(EXAMPLES, rng.random((4, 2)))["recall_mean"])
    assert np.mean(found) == pytest.approx(TASK.chance_level(EXAMPLES), abs=0.02)


def test_a_negative_pair_never_belongs_together_and_swaps_either_side() -> None:
    encoded = TASK.encode(EXAMPLES, WordPiece.train(EXAMPLES["text"], size=60), limit=8)
    groups = TASK.groups(encoded)
    assert groups == ([0, 0, 1, 1], [[0, 1], [2, 3]])
    own = {tuple(row.texts[0]): row.image_ids for row in encoded}
    swapped = []
    for seed in range(200):
        row = TASK.negative(encoded, groups, 0, Random(seed))
        assert row.label == 0 and own[tuple(row.texts[0])] != row.image_ids
        swapped.append(row.texts != encoded[0].texts)
    assert 60 < sum(swapped) < 140


def test_the_metrics_file_is_oscars(tmp_path: Path) -> None:
    path = TASK.write_submission(EXAMPLES, SCORES, tmp_path / "retrieval_test")
    assert path.name == "retrieval_test.eval.json"
    found = json.loads(path.read_text())
    assert found["i2t_retrieval"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    assert found["t2i_retrieval"]["R@1"] == 0.75
