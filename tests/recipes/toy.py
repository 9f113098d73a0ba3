"""A distillation without its publication, and questions with other answers than their corpus's."""

import copy
import dataclasses
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file

from tests.training.toy import DIM, Recorder, config
from vlx import checkpoints, corpora, tracking
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter
from vlx.inputs.dataset import TaskDatasets
from vlx.recipes.build import new_task_model
from vlx.recipes.distill import train_student
from vlx.tasks.base import Task

Weights = dict[str, torch.Tensor]


class TrialRecorder(Recorder):
    """A run that is a trial of a search: its model is measured, and neither tested nor registered."""

    publishes = False
    id = ""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.folder = folder


class CallCounter:
    """Counts the forward passes of a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.count = 0
        model.register_forward_hook(self)

    def __call__(self, *_: object) -> None:
        self.count += 1


def best_weights(folder: Path) -> Weights:
    """The weights that training in a run's folder has chosen."""
    (path,) = (folder / "training").glob("best-*.safetensors")
    return load_file(path)


def distill(
    cfg: DistillConfig, task: Task, datasets: TaskDatasets, teacher: Loaded, folder: Path, stop_after: int | None = None
) -> tuple[TrialRecorder, int]:
    """Train a student of a copy of the teacher; the run, and how often the teacher was called."""
    teacher = dataclasses.replace(teacher, model=copy.deepcopy(teacher.model))
    calls = CallCounter(teacher.model)
    run = TrialRecorder(folder, stop_after)
    train_student(cfg, task, datasets, teacher, cast(tracking.Run, run), {})
    return run, calls.count


def save_teacher(corpus: Corpus, task: Task, folder: Path, **options: Any) -> Loaded:
    """An untrained teacher, saved and loaded."""
    checkpoints.save(folder, new_task_model(config(task=task.name, **options), task, corpus))
    return checkpoints.load(folder)


def write_questions(out: Path, *, tags: tuple[str, ...] = ()) -> Corpus:
    """Eight questions about an image each. tags: object tags of every image."""
    random = np.random.default_rng(0)
    with CorpusWriter(out, dtype="float32") as writer:
        for split in ("train", "val", "testdev"):
            rows = []
            for number in range(8):
                boxes = np.sort(random.random((2, 4), dtype=np.float32), 1)
                image = f"{split}-{number}"
                writer.add_image(image, random.random((2, DIM), dtype=np.float32), boxes, size=(64, 64), tags=tags * 2)
                rows.append(Example(image, "what color is it ?", [image], ["red"], [1.0]))
            writer.add_examples("vqa", split, rows)
        writer.commit(reader="toy", detector="external", source=[])
    return corpora.open(out)
