"""Training that stopped anywhere ends in the same bits as training that did not."""

import copy
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.toy import Recorder, Stopped, config, same_weights, setting
from vlx import tasks
from vlx.config import DistillConfig
from vlx.errors import TrainingError
from vlx.models.oscar import Oscar
from vlx.models.student import student_from
from vlx.objectives import Objective, distillation, supervised
from vlx.training.batching import Data
from vlx.training.evaluation import validator
from vlx.training.loop import Trainer, fit
from vlx.training.recipes import reptile

TASK = tasks.load("nlvr2")


def train(
    model: Oscar, data: Data, cfg: DistillConfig, folder: Path, run: Recorder, teacher: Oscar | None = None
) -> float:
    objective: Objective = supervised(TASK.loss)
    hook = None
    if teacher:
        objective = distillation("mkd", teacher, TASK.loss, alpha=0.5, temperature=2.0)
        hook = reptile(cfg, teacher, model, objective, data)
    validate = validator(TASK, data.validation)
    return fit(model, objective, data.train, validate, cfg, run, folder=folder, title="toy", hook=hook).value


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("with_teacher", [False, True])
@pytest.mark.parametrize("stops", [(1,), (5,), (7, 8), (12,)])
def test_resumed_training_gives_identical_weights(
    tmp_path: Path, accumulation: int, with_teacher: bool, stops: tuple[int, ...]
) -> None:
    """Steps 3, 6 and 9 have checkpoints, step 6 ends an epoch; the model, the teacher and every metric must agree."""
    cfg = config(accumulation=accumulation, optimizer="bert_adamw" if with_teacher else "adamw")
    start, data = setting(tmp_path, cfg)
    teacher = student_from(start, layers=2, init="first", seed=5) if with_teacher else None
    whole, whole_teacher, record = copy.deepcopy(start), copy.deepcopy(teacher), Recorder()
    train(whole, data, cfg, tmp_path / "whole", record, whole_teacher)

    metrics: dict[int, dict[str, float]] = {}
    done = 0
    for stop in [*stops, None]:
        model, learner = copy.deepcopy(start), copy.deepcopy(teacher)
        run = Recorder(stop - done if stop else None)
        try:
            train(model, data, cfg, tmp_path / "parts", run, learner)
        except Stopped:
            torch.rand(3)  # a new process would have another generator state
        metrics |= run.metrics
        done = (stop or 0) // 3 * 3
    assert same_weights(model, whole)
    assert teacher is None or (same_weights(learner, whole_teacher) and not same_weights(learner, teacher))
    for step, values in record.metrics.items():
        for name in values.keys() - {"train/examples_per_second"}:
            assert metrics[step][name] == values[name], (step, name)


def test_a_finished_stage_returns_its_best_at_once(tmp_path: Path) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    model, again, run = copy.deepcopy(start), copy.deepcopy(start), Recorder()
    value = train(model, data, cfg, tmp_path / "t", Recorder())
    assert train(again, data, cfg, tmp_path / "t", run) == value
    assert run.steps == 0
    assert same_weights(model, again)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    whole = copy.deepcopy(start)
    train(whole, data, cfg, tmp_path / "whole", Recorder())
    with pytest.raises(Stopped):
        train(copy.deepcopy(start), data, cfg, tmp_path / "parts", Recorder(8))
    newest = tmp_path / "parts" / "step-00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    model = copy.deepcopy(start)
    train(model, data, cfg, tmp_path / "parts", Recorder())
    assert "step-00000006: damaged checkpoint (model.safetensors changed" in caplog.text
    assert same_weights(model, whole)


def test_a_full_disk_costs_a_checkpoint_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlx.training.loop.save_checkpoint", full)
    train(start, data, cfg, tmp_path / "t", Recorder())
    assert "no checkpoint at step 3 ([Errno 28] No space left on device)" in caplog.text


def test_accumulation_does_not_change_the_update(tmp_path: Path) -> None:
    """Micro-batches of unequal size (8 = 3 + 3 + 2) weigh by their examples."""
    start, data = setting(tmp_path, config(dropout=0.0))
    gradients = []
    for accumulation in (1, 3):
        model = copy.deepcopy(start)
        trainer = Trainer(model, supervised(TASK.loss), config(dropout=0.0, accumulation=accumulation), total=12)
        trainer.update = lambda loss: None
        batches = trainer.micro_batches(data.train, list(range(8)))
        assert len(batches) == accumulation
        trainer.step(batches)
        gradients.append([weight.grad for weight in model.parameters()])
    for one, many in zip(*gradients, strict=True):
        torch.testing.assert_close(many, one, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    cfg = config()
    model, data = setting(tmp_path, cfg)
    torch.nn.init.constant_(model.classifier[0].bias, float("nan"))
    before = copy.deepcopy(model.bert.state_dict())
    with pytest.raises(TrainingError, match="the loss is nan at step 1; lower lr=0.0005"):
        train(model, data, cfg, tmp_path / "t", Recorder())
    assert all(torch.equal(value, before[name]) for name, value in model.bert.state_dict().items())


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    cfg = config(steps=60, dropout=0.0, hidden_size=64, heads=4, log_every=10, eval_every=60, checkpoint_every=60)
    model, data = setting(tmp_path, cfg)
    run = Recorder()
    train(model, data, cfg, tmp_path / "t", run)
    assert run.metrics[60]["train/loss"] < 0.8 * run.metrics[10]["train/loss"]


def test_old_checkpoints_and_weights_are_dropped(tmp_path: Path) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    with pytest.raises(Stopped):
        train(copy.deepcopy(start), data, cfg, tmp_path / "t", Recorder(11))
    assert [path.name for path in sorted((tmp_path / "t").glob("step-*"))] == ["step-00000006", "step-00000009"]
    train(start, data, cfg, tmp_path / "t", Recorder())
    assert not list((tmp_path / "t").glob("step-*"))
    assert len(list((tmp_path / "t").glob("best-*"))) == 1
    shutil.rmtree(tmp_path / "t")


def test_training_ends_when_patience_does_and_a_killed_run_ends_there_too(tmp_path: Path) -> None:
    cfg = config(steps=40, eval_every=2, patience=2, lr=1e-12)  # the first evaluation stays the best
    start, data = setting(tmp_path, cfg)
    whole, model = copy.deepcopy(start), copy.deepcopy(start)
    record, run = Recorder(), Recorder(4)
    train(whole, data, cfg, tmp_path / "whole", record)
    assert record.steps == 6, "the best at step 2, two evaluations more"
    with pytest.raises(Stopped):
        train(model, data, cfg, tmp_path / "parts", run)
    again = Recorder()
    train(model, data, cfg, tmp_path / "parts", again)
    assert max(again.metrics) == 6 and same_weights(model, whole)
