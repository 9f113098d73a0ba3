"""Training that is stopped anywhere ends in the same bits as uninterrupted training."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.training.toy import Recorder, Stopped, config, same_weights, setting
from vlx import tasks
from vlx.config import DistillConfig
from vlx.errors import TrainingError
from vlx.evaluation.compare import validator
from vlx.inputs.dataset import TaskDatasets
from vlx.models.oscar import Oscar
from vlx.models.student import student_from
from vlx.objectives import Objective, distillation, supervised
from vlx.recipes.distill import reptile
from vlx.recipes.requirements import load_method
from vlx.training.loop import Trainer, fit, single_group
from vlx.training.optim import Group, Optim, Schedule

TASK = tasks.load("nlvr2")
SGD = Group(
    "regions", Optim("sgd", 0.01, momentum=0.9), 0.05, Schedule("constant", 0, 12, (4, 8)), part="img_embedding"
)


@dataclass(frozen=True)
class Case:
    """stops: the steps after which training is stopped, one after the other."""

    stops: tuple[int, ...]
    accumulation: int = 1
    optimizer: str = "adamw"
    with_teacher: bool = False  # MKD with Reptile
    two_optimizers: bool = False


RESUMES = {  # checkpoints are of the steps 3, 6 and 9; step 6 ends an epoch, step 12 the training
    "before the first checkpoint, then mid-epoch": Case((1, 5)),
    "mid-epoch, then after the last step, with Reptile": Case((5, 12), optimizer="bert_adamw", with_teacher=True),
    "at the end of an epoch, twice, with Reptile": Case((7, 8), 3, optimizer="bert_adamw", with_teacher=True),
    "mid-epoch, then after the last step, two optimizers": Case((5, 12), accumulation=3, two_optimizers=True),
}


def train(
    model: Oscar, data: TaskDatasets, cfg: DistillConfig, folder: Path, *, run: Recorder, teacher: Oscar | None = None,
    groups: tuple[Group, ...] = (),
) -> float:  # fmt: skip
    objective: Objective = supervised(TASK.loss)
    hook = None
    if teacher:
        objective = distillation(load_method("mkd"), teacher, TASK.loss, alpha=0.5, temperature=2.0)
        hook = reptile(cfg, teacher, model, objective, data.train)
    validate = validator(data.validation)
    best = fit(model, objective, data.train, validate, cfg, run, folder=folder, title="toy", hook=hook, groups=groups)
    return best.value


@pytest.mark.parametrize("case", RESUMES.values(), ids=RESUMES.keys())
def test_resumed_training_gives_identical_weights(tmp_path: Path, case: Case) -> None:
    """The model, the teacher and every metric must agree."""
    cfg = config(accumulation=case.accumulation, optimizer=case.optimizer)
    groups = (SGD, single_group(cfg, 12)) if case.two_optimizers else ()
    start, data = setting(tmp_path, cfg)
    teacher = student_from(start, layers=2, init="first", seed=5) if case.with_teacher else None
    expected = copy.deepcopy(start)
    expected_teacher = copy.deepcopy(teacher)
    record = Recorder()
    train(expected, data, cfg, tmp_path / "uninterrupted", run=record, teacher=expected_teacher, groups=groups)

    metrics: dict[int, dict[str, float]] = {}
    checkpoint = 0
    for stop in [*case.stops, None]:
        model = copy.deepcopy(start)
        moved_teacher = copy.deepcopy(teacher)
        run = Recorder(stop - checkpoint if stop else None)
        try:
            train(model, data, cfg, tmp_path / "resumed", run=run, teacher=moved_teacher, groups=groups)
        except Stopped:
            torch.rand(3)  # a new process would have another generator state
        metrics |= run.metrics
        checkpoint = (stop or 0) // 3 * 3
    assert same_weights(model, expected)
    if teacher:
        assert same_weights(moved_teacher, expected_teacher)
        assert not same_weights(moved_teacher, teacher)
    for step, values in record.metrics.items():
        for name in values.keys() - {"train/examples_per_second"}:
            assert metrics[step][name] == values[name], (step, name)


def test_a_finished_stage_returns_its_best_at_once(tmp_path: Path) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    trained = copy.deepcopy(start)
    restored = copy.deepcopy(start)
    run = Recorder()
    value = train(trained, data, cfg, tmp_path / "stage", run=Recorder())
    assert train(restored, data, cfg, tmp_path / "stage", run=run) == value
    assert run.steps == 0
    assert same_weights(trained, restored)


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    expected = copy.deepcopy(start)
    train(expected, data, cfg, tmp_path / "uninterrupted", run=Recorder())
    with pytest.raises(Stopped):
        train(copy.deepcopy(start), data, cfg, tmp_path / "resumed", run=Recorder(8))
    newest = tmp_path / "resumed" / "step-00000006" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    model = copy.deepcopy(start)
    train(model, data, cfg, tmp_path / "resumed", run=Recorder())
    assert "step-00000006: damaged checkpoint (model.safetensors changed" in caplog.text
    assert same_weights(model, expected)


def test_a_full_disk_costs_a_checkpoint_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    train(start, data, cfg, tmp_path / "stage", run=Recorder())
    assert "no checkpoint at step 3 ([Errno 28] No space left on device)" in caplog.text
    assert sorted(path.suffix for path in (tmp_path / "stage").iterdir()) == [".json", ".safetensors"]


def test_accumulation_does_not_change_the_update(tmp_path: Path) -> None:
    """Micro-batches of unequal size (8 = 3 + 3 + 2) weigh by their examples."""
    start, data = setting(tmp_path, config(dropout=0.0))
    gradients = []
    for accumulation in (1, 3):
        model = copy.deepcopy(start)
        trainer = Trainer(model, supervised(TASK.loss), config(dropout=0.0, accumulation=accumulation), total=12)
        batches = trainer.micro_batches(data.train, list(range(8)))
        assert len(batches) == accumulation
        trainer.model.train()
        trainer.backward(trainer.model, batches)
        gradients.append([weight.grad for weight in model.parameters()])
    for single, accumulated in zip(*gradients, strict=True):
        torch.testing.assert_close(accumulated, single, atol=1e-6, rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    cfg = config()
    model, data = setting(tmp_path, cfg)
    torch.nn.init.constant_(model.classifier[0].bias, float("nan"))
    before = copy.deepcopy(model.bert.state_dict())
    with pytest.raises(TrainingError, match="the loss is nan at step 1; lower lr=0.0005"):
        train(model, data, cfg, tmp_path / "stage", run=Recorder())
    assert all(torch.equal(value, before[name]) for name, value in model.bert.state_dict().items())


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    cfg = config(steps=60, dropout=0.0, hidden_size=64, heads=4, log_every=10, eval_every=60, checkpoint_every=60)
    model, data = setting(tmp_path, cfg)
    run = Recorder()
    train(model, data, cfg, tmp_path / "stage", run=run)
    assert run.metrics[60]["train/loss"] < 0.8 * run.metrics[10]["train/loss"]


def test_old_checkpoints_and_weights_are_removed(tmp_path: Path) -> None:
    cfg = config()
    start, data = setting(tmp_path, cfg)
    folder = tmp_path / "stage"
    with pytest.raises(Stopped):
        train(copy.deepcopy(start), data, cfg, folder, run=Recorder(11))
    assert [path.name for path in sorted(folder.glob("step-*"))] == ["step-00000006", "step-00000009"]
    train(start, data, cfg, folder, run=Recorder())
    assert not list(folder.glob("step-*"))
    assert len(list(folder.glob("best-*"))) == 1


def test_training_stops_after_patience_evaluations_also_after_a_resume(tmp_path: Path) -> None:
    cfg = config(steps=40, eval_every=2, patience=2, lr=1e-12)  # the first evaluation stays the best
    start, data = setting(tmp_path, cfg)
    expected = copy.deepcopy(start)
    model = copy.deepcopy(start)
    record = Recorder()
    train(expected, data, cfg, tmp_path / "uninterrupted", run=record)
    assert record.steps == 6, "the best at step 2, two evaluations more"
    with pytest.raises(Stopped):
        train(model, data, cfg, tmp_path / "resumed", run=Recorder(4))
    resumed = Recorder()
    train(model, data, cfg, tmp_path / "resumed", run=resumed)
    assert max(resumed.metrics) == 6
    assert same_weights(model, expected)
