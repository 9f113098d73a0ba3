"""Students of another width, and of examples without labels."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.recipes.toy import Weights, best_weights, distill
from tests.training.toy import Stopped, config, datasets_of, write_corpus
from vlx import tasks, tracking
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.errors import ConfigError
from vlx.inputs.dataset import TaskDatasets
from vlx.models.student import student_from
from vlx.recipes.build import new_task_model
from vlx.recipes.distill import initial_student, train_baseline, with_projection

TASK = tasks.load("nlvr2")
NARROW = {"student_hidden_size": 8, "student_init": "random"}
FEW = {"unlabeled": True, "train_examples": 8}


def open_with_teacher(folder: Path, **options: Any) -> tuple[Loaded, TaskDatasets]:
    corpus = write_corpus(folder)
    teacher = new_task_model(config(**options), TASK, corpus)
    return teacher, datasets_of(corpus, TASK, teacher, config(**options))


def student_weights(folder: Path, stop_after: int | None = None, **options: Any) -> Weights:
    teacher, datasets = open_with_teacher(folder.parent / f"{folder.name}-{stop_after}", **options)
    distill(config(work_dir=str(folder), **options), TASK, datasets, teacher, folder, stop_after)
    return best_weights(folder)


@pytest.mark.parametrize(
    "options",
    [
        NARROW | {"method": "pkd"},
        NARROW | {"method": "tinybert"} | FEW,
        FEW | {"method": "kd"},
        FEW | {"method": "mkd", "reptile": True, "dropout": 0.0},
    ],
)
def test_a_stopped_run_ends_in_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    expected = student_weights(tmp_path / "uninterrupted", **options)
    with pytest.raises(Stopped):
        student_weights(tmp_path / "stopped", stop_after=5, **options)
    actual = student_weights(tmp_path / "stopped", **options)
    assert actual.keys() == expected.keys() and all(torch.equal(actual[name], expected[name]) for name in expected)


def test_the_map_between_widths_is_trained_and_no_part_of_the_student(tmp_path: Path) -> None:
    options = NARROW | {"method": "pkd"}
    trained = student_weights(tmp_path / "run", **options)
    teacher, datasets = open_with_teacher(tmp_path / "corpus", **options)
    student = initial_student(config(**options), TASK, datasets.train.corpus, teacher).model
    before = with_projection(config(**options), student, teacher.model).state_dict()
    assert trained["projection.weight"].shape == (16, 8)
    assert (trained["projection.weight"] - before["projection.weight"]).abs().max() > 1e-4
    names = {name.removeprefix("student.") for name in trained if not name.startswith("projection.")}
    assert names == student.state_dict().keys()
    assert with_projection(config(method="kd", **NARROW), student, teacher.model) is student, "kd compares no layers"
    wide = initial_student(config(method="pkd"), TASK, datasets.train.corpus, teacher).model
    assert with_projection(config(method="pkd"), wide, teacher.model) is wide


def test_the_rest_of_the_training_split_is_read_without_labels(tmp_path: Path) -> None:
    teacher, datasets = open_with_teacher(tmp_path / "corpus", **FEW)
    assert (len(datasets.train), datasets.train.num_labeled) == (48, 8)
    batch = datasets.train.training_batch([7, 8, 40, 0], seed=0, epoch=0)
    assert batch["labeled_mask"].tolist() == [True, False, False, True]
    assert "labeled_mask" not in datasets.validation.training_batch([0], seed=0, epoch=0)
    limited = datasets_of(datasets.train.corpus, TASK, teacher, config(limit=20, **FEW)).train
    assert (len(limited), limited.num_labeled) == (20, 8)


def baseline_weights(folder: Path, **options: Any) -> Weights:
    """The student without distillation, trained in a trial, which is not published."""
    teacher, datasets = open_with_teacher(folder / "corpus", **options)
    cfg: DistillConfig = config(**options)
    trial = tracking.Trial(parent="", name="", tags={}, report=lambda *_: None)
    with tracking.run(cfg, name="", folder=folder / "run", description="", trial=trial) as parent:
        train_baseline(cfg, TASK, datasets, teacher, parent)
    return best_weights(folder / "run" / "baseline")


def test_the_student_without_distillation_reads_the_labeled_examples_alone(tmp_path: Path) -> None:
    with_rest = baseline_weights(tmp_path / "with rest", **FEW)
    labeled = baseline_weights(tmp_path / "labeled", train_examples=8)
    assert all(torch.equal(with_rest[name], labeled[name]) for name in labeled)


def test_a_vilbert_student_has_its_bridges_before_its_last_text_layers(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    teacher = new_task_model(config(model="vilbert", layers=4), TASK, corpus).model
    student = student_from(teacher, layers=3, init="last", seed=0)
    assert teacher.config.t_biattention_id == [2, 3] and student.config.t_biattention_id == [1, 2]
    first, last = student.bert.encoder.layer[0].state_dict(), teacher.bert.encoder.layer[1].state_dict()
    assert all(torch.equal(first[name], last[name]) for name in last)
    with pytest.raises(ConfigError, match="student_layers=1: expected at least the 2 cross-modality layers"):
        student_from(teacher, layers=1, init="first", seed=0)
