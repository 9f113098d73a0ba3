"""Captions of four images, two of which look alike, small enough to compute by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.training.toy import config
from vlx import corpora, tasks
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter
from vlx.inputs.dataset import TaskDataset, open_task_dataset
from vlx.inputs.regions import RegionInput
from vlx.recipes.build import new_task_model
from vlx.tasks.base import Task

FEATURE = {"a": 0.0, "b": 10.0, "c": 1.0, "d": 12.0}  # of every region of an image: c looks like a, d like b
HARD = tasks.load("retrieval", itm_negatives="three")


def write_captions(out: Path, extra: dict[str, dict[str, list[str]]]) -> Corpus:
    """Two captions of each image. extra: further facts of an image's captions."""
    with CorpusWriter(out, dtype="float32") as writer:
        for name, value in FEATURE.items():
            regions = np.full((2, 4), value, np.float32) + np.array([[0.5], [-0.5]], np.float32)
            writer.add_image(name, regions, np.tile(np.array([[0, 0, 1, 1]], np.float32), (2, 1)), tags=(f"{name}0",))
        rows = [
            Example(
                f"{name}-{number}", f"text {name} {number}", [name], group=name,
                extra=json.dumps(extra[name]) if name in extra else "",
            )
            for name in FEATURE
            for number in (0, 1)
        ]  # fmt: skip
        for split in ("train", "val", "test"):
            writer.add_examples("retrieval", split, rows)
        writer.commit(reader="toy", detector="external", source=[])
    return corpora.open(out)


def open_validation(corpus: Corpus, task: Task = HARD, **options: Any) -> TaskDataset:
    """The validation split with object tags and a vocabulary of the corpus."""
    tokenizer = new_task_model(config(task="retrieval"), task, corpus).wordpiece
    image_input = RegionInput(corpus, max_regions=4)
    return open_task_dataset(
        corpus, task, "val", tokenizer, image_input, max_text_tokens=12, object_tags=True, **options
    )
