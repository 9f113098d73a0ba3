"""A score does not depend on the batch size, nor on how many processes share the work."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor
from vlx.training.batching import Split, open_split
from vlx.training.recipes import new_model

from tests.training.toy import config, setting
from vlx import synthetic, tasks
from vlx.tasks.retrieval import RETRIEVAL
from vlx.training import evaluation

ROOT = Path(__file__).parents[2]
TASK = tasks.load("nlvr2")
SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import PartialState
state = PartialState(cpu=True)
from tests.training.test_evaluation import TASK, retrieval, toy
from vlx.training import evaluation
from vlx.tasks.retrieval import RETRIEVAL
folder = Path(sys.argv[1])
model, split = toy(folder)
scores = TASK.score(split.examples, evaluation.predict(model, split, TASK))
ranker, pairs = retrieval(folder)
scores |= RETRIEVAL.score(pairs.examples, evaluation.predict(ranker, pairs, RETRIEVAL))
towers, pairs = retrieval(folder, "dual")
scores["towers"] = float(evaluation.predict(towers, pairs, RETRIEVAL).sum())
found = json.dumps([state.num_processes, scores])
(folder / f"scores-{state.process_index}.json").write_text(found)
"""


def toy(folder: Path) -> tuple:
    """A model and a split of 16, which neither 7 nor 64 divides."""
    from vlx.training.batching import open_data

    from vlx import corpora

    cfg = config()
    corpus = corpora.open(folder / "corpus")
    learner = new_model(cfg, TASK, corpus)
    return learner.model, open_data(corpus, TASK, learner.tokenizer, cfg).test


def retrieval(folder: Path, system: str = "oscar") -> tuple:
    from vlx import corpora

    corpus = corpora.open(folder / "captions")
    learner = new_model(config(task="retrieval", model=system, region_layers=1), RETRIEVAL, corpus)
    split = open_split(
        corpus, RETRIEVAL, "test", learner.tokenizer, max_text_tokens=20, max_regions=8, tags=False, images=9
    )
    return learner.model, split


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    setting(folder, config())
    synthetic.build(folder / "captions", task="retrieval", size=40)
    return folder


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_of_any_size_give_the_same_scores(place: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    towers = retrieval(place, "dual")
    for (model, split), task in ((toy(place), TASK), (retrieval(place), RETRIEVAL), (towers, RETRIEVAL)):
        expected = evaluation.predict(model, split, task)
        monkeypatch.setattr(evaluation, "EVAL_BATCH", size)
        found = evaluation.predict(model, split, task)
        monkeypatch.undo()
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)
        assert task.score(split.examples, found) == task.score(split.examples, expected)


def launched(place: Path, processes: int) -> list:
    """What each of so many processes says: how many they are, and the scores. One thread each, so that sums agree."""
    (place / "score.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [*launch, str(place / "score.py"), str(place)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=250, cwd=place)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((place / f"scores-{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.slow
def test_two_processes_give_the_same_scores_as_one(place: Path) -> None:
    ((one, expected),) = launched(place, 1)
    assert one == 1 and len(expected) > 6
    assert launched(place, 2) == [[2, expected], [2, expected]]


def test_scores_of_pairs_go_on_where_a_killed_run_stopped(place: Path, tmp_path: Path) -> None:
    model, split = retrieval(place)
    whole = evaluation.predict(model, split, RETRIEVAL, kept=tmp_path)
    (path,) = tmp_path.glob("pairs-*.npy")
    table = np.lib.format.open_memmap(path, "r+")
    kept = np.array(table)
    table[4:], table[:4] = np.nan, 0.25  # columns that are there are not computed again
    table.flush()
    again = evaluation.predict(model, split, RETRIEVAL, kept=tmp_path)
    assert (again[:, :4] == 0.25).all() and np.array_equal(again[:, 4:], whole[:, 4:])
    assert np.array_equal(kept.T, whole)


class Counting:
    """A tower that counts the rows it reads."""

    def __init__(self, tower: Callable[[dict[str, Tensor]], Tensor]) -> None:
        self.tower, self.rows = tower, 0

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        self.rows += len(batch["input_ids"])
        return self.tower(batch)


def test_two_towers_read_each_side_once_and_score_as_pair_by_pair(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = retrieval(place, "dual")
    pairs = evaluation.rank(model, split, RETRIEVAL, kept=None)  # sigmoid of the score: the same order
    texts, pictures = Counting(model.texts), Counting(model.pictures)
    monkeypatch.setattr(model, "texts", texts)
    monkeypatch.setattr(model, "pictures", pictures)
    found = evaluation.predict(model, split, RETRIEVAL)
    assert (texts.rows, pictures.rows) == (45, 9), "N + M, not N x M"
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), pairs, atol=1e-5)
    assert RETRIEVAL.score(split.examples, found) == RETRIEVAL.score(split.examples, pairs)


def test_vectors_go_on_where_a_killed_run_stopped(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "EVAL_BATCH", 9)
    model, split = retrieval(place, "dual")
    whole = evaluation.predict(model, split, RETRIEVAL, kept=tmp_path)
    table = np.lib.format.open_memmap(tmp_path / "texts-test-0.npy", "r+")
    late = np.argsort([len(row.texts[0]) for row in split.encoded], kind="stable")[27:]
    table[late] = np.nan
    table.flush()
    texts, pictures = Counting(model.texts), Counting(model.pictures)
    monkeypatch.setattr(model, "texts", texts)
    monkeypatch.setattr(model, "pictures", pictures)
    assert np.array_equal(evaluation.predict(model, split, RETRIEVAL, kept=tmp_path), whole)
    assert (texts.rows, pictures.rows) == (18, 0)


def test_images_limit_takes_whole_images(place: Path) -> None:
    split: Split = retrieval(place)[1]
    assert len({row.image_ids for row in split.encoded}) == 9 and len(split) == 45


def test_the_teacher_is_asked_once_unless_it_moves_and_agrees_with_itself(place: Path) -> None:
    model, split = toy(place)
    other = new_model(config(seed=5), TASK, split.corpus).model
    scores = {seed: evaluation.validator(TASK, split)(each) for seed, each in ((0, model), (5, other))}
    asked: list[int] = []
    other.register_forward_hook(lambda *_: asked.append(1))
    frozen = evaluation.beside_teacher(TASK, split, other, moves=False)
    found = [frozen(model), frozen(model)]
    assert found[0] == found[1] and len(asked) == 1
    assert found[0] | scores[0] == found[0] and found[0]["teacher_accuracy"] == scores[5]["accuracy"]
    assert frozen(other)["agreement"] == 1.0
    own, theirs = (evaluation.predict(each, split, TASK).argmax(1) for each in (model, other))
    assert found[0]["agreement"] == np.mean(own == theirs)
    moving = evaluation.beside_teacher(TASK, split, other, moves=True)
    asked.clear()
    moving(model), moving(model)
    assert len(asked) == 2


def test_the_operations_of_a_layer_are_those_counted_by_hand(place: Path) -> None:
    _, split = toy(place)
    few = dataclasses.replace(split, encoded=split.encoded[:1])
    costs = [evaluation.cost_of(new_model(config(layers=layers), TASK, split.corpus).model, few) for layers in (2, 1)]
    positions, width, inner = few.batch([0])["layout"].shape[1], 16, 16
    linear = 4 * width * width + 2 * width * inner  # query, key, value, output; in, out
    by_hand = 2 * (2 * positions * linear + 4 * positions * positions * width)  # two pictures; scores and mixture
    assert costs[0].flops - costs[1].flops == by_hand
    norms = 4 * width  # weights and biases of two
    assert costs[0].parameters - costs[1].parameters == linear + 4 * width + inner + width + norms
    assert 0 < costs[0].latency_ms <= costs[0].latency_p95_ms
