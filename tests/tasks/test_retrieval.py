"""Retrieval's ranks and recalls, computed by hand."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from datasets import Dataset

from vlx import tasks
from vlx.errors import ConfigError
from vlx.tasks.base import Encoded
from vlx.tasks.metrics.recall import best_ranks
from vlx.tokenization import WordPiece

TASK = tasks.load("retrieval")
EXAMPLES = Dataset.from_dict(
    {
        "identifier": ["0", "1", "2", "3"],
        "text": ["a dog", "a small dog", "a cat", "two cats"],
        "image_ids": [["x"], ["x"], ["y"], ["y"]],
        "category": [""] * 4,
        "extra": [""] * 4,
    }
)
# captions x images. t2i: the matching image comes first for captions 0, 2 and 3. i2t: x finds caption 0 first;
# y finds caption 1 (wrong) before 2.
SCORES = np.array([[0.9, 0.1], [0.3, 0.8], [0.2, 0.7], [0.1, 0.6]])


def test_recalls_in_both_directions() -> None:
    t2i = {"t2i_recall_at_1": 0.75, "t2i_recall_at_5": 1.0, "t2i_recall_at_10": 1.0}
    i2t = {"i2t_recall_at_1": 0.5, "i2t_recall_at_5": 1.0, "i2t_recall_at_10": 1.0}
    mean = {"recall_mean": (0.75 + 0.5 + 4) / 6}
    assert TASK.score(EXAMPLES, SCORES) == pytest.approx(mean | t2i | i2t)


def test_of_equal_scores_the_later_candidate_comes_first() -> None:
    relevant = np.array([[True, False, False]])
    assert best_ranks(np.array([[0.5, 0.5, 0.1]]), relevant).tolist() == [1]
    assert best_ranks(np.zeros((1, 3)), relevant).tolist() == [2]
    assert best_ranks(np.zeros((1, 3)), ~relevant & False).tolist() == [3]  # nothing to find: beyond the last


def test_the_majority_baseline_is_the_recall_of_a_random_order() -> None:
    rng = np.random.default_rng(0)
    means = [TASK.score(EXAMPLES, rng.random((4, 2)))["recall_mean"] for _ in range(400)]
    assert np.mean(means) == pytest.approx(TASK.majority_baseline(EXAMPLES), abs=0.02)


def test_a_negative_pair_never_matches_and_replaces_either_side() -> None:
    encoded = TASK.encode(EXAMPLES, WordPiece.train(EXAMPLES["text"], size=60), limit=8)
    groups = TASK.image_groups(encoded)
    assert groups == ([0, 0, 1, 1], [[0, 1], [2, 3]], ())
    image_of = {tuple(row.texts[0]): row.image_ids for row in encoded}
    swapped = []
    for seed in range(200):
        positive, negative = TASK.training_pairs(encoded, groups, 0, Random(seed))
        assert positive == encoded[0] and positive.label == 1
        assert negative.label == 0 and image_of[tuple(negative.texts[0])] != negative.image_ids
        swapped.append(negative.texts != encoded[0].texts)
    assert 60 < sum(swapped) < 140


def test_three_negatives_have_another_caption_another_image_and_a_caption_of_a_similar_image() -> None:
    task = tasks.load("retrieval", itm_negatives="three")
    examples = Dataset.from_dict(
        {"text": ["a dog", "a cat", "a cow", "a hen"], "image_ids": [["d"], ["c"], ["o"], ["h"]]}
    )
    encoded = task.encode(examples, WordPiece.train(examples["text"], size=60), limit=8)
    groups = task.image_groups(encoded)._replace(hard_negatives=[[3], [2], [1], [0]])
    caption = {tuple(row.texts[0]): row.image_ids[0] for row in encoded}
    negatives: list[set] = [set(), set(), set()]
    for seed in range(60):
        (row,) = task.training_pairs(encoded, groups, 0, Random(seed))
        pairs = [(caption[tuple(text)], image) for text, image in zip(row.texts, row.image_ids, strict=True)]
        assert row.label == 0 and pairs[0] == ("d", "d")
        for seen, pair in zip(negatives, pairs[1:], strict=True):
            seen.add(pair)
    assert negatives == [{(name, "d") for name in "coh"}, {("d", name) for name in "coh"}, {("h", "d")}]
    assert task.num_hard_negatives == 99 and not task.answers_one_text
    assert task.head.kind == "multiple_choice" and task.probabilities(torch.tensor([[0.0]]), {}).tolist() == [
        [0.5, 0.5]
    ]
    with pytest.raises(ConfigError, match="itm_negatives=three: task nlvr2 has no pairs"):
        tasks.load("nlvr2", itm_negatives="three")


def test_a_caption_is_paired_with_each_image_and_its_tags_cut_to_the_budget() -> None:
    tags = {"x": ["dog"] * 9, "y": []}
    tokenizer = WordPiece.train([*EXAMPLES["text"], "dog"], size=80)
    for limit in (4, 5, 6, 7, 30):
        encoded = TASK.encode(EXAMPLES, tokenizer, limit=limit, tags=tags.__getitem__)
        for row, text in zip(encoded, EXAMPLES["text"], strict=True):
            for image in (encoded[0], encoded[2]):
                tag_line = " ".join(tags[image.image_ids[0]])
                pair = TASK.pair(row, image)
                ((ids, segments),) = tokenizer.encode_pairs([text], [tag_line], limit=limit, cut="second")
                assert (pair.texts, pair.segments, pair.image_ids) == ((ids,), (segments,), image.image_ids)
                assert TASK.pair(pair, row) == row
    plain = TASK.encode(EXAMPLES, tokenizer, limit=9, tags=lambda image: [])
    assert plain == TASK.encode(EXAMPLES, tokenizer, limit=9)


def test_where_captions_are_listed_images_retrieve_among_those_alone(tmp_path: Path) -> None:
    """x lists 0 and 2: 0 matches and scores higher. y lists 1 and 3: 1 does not match and scores higher."""
    lists = [json.dumps({"candidates": names}) for names in (["0", "2"], ["1", "3", "cut off"])]
    examples = EXAMPLES.map(lambda row, at: {"extra": lists[at // 2]}, with_indices=True)
    mask = TASK.candidate_mask(examples)
    assert mask is not None and mask.tolist() == [[True, False], [False, True], [True, False], [False, True]]
    scores = np.where(mask, SCORES, np.nan)
    expected = {"recall_mean": 2.5 / 3, "i2t_recall_at_1": 0.5, "i2t_recall_at_5": 1.0, "i2t_recall_at_10": 1.0}
    assert TASK.score(examples, scores) == pytest.approx(expected)
    assert TASK.majority_baseline(examples) == pytest.approx(2.5 / 3)
    rows = TASK.predictions(examples, scores)
    assert rows["prediction"] == ["a dog", "a small dog"] and rows["correct"] == [True, False]
    assert {len(values) for values in rows.values()} == {2} and rows["image_ids"] == [["x"], ["y"]]
    assert TASK.evaluation_protocol(examples, [Encoded(([1],), ("x",))] * 4) == "4 captions, 4 listed pairs"
    path = TASK.write_submission(examples, scores, tmp_path / "minival")
    assert TASK.score_submission(examples, path) == pytest.approx(expected)


def test_the_metrics_file_is_oscars(tmp_path: Path) -> None:
    path = TASK.write_submission(EXAMPLES, SCORES, tmp_path / "retrieval_test")
    assert path.name == "retrieval_test.eval.json"
    tables = json.loads(path.read_text())
    assert tables["i2t_retrieval"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    assert tables["t2i_retrieval"]["R@1"] == 0.75


def test_captions_of_the_first_images_are_selected_and_scored_over_all_pairs() -> None:
    listed = EXAMPLES.map(lambda row: {"extra": json.dumps({"candidates": ["0", "2"]})})
    assert TASK.select(listed, num_images=1, candidates_only=True).num_rows == 4
    selected = TASK.select(listed, num_images=1, candidates_only=False)
    assert selected["identifier"] == ["0", "1"] and TASK.candidate_mask(selected) is None
    assert TASK.select(EXAMPLES, num_images=0, candidates_only=True).num_rows == 4
    encoded = TASK.encode(EXAMPLES, WordPiece.train(EXAMPLES["text"], size=60), limit=8)
    assert TASK.evaluation_protocol(EXAMPLES, encoded) == "4 captions, all pairs with 2 images"


def test_each_caption_is_shown_with_the_image_it_retrieves() -> None:
    rows = TASK.predictions(EXAMPLES, SCORES)
    assert rows["label"] == ["x", "x", "y", "y"] and rows["prediction"] == ["x", "y", "y", "y"]
    assert rows["image_ids"] == [["x"], ["y"], ["y"], ["y"]] and rows["correct"] == [True, False, True, True]


def test_a_dual_encoder_trains_on_pairs_labeled_with_their_image() -> None:
    task = TASK.for_dual_encoder()
    encoded = task.encode(EXAMPLES, WordPiece.train(EXAMPLES["text"], size=60), limit=8)
    (row,) = task.training_pairs(encoded, task.image_groups(encoded), 2, Random(0))
    assert row == encoded[2]._replace(label=1) and task.head == TASK.head
