"""Oscar's torch-saved files. *_feats.pt: image -> [R,D+6], the last six x1 y1 x2 y2 w h in 0..1 of the picture."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlx.corpora.formats.files import Regions
from vlx.errors import CorpusError

BOX_TERMS = 6
BOXLESS = "_obj_feats"  # name of files of features alone
ROUNDING = 1e-3  # how far a box may be beyond 0..1
SIDES = 1e-2  # how far width and height may be from what the corners say, in half floats too


def regions(path: Path) -> Iterator[Regions]:
    if BOXLESS in path.name:
        expected = f"expected {path.name.replace(BOXLESS, '_feats')}. Take that file away or put this one there"
        raise CorpusError(f"{path}: found features without boxes, {expected}.")
    for name, rows in load_dict(path, "image -> [R,D+6]").items():
        where = f"{path}: picture {ascii(str(name))[1:-1][:60]}"
        features, boxes = split_boxes(rows, where)
        yield Regions(str(name), features, boxes, where)


def load_dict(path: Path, shape: str) -> dict[Any, Any]:
    """A saved dict, of `shape` in words. Nothing in the file can run. Mapped and not read, unless saved by a torch
    before 1.6."""
    try:
        mapped = zipfile.is_zipfile(path)
        if mapped:
            check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception:  # torch raises anything on a foreign file
        found = "cut, or holds more than tensors; it was not run"
        raise CorpusError(f"{path}: {found}. Expected a torch-saved dict, {shape}.") from None
    if not isinstance(content, dict) or not content:
        found = "nothing in it" if content == {} else type(content).__name__
        raise CorpusError(f"{path}: found {found}, expected a torch-saved dict, {shape}. Is the download complete?")
    return content


def check_archive(path: Path) -> None:
    """What torch leaves unchecked: that nothing grows when it is read, and that names and shapes are as saved."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile("torch compresses nothing")
            if entry.filename.endswith("/data.pkl"):
                archive.read(entry)  # raises where its checksum is wrong


def split_boxes(rows: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of what is saved as one image's."""
    if not isinstance(rows, Tensor) or rows.ndim != 2 or not rows.is_floating_point():
        found = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise CorpusError(f"{where}: found {found}, expected floats [R,D+6]. Check the feature file.")
    if rows.numel() * rows.element_size() > rows.untyped_storage().nbytes():
        raise CorpusError(f"{where}: found {list(rows.shape)} in fewer bytes than that. Get the feature file again.")
    return split_array(rows.float().numpy(), where)


def split_array(rows: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """[R,D+6] -> features [R,D], boxes [R,4] in 0..1."""
    if rows.shape[1] <= BOX_TERMS:
        raise CorpusError(f"{where}: found {list(rows.shape)}, expected floats [R,D+6]. Check the feature file.")
    boxes, sides = rows[:, -BOX_TERMS:-2], rows[:, -2:]
    within = ((boxes > -ROUNDING) & (boxes < 1 + ROUNDING)).all()
    if not within or not (np.abs(np.abs(boxes[:, 2:] - boxes[:, :2]) - sides) < SIDES).all():
        raise CorpusError(f"{where}: its last six columns are not x1 y1 x2 y2 w h in 0..1. Check the feature file.")
    return rows[:, :-BOX_TERMS], boxes.clip(0, 1)
