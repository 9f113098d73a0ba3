"""A dual encoder learns from a batch's own images, on labels or from any teacher."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.recipes.toy import save_teacher
from tests.training.toy import Recorder, config, datasets_of
from vlx import synthetic, tasks
from vlx.config import DistillConfig, FinetuneConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.evaluation.predict import predict
from vlx.evaluation.retrieval import read_pairs
from vlx.inputs.dataset import TaskDataset
from vlx.models.dual import Dual
from vlx.objectives.supervised import logits_of
from vlx.recipes.build import new_task_model, start_from
from vlx.recipes.cached_logits import cached_teacher_logits
from vlx.recipes.distill import can_cache_logits, distillation_objective, initial_student, obtain_teacher
from vlx.recipes.finetune import supervised_objective
from vlx.recipes.requirements import load_method
from vlx.tasks.base import Encoded
from vlx.training.loop import fit

TASK = tasks.load("retrieval")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return synthetic.build(tmp_path_factory.mktemp("captions") / "corpus", task="retrieval", size=40)


def options(**changes: object) -> DistillConfig:
    return config(**({"task": "retrieval", "model": "dual", "region_layers": 0, "val_images": 5} | changes))


def constant_score(model: torch.nn.Module) -> dict[str, float]:
    return {"recall_mean": 0.0}


def test_a_training_batch_has_no_negatives_and_is_labeled_with_its_images(corpus: Corpus) -> None:
    loaded = new_task_model(options(), TASK, corpus)
    train, validation, _ = datasets_of(corpus, TASK, loaded, options())
    rows = [index for index, group in enumerate(train.groups.group_of) if group in (3, 4)]
    batch = train.training_batch(rows, seed=0, epoch=0)
    assert len(batch["input_ids"]) == len(rows) == 10
    assert batch["labels"].tolist() == [train.groups.group_of[index] for index in rows]
    pairs = datasets_of(corpus, TASK, loaded, config(task="retrieval")).train.training_batch(rows, seed=0, epoch=0)
    assert pairs["labels"].tolist() == [1] * 10 + [0] * 10
    assert set(validation.batch([0, 1])["labels"].tolist()) == {1}


@pytest.mark.parametrize(("architecture", "method"), [("oscar", "kd"), ("dual", "kd"), ("dual", "embedding")])
def test_a_student_learns_from_any_teacher(corpus: Corpus, tmp_path: Path, architecture: str, method: str) -> None:
    save_teacher(corpus, TASK, tmp_path / "t", model=architecture, region_layers=0)
    teacher_uri = str(tmp_path / "t")
    cfg = options(teacher=teacher_uri, method=method, alpha=1.0, steps=30, lr=3e-3, dropout=0.0, student_init="random")
    teacher, result = obtain_teacher(cfg, TASK, corpus)
    train = datasets_of(corpus, TASK, teacher, cfg).train
    student = initial_student(cfg, TASK, corpus, teacher)
    assert result is None and isinstance(student.model, Dual) and len(student.model.text.encoder["layer"]) == 1
    objective = distillation_objective(
        load_method(cfg.method), student.spec, TASK, teacher.model,
        alpha=cfg.alpha, temperature=cfg.temperature, beta=cfg.beta,
    )  # fmt: skip
    run = Recorder()
    fit(
        student.model, objective, train, constant_score, cfg, run, folder=tmp_path / "f", title="",
        metric="recall_mean",
    )  # fmt: skip
    part = "kd" if method == "kd" else "embedding"
    assert run.metrics[30][f"train/{part}"] < 0.7 * run.metrics[2][f"train/{part}"]


def test_vectors_of_a_dual_teacher_are_cached(corpus: Corpus, tmp_path: Path) -> None:
    cfg = options(teacher="t")
    teacher = new_task_model(cfg, TASK, corpus)
    train = datasets_of(corpus, TASK, teacher, cfg).train
    vectors = cached_teacher_logits(teacher.model, train, tmp_path)
    with torch.no_grad():
        expected = teacher.model.eval()(train.batch([3, 8])).pooled
    np.testing.assert_allclose(vectors[[3, 8]], expected, atol=1e-3)
    assert vectors.shape == (len(train), 2 * 16)
    two_epochs = {"epochs": 2, "steps": 0}
    assert can_cache_logits(options(**two_epochs), train, teacher)
    assert not can_cache_logits(options(**two_epochs, cache_logits=False), train, teacher)
    assert not can_cache_logits(options(epochs=1, steps=0), train, teacher)
    oscar = new_task_model(options(model="oscar"), TASK, corpus)
    assert not can_cache_logits(options(**two_epochs), train, oscar)


@pytest.mark.parametrize(
    ("student", "teachers"), [("dual", ("dual", "dual")), ("dual", ("dual", "oscar")), ("oscar", ("oscar", "dual"))]
)
def test_several_teachers_score_pairs_by_the_mean_of_their_logits(
    corpus: Corpus, tmp_path: Path, student: str, teachers: tuple[str, ...]
) -> None:
    saved = [
        save_teacher(corpus, TASK, tmp_path / str(seed), model=model, region_layers=0, seed=seed)
        for seed, model in enumerate(teachers)
    ]
    uris = ",".join(teacher.uri for teacher in saved)
    cfg = options(model=student, teacher=uris, epochs=2, steps=0, warmup_steps=0, object_tags=False)
    teacher, _ = obtain_teacher(cfg, TASK, corpus)
    train, validation, _ = datasets_of(corpus, TASK, teacher, cfg)
    scores = predict(teacher.model, validation)
    members = [read_pairs(each.model, validation, logits_of_pairs, batch_size=64, folder=None) for each in saved]
    expected = read_pairs(teacher.model, validation, logits_of_pairs, batch_size=64, folder=None)
    np.testing.assert_allclose(sum(members) / 2, expected, atol=1e-5)
    assert scores.shape == expected.shape and np.isfinite(scores).all()
    assert not can_cache_logits(cfg, train, teacher)
    new = initial_student(cfg, TASK, corpus, teacher)
    objective = distillation_objective(
        load_method("kd"), new.spec, TASK, teacher.model, alpha=1.0, temperature=2.0, beta=0.0
    )
    assert objective(new.model, train.training_batch(range(8), seed=0, epoch=0)).total.isfinite()


def logits_of_pairs(model: torch.nn.Module, dataset: TaskDataset, rows: Sequence[Encoded]) -> np.ndarray:
    with torch.no_grad():
        return logits_of(model.eval(), dataset.collate(rows)).numpy()


def test_contrastive_learning_finds_the_images_of_a_batch(corpus: Corpus, tmp_path: Path) -> None:
    cfg = options(steps=40, lr=3e-3, dropout=0.0, batch_size=16)
    loaded = new_task_model(cfg, TASK, corpus)
    train = datasets_of(corpus, TASK, loaded, cfg).train
    objective = supervised_objective(loaded.spec, TASK)
    run = Recorder()
    fit(loaded.model, objective, train, constant_score, cfg, run, folder=tmp_path, title="", metric="recall_mean")
    assert run.metrics[40]["train/task"] < 0.8 * run.metrics[2]["train/task"]


def test_weights_or_layers_of_another_architecture_are_refused_in_one_line(corpus: Corpus, tmp_path: Path) -> None:
    save_teacher(corpus, TASK, tmp_path / "o")
    weights = str(tmp_path / "o")
    with pytest.raises(ConfigError, match="model=dual: .* is of oscar; give model=oscar"):
        start_from(FinetuneConfig(task="retrieval", weights=weights, model="dual"), TASK, corpus)
    with pytest.raises(ConfigError, match="student_init=first: .* has no layers for dual"):
        obtain_teacher(options(teacher=weights), TASK, corpus)
