"""Oscar's region features: a torch-saved dict, image -> [R, D+6], the last six x1 y1 x2 y2 w h in 0..1."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlx.corpora.formats.files import Regions
from vlx.errors import CorpusError

BOX_TERMS = 6
ROUNDING = 1e-3  # how far a box may be beyond 0..1


def regions(path: Path) -> Iterator[Regions]:
    for name, rows in load_features(path).items():
        where = f"{path}: picture {name}"
        features, boxes = split_boxes(rows, where)
        yield Regions(str(name), features, boxes, where)


def load_features(path: Path) -> dict[str, Tensor]:
    """Nothing in the file can run. Mapped and not read, unless saved by a torch before 1.6."""
    try:
        features = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception:  # torch raises anything on a foreign file
        found = "cut, or holds more than tensors; it was not run"
        raise CorpusError(f"{path}: {found}. Expected torch-saved features.") from None
    if not isinstance(features, dict) or not features:
        raise CorpusError(f"{path}: found {type(features).__name__}, expected a dict of picture name -> [R,D+6].")
    return features


def split_boxes(rows: Tensor, where: str) -> tuple[np.ndarray, np.ndarray]:
    """[R,D+6] -> features [R,D], boxes [R,4] in 0..1."""
    if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.shape[1] <= BOX_TERMS or not rows.is_floating_point():
        found = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise CorpusError(f"{where}: found {found}, expected floats [R,D+6]. Check the feature file.")
    boxes = rows[:, -BOX_TERMS:-2].float().numpy()
    if not ((boxes > -ROUNDING) & (boxes < 1 + ROUNDING)).all():
        raise CorpusError(f"{where}: its last six columns are not x1 y1 x2 y2 w h in 0..1. Check the feature file.")
    return rows[:, :-BOX_TERMS].float().numpy(), boxes.clip(0, 1)
