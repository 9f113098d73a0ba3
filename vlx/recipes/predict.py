"""Trained models on a split of a corpus, or on one text of the user."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from datasets import Dataset

from vlx import checkpoints, tasks
from vlx.checkpoints import Loaded
from vlx.config import PredictConfig
from vlx.corpora import Corpus, Example
from vlx.corpora.formats.features import npz
from vlx.errors import ConfigError
from vlx.inputs.dataset import TaskDataset
from vlx.inputs.regions import InMemoryRegions
from vlx.models.spec import load_spec
from vlx.objectives.supervised import logits_of
from vlx.recipes.build import check_task
from vlx.recipes.corpus import open_corpus
from vlx.recipes.data import image_input
from vlx.tasks.base import Task


def load_with_task(uri: str, name: str, corpus: Corpus) -> tuple[Loaded, Task]:
    """A model and its task, with the model's own answers. Raises CheckpointError if it is another task's."""
    loaded = checkpoints.load(uri)
    preprocessing = loaded.preprocessing
    loss = "bce" if preprocessing.task == name and preprocessing.soft_targets else ""
    task = tasks.load(name, preprocessing.answers or corpus.answers(name), loss=loss)
    return check_task(loaded, task, corpus), task


def answer(cfg: PredictConfig) -> list[tuple[str, float]]:
    """The top-k answers to one text with their probabilities. Raises ConfigError."""
    if not cfg.text.strip():
        raise ConfigError(f"text={cfg.text!r}: expected words.")
    loaded = checkpoints.load(cfg.model)
    preprocessing = loaded.preprocessing
    task = tasks.load(preprocessing.task, preprocessing.answers, loss="bce" if preprocessing.soft_targets else "")
    if not task.answers_one_text:
        raise ConfigError(f"text: task {task.name} chooses among an example's own; give split= for a whole split.")
    source, image_ids = image_source(cfg, loaded)
    if len(image_ids) != task.head.images:
        raise ConfigError(f"images: found {len(image_ids)}, task {task.name} is about {task.head.images}.")
    examples = Dataset.from_list([Example("0", cfg.text, image_ids)._asdict()])
    tags = source.tags if preprocessing.object_tags else None
    encoded = task.encode(examples, loaded.wordpiece, limit=preprocessing.max_text_tokens, tags=tags)
    dataset = TaskDataset("text", cast(Corpus, source), examples, encoded, task, image_input(preprocessing, source))
    loaded.model.eval()
    with torch.inference_mode():
        batch = dataset.batch([0])
        (scores,) = task.probabilities(logits_of(loaded.model, batch).float(), batch).tolist()
    return task.describe_answers(scores, cfg.top_k)


def image_source(cfg: PredictConfig, loaded: Loaded) -> tuple[Corpus | InMemoryRegions, list[str]]:
    """Where the images of a text are, and their ids: a corpus, or .npz files of regions. Raises ConfigError."""
    names = [name for name in cfg.images.split(",") if name]
    if bool(names) == bool(cfg.features):
        raise ConfigError("text: expected images=<ids of the corpus, joined by commas> or features=<.npz files>.")
    preprocessing = loaded.preprocessing
    reads_regions = load_spec(preprocessing.architecture).reads_regions
    if not reads_regions and not names:
        raise ConfigError(f"features={cfg.features}: the model reads pixels; expected images=<their ids>.")
    if names:
        source: Corpus | InMemoryRegions = open_corpus(cfg)
    else:
        source = InMemoryRegions(read_regions(cfg.features.split(",")))
        names = source.image_ids()
    if reads_regions and preprocessing.region_dim != source.region_dim:
        raise ConfigError(f"regions have {source.region_dim} features, the model reads {preprocessing.region_dim}.")
    return source, names


def read_regions(paths: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features [R,D] and boxes [R,4] of .npz files (corpora.formats.features.npz), by image id."""
    rows = [npz.regions_of(Path(path)) for path in paths]
    return {row.image_id: (row.features, row.boxes) for row in rows}
