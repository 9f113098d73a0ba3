"""One question of a user's own: a text, and images of the corpus or regions from a file."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from vlx import checkpoints, models, tasks
from vlx.config import PredictConfig
from vlx.corpora import Example
from vlx.corpora.formats.features import npz
from vlx.corpora.pixels import canvas_of
from vlx.errors import ConfigError
from vlx.objectives.supervised import Batch, logits_of
from vlx.tasks.pointing import PointingTask
from vlx.training import recipes
from vlx.training.batching import collate
from vlx.training.pixel_training import canvases_of, collate_pixels


class Shelf:
    """Regions of a few images, read as a corpus's are."""

    def __init__(self, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.found = found
        self.region_dim = next(iter(found.values()))[0].shape[1]

    def regions(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.found[name]


def answer(cfg: PredictConfig) -> list[tuple[str, float]]:
    """The likeliest answers and their probabilities, at most `top`."""
    if not cfg.text.strip():
        raise ConfigError(f"text={cfg.text!r}: expected words.")
    loaded = checkpoints.load(cfg.model)
    loss = "bce" if loaded.meta.get("soft_targets") else ""
    task = tasks.load(loaded.meta["task"], loaded.meta["answers"], loss=loss)
    if task.head.kind == "choose" or (isinstance(task, PointingTask) and task.chooses):
        raise ConfigError(f"text: task {task.name} chooses among an example's own; give split= for a whole split.")
    images, read = pictures_of(cfg, loaded.meta)
    if len(images) != task.head.images:
        raise ConfigError(f"images: found {len(images)}, task {task.name} is about {task.head.images}.")
    example = Dataset.from_list([Example("0", cfg.text, images)._asdict()])
    batch = read(task.encode(example, loaded.words, limit=loaded.meta["max_text_tokens"]), labels=task.head.labels)
    loaded.model.eval()
    with torch.inference_mode():
        (scores,) = task.probabilities(logits_of(loaded.model, batch).float(), batch).tolist()
    if not task.answers:
        return [(" ".join(f"{value:.3f}" for value in scores[:4]), scores[4])]
    return sorted(zip(task.answers, scores, strict=True), key=lambda pair: -pair[1])[: cfg.top]


def pictures_of(cfg: PredictConfig, meta: dict[str, Any]) -> tuple[list[str], Callable[..., Batch]]:
    """Images by their names, and what makes a batch of examples about them, as the model reads it."""
    names = [name for name in cfg.images.split(",") if name]
    if bool(names) == bool(cfg.features):
        raise ConfigError("text: expected images=<ids of the corpus, joined by commas> or features=<.npz files>.")
    if meta["system"] in models.PIXELS:
        if not names:
            raise ConfigError(f"features={cfg.features}: the model reads pictures; expected images=<their ids>.")
        return names, partial(collate_pixels, canvases=canvases_of(recipes.corpus_of(cfg), canvas_of(meta)))
    shelf = Shelf(given_regions(cfg, names))
    if meta["region_dim"] != shelf.region_dim:
        raise ConfigError(f"regions have {shelf.region_dim} features, the model reads {meta['region_dim']}.")
    return list(shelf.found), partial(collate, corpus=shelf, max_regions=meta["max_regions"])


def given_regions(cfg: PredictConfig, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of the images by id in the corpus, or of .npz files (corpora.formats.features.npz)."""
    if names:
        corpus = recipes.corpus_of(cfg)
        return {name: corpus.regions(name) for name in names}
    rows = (npz.regions_of(Path(path)) for path in cfg.features.split(","))
    return {row.image_id: (row.features, row.boxes) for row in rows}
