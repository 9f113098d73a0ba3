"""Oscar's torch-saved files. *_feats.pt: image -> [R,D+6], the last six x1 y1 x2 y2 w h in 0..1 of the image."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.errors import CorpusError

BOX_TERMS = 6
WITHOUT_BOXES = "_obj_feats"  # part of the names of files of features alone
ROUNDING = 1e-3  # how far a box may lie beyond 0..1
SIDE_ROUNDING = 1e-2  # how far width and height may differ from the corners, in half precision too


def regions(path: Path) -> Iterator[RegionRecord]:
    if WITHOUT_BOXES in path.name:
        expected = path.name.replace(WITHOUT_BOXES, "_feats")
        raise CorpusError(f"{path}: found features without boxes, expected {expected}. Replace the file by that one.")
    for name, rows in load_dict(path, "image -> [R,D+6]").items():
        where = f"{path}: image {ascii(str(name))[1:-1][:60]}"
        features, boxes = split_tensor(rows, where)
        yield RegionRecord(str(name), features, boxes, where)


def load_dict(path: Path, shape: str) -> dict[Any, Any]:
    """A saved dict; nothing in the file can run. Memory-mapped, unless saved by a torch before 1.6.

    shape: of the dict in words, for the error.
    """
    try:
        is_archive = zipfile.is_zipfile(path)
        if is_archive:
            check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception:  # torch raises anything on a foreign file
        problem = "cut, or holds more than tensors; it was not run"
        raise CorpusError(f"{path}: {problem}. Expected a torch-saved dict, {shape}.") from None
    if not isinstance(content, dict) or not content:
        actual = "nothing in it" if content == {} else type(content).__name__
        raise CorpusError(f"{path}: found {actual}, expected a torch-saved dict, {shape}. Is the download complete?")
    return content


def check_archive(path: Path) -> None:
    """What torch does not check: that no entry is compressed, so that reading needs no more memory than the file's
    size, and that names and shapes have their checksum."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile("torch compresses nothing")
            if entry.filename.endswith("/data.pkl"):
                archive.read(entry)  # raises if its checksum is wrong


def split_tensor(rows: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The saved value of an image -> features [R,D], boxes [R,4] in 0..1."""
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.is_floating_point():
        actual = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise CorpusError(f"{where}: found {actual}, expected floats [R,D+6]. Check the feature file.")
    if rows.numel() * rows.element_size() > rows.untyped_storage().nbytes():
        raise CorpusError(f"{where}: found {list(rows.shape)} in fewer bytes than that. Get the feature file again.")
    return split_array(rows.float().numpy(), where)


def split_array(rows: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """[R,D+6] -> features [R,D], boxes [R,4] in 0..1."""
    if rows.shape[1] <= BOX_TERMS:
        raise CorpusError(f"{where}: found {list(rows.shape)}, expected floats [R,D+6]. Check the feature file.")
    boxes = rows[:, -BOX_TERMS:-2]
    sides = rows[:, -2:]
    are_inside = ((boxes > -ROUNDING) & (boxes < 1 + ROUNDING)).all()
    if not are_inside or not (np.abs(np.abs(boxes[:, 2:] - boxes[:, :2]) - sides) < SIDE_ROUNDING).all():
        raise CorpusError(f"{where}: its last six columns are not x1 y1 x2 y2 w h in 0..1. Check the feature file.")
    return rows[:, :-BOX_TERMS], boxes.clip(0, 1)
