"""A corpus and a model small enough to train within a test; the label is whether the left image has more regions."""

from pathlib import Path

import numpy as np
import torch

from vlx import corpora, tasks
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter
from vlx.inputs.dataset import TaskDatasets
from vlx.models.oscar import Oscar
from vlx.recipes.build import new_task_model, task_preprocessing
from vlx.recipes.data import open_datasets
from vlx.tasks.base import Task

DIM = 8
SIZES = {"train": 48, "dev": 16, "test1": 16}
TEXTS = ("the left picture has more", "there are more on the left side of the two", "left wins")


def write_corpus(out: Path, seed: int = 0) -> Corpus:
    """Write 12 groups of four training statements; an image has one to five regions of random features."""
    random = np.random.default_rng(seed)
    with CorpusWriter(out, dtype="float32") as writer:
        for split, size in SIZES.items():
            rows = []
            for number in range(size):
                counts = random.permutation(5)[:2] + 1
                images = [f"{split}-{number}-img{side}" for side in (0, 1)]
                for image, count in zip(images, counts, strict=True):
                    corners = random.random((count, 2), dtype=np.float32) / 2
                    boxes = np.concatenate([corners, corners + 0.25], 1)
                    writer.add_image(image, random.random((count, DIM), dtype=np.float32), boxes, size=(64, 64))
                group, label = f"{split}-{number // 4}", int(counts[0] > counts[1])
                rows.append(
                    Example(
                        f"{split}-{number}", TEXTS[number // 4 % 3], images, label=label, group=group, category="toy"
                    )
                )
            writer.add_examples("nlvr2", split, rows)
        writer.commit(reader="toy", detector="external", source=[])
    return corpora.open(out)


def config(**options: object) -> DistillConfig:
    """Return the options of a distillation of 12 steps with a checkpoint every third."""
    small = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 16, "dropout": 0.1, "vocab_size": 60}
    short = {
        "steps": 12,
        "warmup_steps": 2,
        "batch_size": 8,
        "train_examples": 0,
        "student_layers": 1,
        "teacher_steps": 12,
    }
    often = {"eval_every": 4, "checkpoint_every": 3, "log_every": 2, "precision": "fp32"}
    return DistillConfig(**(small | short | often | options))


def setting(folder: Path, cfg: DistillConfig) -> tuple[Oscar, TaskDatasets]:
    """Return an untrained model and the three splits."""
    task, corpus = tasks.load("nlvr2"), write_corpus(folder / "corpus")
    loaded = new_task_model(cfg, task, corpus)
    return loaded.model, open_datasets(corpus, task, loaded.wordpiece, loaded.preprocessing, cfg)


class Recorder:
    """A run that stores its metrics; `stop_after` steps it raises Stopped, as a killed process would end."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.metrics: dict[int, dict[str, float]] = {}
        self.steps, self.stop_after = 0, stop_after

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        self.metrics.setdefault(step, {}).update(metrics)

    def report(self, best: float, *, step: int, last: bool) -> None:
        pass

    def stop_if_requested(self, before: object) -> None:
        self.steps += 1
        if self.steps == self.stop_after:
            raise Stopped


class Stopped(Exception):
    """The process ended."""


def same_weights(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    weights = second.state_dict()
    return all(torch.equal(tensor, weights[name]) for name, tensor in first.state_dict().items())


def datasets_of(corpus: Corpus, task: Task, loaded: Loaded, cfg: DistillConfig) -> TaskDatasets:
    """Return the three splits with the tokenizer of a model, as these options read them."""
    return open_datasets(corpus, task, loaded.wordpiece, task_preprocessing(cfg, task, corpus), cfg)
