"""Two towers learn from a batch's own pictures, alone or from any teacher, and are refused where they cannot serve."""

from pathlib import Path

import numpy as np
import pytest
import torch
from vlx.training.batching import open_data
from vlx.training.logits import kept_logits
from vlx.training.recipes import (
    corpus_of,
    from_labels,
    from_teacher,
    keeps_logits,
    new_model,
    obtain_teacher,
    start_from,
    start_student,
)

from tests.models.test_registered import SIZES
from tests.training.toy import Recorder, config
from vlx import checkpoints, corpora, models, synthetic, tasks
from vlx.config import DistillConfig, FinetuneConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.models.dual import Dual
from vlx.training.loop import fit

TASK = tasks.load("retrieval")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("captions") / "corpus"
    synthetic.build(folder, task="retrieval", size=40)
    return corpora.open(folder)


def options(**changes: object) -> DistillConfig:
    return config(**({"task": "retrieval", "model": "dual", "region_layers": 0, "val_images": 5} | changes))


def saved(corpus: Corpus, folder: Path, cfg: DistillConfig) -> str:
    made = new_model(cfg, TASK, corpus)
    return str(checkpoints.save(folder, made.model, made.tokenizer, made.meta))


def test_a_training_batch_has_no_negatives_and_the_numbers_of_its_pictures(corpus: Corpus) -> None:
    cfg = options()
    words = new_model(cfg, TASK, corpus).words
    train, validation, _ = open_data(corpus, TASK, words, cfg)
    rows = [index for index, group in enumerate(train.groups.own) if group in (3, 4)]
    batch = train.training_batch(rows, seed=0, epoch=0)
    assert len(batch["input_ids"]) == len(rows) == 10
    assert batch["labels"].tolist() == [train.groups.own[index] for index in rows]
    pairs = open_data(corpus, TASK, words, config(task="retrieval")).train.training_batch(rows, seed=0, epoch=0)
    assert pairs["labels"].tolist() == [1] * 10 + [0] * 10
    assert set(validation.batch([0, 1])["labels"].tolist()) == {1}


@pytest.mark.parametrize(("system", "method"), [("oscar", "kd"), ("dual", "kd"), ("dual", "embedding")])
def test_a_student_learns_of_any_teacher(corpus: Corpus, tmp_path: Path, system: str, method: str) -> None:
    uri = saved(corpus, tmp_path / "t", options(model=system))
    cfg = options(teacher=uri, method=method, alpha=1.0, steps=30, lr=3e-3, dropout=0.0, student_init="random")
    teacher, measured = obtain_teacher(cfg, TASK, corpus)
    data = open_data(corpus, TASK, teacher.words, cfg)
    student = start_student(cfg, TASK, data, teacher)
    assert measured is None and isinstance(student.model, Dual) and len(student.model.text.encoder["layer"]) == 1
    objective, run = from_teacher(cfg, TASK, teacher.model), Recorder()
    validate = lambda model: {"recall_mean": 0.0}  # noqa: E731
    fit(student.model, objective, data.train, validate, cfg, run, folder=tmp_path / "f", title="", metric="recall_mean")
    part = "kd" if method == "kd" else "embedding"
    assert run.metrics[30][f"train/{part}"] < 0.7 * run.metrics[2][f"train/{part}"]


def test_vectors_of_a_dual_teacher_are_kept(corpus: Corpus, tmp_path: Path) -> None:
    cfg = options(teacher="t")
    teacher = new_model(cfg, TASK, corpus)
    train = open_data(corpus, TASK, teacher.words, cfg).train
    kept = kept_logits(teacher.model, train, tmp_path)
    with torch.no_grad():
        expected = teacher.model.eval()(train.batch([3, 8])).pooled
    np.testing.assert_allclose(kept[[3, 8]], expected, atol=1e-3)
    assert kept.shape == (len(train), 2 * 16)
    twice = {"epochs": 2, "steps": 0}
    assert keeps_logits(options(**twice), TASK, train, teacher.model)
    assert not keeps_logits(options(**twice, cache=False), TASK, train, teacher.model)
    assert not keeps_logits(options(epochs=1, steps=0), TASK, train, teacher.model)
    other = models.build("oscar", TASK.head, SIZES, seed=0)
    assert not keeps_logits(options(**twice), TASK, train, other)


def test_contrastive_learning_finds_the_pictures_of_a_batch(corpus: Corpus, tmp_path: Path) -> None:
    cfg, run = options(steps=40, lr=3e-3, dropout=0.0, batch_size=16), Recorder()
    made = new_model(cfg, TASK, corpus)
    data = open_data(corpus, TASK, made.words, cfg)
    validate = lambda model: {"recall_mean": 0.0}  # noqa: E731
    objective = from_labels(cfg, TASK)
    fit(made.model, objective, data.train, validate, cfg, run, folder=tmp_path, title="", metric="recall_mean")
    assert run.metrics[40]["train/task"] < 0.8 * run.metrics[2]["train/task"]


def test_another_task_or_start_is_one_line(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model=dual: only says what belongs together; expected task=retrieval"):
        corpus_of(options(task="nlvr2"))
    with pytest.raises(ConfigError, match="model=dual learns from the batch's other pairs"):
        FinetuneConfig(task="retrieval", model="dual", negatives="three")
    uri = saved(corpus, tmp_path / "o", options(model="oscar"))
    with pytest.raises(ConfigError, match="model=dual: .* is of oscar; give model=oscar"):
        start_from(FinetuneConfig(task="retrieval", weights=uri, model="dual"), TASK, corpus)
    with pytest.raises(ConfigError, match="student_init=first: .* has no layers for dual"):
        obtain_teacher(options(teacher=uri), TASK, corpus)
