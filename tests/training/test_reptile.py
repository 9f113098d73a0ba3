"""Reptile's short cuts give the same bits as the long way."""

import copy
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from tests.training.toy import Recorder, Stopped, config, same_weights, setting
from vlx import tasks
from vlx.config import DistillConfig
from vlx.models.oscar import Oscar
from vlx.models.student import has_dropout, set_dropout, student_from
from vlx.objectives import distillation
from vlx.training.batching import Data
from vlx.training.evaluation import validator
from vlx.training.loop import Trainer, fit
from vlx.training.recipes import reptile

TASK = tasks.load("nlvr2")
Trained = tuple[Oscar, Oscar, list[dict[str, float]], int]


def train(start: Oscar, data: Data, cfg: DistillConfig, *, forget: bool = False) -> Trained:
    """Five steps: student, teacher, metrics, and how often the student or its copy was asked. forget: the copy and its
    optimizer are made anew before each step."""
    teacher, student = copy.deepcopy(start), student_from(start, layers=1, init="first", seed=0)
    set_dropout(student, cfg.dropout, cfg.attention_dropout)
    asked = []
    student.register_forward_hook(lambda *_: asked.append(1))
    objective = distillation(cfg.method, teacher, TASK.loss, alpha=0.5, temperature=2.0)
    hook = reptile(cfg, teacher, student, objective, data)
    trainer, metrics = Trainer(student, objective, cfg, total=12, hook=hook), []
    torch.manual_seed(0)
    for step in range(5):
        hook.fast = None if forget else hook.fast
        metrics.append(trainer.step(trainer.micro_batches(data.train, list(range(8 * step, 8 * step + 8)))))
    return student, teacher, metrics, len(asked)


def same(one: Trained, two: Trained) -> bool:
    return same_weights(one[0], two[0]) and same_weights(one[1], two[1]) and one[2] == two[2]


@pytest.mark.parametrize(("method", "views"), [("kd", 1), ("mkd", 2), ("pkd", 1), ("tinybert", 1)])
@pytest.mark.parametrize("strategy", ["skip", "both"])
def test_one_pass_of_the_student_serves_both_its_copy_and_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, views: int, strategy: str
) -> None:
    cfg = config(dropout=0.0, method=method, strategy=strategy, reptile=True)
    start, data = setting(tmp_path, cfg)
    once = train(start, data, cfg)
    monkeypatch.setattr("vlx.training.reptile.has_dropout", lambda model: True)
    twice = train(start, data, cfg)
    assert same(once, twice)
    assert (once[3], twice[3]) == (5 * views, 10 * views)
    assert not same_weights(once[1], start)  # the teacher moved
    assert all(weight.grad is None for weight in once[1].parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "bert_adamw", "bert_adam", "adamax"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_buffers_of_the_last_step_hold_nothing_of_it(tmp_path: Path, optimizer: str, dropout: float) -> None:
    cfg = config(dropout=dropout, optimizer=optimizer, method="mkd", reptile=True, accumulation=2 if dropout else 1)
    start, data = setting(tmp_path, cfg)
    assert same(train(start, data, cfg), train(start, data, cfg, forget=True))


def test_with_dropout_or_accumulation_the_copy_is_asked_itself(tmp_path: Path) -> None:
    for options in ({"dropout": 0.1}, {"dropout": 0.0, "accumulation": 2}):
        cfg = config(method="kd", reptile=True, **options)
        start, data = setting(tmp_path / str(len(options)), cfg)
        parts = cfg.accumulation
        assert train(start, data, cfg)[3] == 10 * parts


def test_a_stopped_run_goes_on_to_the_same_bits_where_one_pass_serves_both(tmp_path: Path) -> None:
    """The copy and its optimizer are no part of a checkpoint: they are made anew."""
    cfg = config(dropout=0.0, method="mkd", reptile=True)
    start, data = setting(tmp_path, cfg)

    def run(folder: str, stop: int | None) -> tuple[Oscar, Oscar]:
        teacher, student = copy.deepcopy(start), student_from(start, layers=1, init="first", seed=0)
        objective = distillation("mkd", teacher, TASK.loss, alpha=0.5, temperature=2.0)
        hook, validate = reptile(cfg, teacher, student, objective, data), validator(TASK, data.validation)
        with nullcontext() if stop is None else pytest.raises(Stopped):
            fit(student, objective, data.train, validate, cfg, Recorder(stop), folder=tmp_path / folder, title="toy",
                hook=hook)  # fmt: skip
        return student, teacher

    whole = run("whole", None)
    run("parts", 5)
    assert all(same_weights(one, other) for one, other in zip(run("parts", None), whole, strict=True))


def test_dropout_is_found_wherever_it_is(tmp_path: Path) -> None:
    model, _ = setting(tmp_path, config(dropout=0.0))
    assert not has_dropout(model)
    for hidden, attention in ((0.1, 0.0), (0.0, 0.1)):
        set_dropout(model, hidden, attention)
        assert has_dropout(model)
