"""Reptile's cached forward pass and reused memory give the same bits as separate passes and new copies."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.training.toy import Recorder, Stopped, config, same_weights, setting
from vlx import tasks
from vlx.config import DistillConfig
from vlx.evaluation.compare import validator
from vlx.inputs.dataset import TaskDatasets
from vlx.models.oscar import Oscar
from vlx.models.student import has_dropout, set_dropout, student_from
from vlx.objectives import distillation
from vlx.recipes.distill import reptile
from vlx.recipes.requirements import load_method
from vlx.training.loop import Trainer, fit
from vlx.training.reptile import Reptile

TASK = tasks.load("nlvr2")


@dataclass(frozen=True)
class Trained:
    student: Oscar
    teacher: Oscar
    metrics: list[dict[str, float]]  # of every step
    forward_passes: int  # of the student


def train(start: Oscar, data: TaskDatasets, cfg: DistillConfig, *, new_copies: bool = False) -> Trained:
    """Train five steps. new_copies: Reptile copies the student into new memory before every step."""
    teacher = copy.deepcopy(start)
    student = student_from(start, layers=1, init="first", seed=0)
    set_dropout(student, cfg.dropout, cfg.attention_dropout)
    passes = []
    student.register_forward_hook(lambda *_: passes.append(1))
    objective = distillation(load_method(cfg.method), teacher, TASK.loss, alpha=0.5, temperature=2.0)
    hook = reptile(cfg, teacher, student, objective, data.train)
    trainer = Trainer(student, objective, cfg, total=12, hook=hook)
    metrics = []
    torch.manual_seed(0)
    for step in range(5):
        if new_copies:
            hook.adapted_student = None
        metrics.append(trainer.step(trainer.micro_batches(data.train, list(range(8 * step, 8 * step + 8)))))
    return Trained(student, teacher, metrics, len(passes))


def same(first: Trained, second: Trained) -> bool:
    students = same_weights(first.student, second.student)
    return students and same_weights(first.teacher, second.teacher) and first.metrics == second.metrics


@pytest.mark.parametrize(("method", "views"), [("kd", 1), ("mkd", 2), ("pkd", 1), ("tinybert", 1)])
@pytest.mark.parametrize("reptile_layers", ["skip", "mean"])
def test_one_forward_pass_of_the_student_also_serves_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, views: int, reptile_layers: str
) -> None:
    cfg = config(dropout=0.0, method=method, reptile_layers=reptile_layers, reptile=True)
    start, data = setting(tmp_path, cfg)
    shared = train(start, data, cfg)
    monkeypatch.setattr(Reptile, "can_share_forward", lambda *_, **__: False)
    separate = train(start, data, cfg)
    assert same(shared, separate)
    assert (shared.forward_passes, separate.forward_passes) == (5 * views, 10 * views)
    assert not same_weights(shared.teacher, start), "the teacher did not move"
    assert all(weight.grad is None for weight in shared.teacher.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "bert_adamw", "bert_adam", "adamax"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_reused_memory_of_the_copy_carries_nothing_over(tmp_path: Path, optimizer: str, dropout: float) -> None:
    cfg = config(dropout=dropout, optimizer=optimizer, method="mkd", reptile=True, accumulation=2 if dropout else 1)
    start, data = setting(tmp_path, cfg)
    assert same(train(start, data, cfg), train(start, data, cfg, new_copies=True))


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"dropout": 0.0, "accumulation": 2}])
def test_with_dropout_or_accumulation_the_copy_has_its_own_passes(tmp_path: Path, options: dict[str, float]) -> None:
    cfg = config(method="kd", reptile=True, **options)
    start, data = setting(tmp_path, cfg)
    assert train(start, data, cfg).forward_passes == 10 * cfg.accumulation


def test_resumed_training_with_shared_passes_gives_identical_weights(tmp_path: Path) -> None:
    """The copy and its optimizer are not part of a checkpoint."""
    cfg = config(dropout=0.0, method="mkd", reptile=True)
    start, data = setting(tmp_path, cfg)

    def run(folder: str, stop: int | None) -> tuple[Oscar, Oscar]:
        teacher = copy.deepcopy(start)
        student = student_from(start, layers=1, init="first", seed=0)
        objective = distillation(load_method("mkd"), teacher, TASK.loss, alpha=0.5, temperature=2.0)
        hook = reptile(cfg, teacher, student, objective, data.train)
        validate = validator(data.validation)
        with nullcontext() if stop is None else pytest.raises(Stopped):
            fit(student, objective, data.train, validate, cfg, Recorder(stop), folder=tmp_path / folder, title="toy",
                hook=hook)  # fmt: skip
        return student, teacher

    uninterrupted = run("uninterrupted", None)
    run("resumed", 5)
    resumed = run("resumed", None)
    assert same_weights(resumed[0], uninterrupted[0])
    assert same_weights(resumed[1], uninterrupted[1])


def test_dropout_of_hidden_states_and_of_attention_is_detected(tmp_path: Path) -> None:
    model, _ = setting(tmp_path, config(dropout=0.0))
    assert not has_dropout(model)
    for hidden, attention in ((0.1, 0.0), (0.0, 0.1)):
        set_dropout(model, hidden, attention)
        assert has_dropout(model)
