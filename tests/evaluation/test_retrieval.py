"""Scores of pairs: which are computed, how often each text and image is encoded, and where a killed run resumes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.evaluation.toy import captions
from tests.inputs.retrieval_toy import FEATURE, open_validation, write_captions
from tests.training.toy import config
from vlx import tasks
from vlx.evaluation.predict import predict, probabilities
from vlx.evaluation.retrieval import read_pairs
from vlx.recipes.build import new_task_model
from vlx.tasks.retrieval import RETRIEVAL


def test_candidate_pairs_alone_are_scored_and_the_list_may_be_ignored(tmp_path: Path) -> None:
    """The candidates of an image are its first caption and one of the next image's."""
    names = [*FEATURE, "a"]
    pairs = zip(names, names[1:], strict=False)
    lists = {name: {"candidates": [f"{name}-0", f"{following}-1"]} for name, following in pairs}
    corpus = write_captions(tmp_path / "corpus", lists)
    task = tasks.load("retrieval")
    model = new_task_model(config(task="retrieval"), task, corpus).model
    dataset = open_validation(corpus, task, candidates_only=True, num_images=2)
    scores = predict(model, dataset, folder=tmp_path)
    mask = task.candidate_mask(dataset.examples)
    assert mask is not None and mask.sum() == 8 and np.array_equal(~np.isnan(scores), mask)
    assert scores.shape == (8, 4) and set(task.score(dataset.examples, scores)) == {
        *("recall_mean", "i2t_recall_at_1", "i2t_recall_at_5", "i2t_recall_at_10")
    }
    np.testing.assert_array_equal(predict(model, dataset, folder=tmp_path), scores)

    all_pairs = open_validation(corpus, task, num_images=2)
    table = predict(model, all_pairs)
    assert table.shape == (4, 2) and not np.isnan(table).any()
    assert len(task.score(all_pairs.examples, table)) == 7
    assert np.allclose(table[mask[:4, :2]], scores[:4, :2][mask[:4, :2]], atol=1e-6)


def test_a_limit_of_images_selects_all_their_captions(folder: Path) -> None:
    dataset = captions(folder)[1]
    assert len({row.image_ids for row in dataset.encoded}) == 9 and len(dataset) == 45


def test_scores_of_pairs_resume_where_a_killed_run_stopped(folder: Path, tmp_path: Path) -> None:
    model, dataset = captions(folder)
    scores = predict(model, dataset, folder=tmp_path)
    (path,) = tmp_path.glob("pairs-*.npy")
    table = np.lib.format.open_memmap(path, "r+")
    assert np.array_equal(table.T, scores)
    table[4:] = np.nan
    table[:4] = 0.25  # columns in the file are not computed again
    table.flush()
    resumed = predict(model, dataset, folder=tmp_path)
    assert (resumed[:, :4] == 0.25).all() and np.array_equal(resumed[:, 4:], scores[:, 4:])


class CountingEncoder:
    """An encoder that counts the rows it reads."""

    def __init__(self, encoder: Callable[[dict[str, Tensor]], Tensor]) -> None:
        self.encoder = encoder
        self.rows = 0

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        self.rows += len(batch["input_ids"])
        return self.encoder(batch)


def count_rows(model: object, monkeypatch: pytest.MonkeyPatch) -> tuple[CountingEncoder, CountingEncoder]:
    """Count what the text encoder and the image encoder of a dual encoder read."""
    encoders = CountingEncoder(model.encode_texts), CountingEncoder(model.encode_images)  # type: ignore[attr-defined]
    monkeypatch.setattr(model, "encode_texts", encoders[0])
    monkeypatch.setattr(model, "encode_images", encoders[1])
    return encoders


def test_a_dual_encoder_reads_each_text_and_image_once_and_scores_as_pair_by_pair(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = captions(folder, "dual")
    sigmoids = read_pairs(model, dataset, probabilities, batch_size=64, folder=None)
    texts, images = count_rows(model, monkeypatch)
    scores = predict(model, dataset)
    assert (texts.rows, images.rows) == (45, 9), "N + M, not N x M"
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), sigmoids, atol=1e-5)
    assert RETRIEVAL.score(dataset.examples, scores) == RETRIEVAL.score(dataset.examples, sigmoids)


def test_vectors_resume_where_a_killed_run_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, dataset = captions(folder, "dual")
    scores = predict(model, dataset, folder=tmp_path, batch_size=9)
    table = np.lib.format.open_memmap(tmp_path / "texts-test-0.npy", "r+")
    last = np.argsort([len(row.texts[0]) for row in dataset.encoded], kind="stable")[27:]
    table[last] = np.nan
    table.flush()
    texts, images = count_rows(model, monkeypatch)
    assert np.array_equal(predict(model, dataset, folder=tmp_path, batch_size=9), scores)
    assert (texts.rows, images.rows) == (18, 0)
