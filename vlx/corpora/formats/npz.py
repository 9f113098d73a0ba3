"""Regions of your own: a folder `regions` of one <image id>.npz an image, as numpy.savez writes it.

features [R,D]; boxes [R,4] x1 y1 x2 y2 in 0..1, or in pixels beside size = (width, height) of the picture;
and any of store.FIELDS, [R] or [R,classes].
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vlx.corpora.formats.files import Regions, unit_boxes
from vlx.corpora.store import FIELDS, NO_SIZE
from vlx.errors import CorpusError

LARGEST = 1 << 30  # bytes of the arrays of one file


def regions(folder: Path) -> Iterator[Regions]:
    """Image by image, in the order of the names."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise CorpusError(f"{folder}: found no .npz files, expected one an image. Add them or rename the folder.")
    yield from map(regions_of, paths)


def regions_of(path: Path) -> Regions:
    loaded = load(path)
    arrays = loaded if isinstance(loaded, dict) else {"": loaded}
    boxes, limits = arrays.get("boxes", np.zeros(0)), arrays.get("size", np.ones(2))
    known = {"features", "boxes"} <= arrays.keys() <= {"features", "boxes", "size", *FIELDS}
    right = boxes.shape[1:] == (4,) and limits.shape == (2,) and all(a.dtype.kind in "fiu" for a in arrays.values())
    if not (known and right and ((limits >= 1) & (limits < LARGEST)).all()):
        found = {name: f"{values.dtype}{list(values.shape)}" for name, values in arrays.items()}
        expected = f"numbers: features [R,D], boxes [R,4], perhaps size [2] and {', '.join(FIELDS)}"
        raise CorpusError(f"{path}: found {found}, expected {expected}. Save it again.")
    size = int(limits[0]), int(limits[1])
    if boxes.size and boxes.max() > 1:
        if "size" not in arrays:
            raise CorpusError(f"{path}: boxes up to {boxes.max()}, expected 0..1, or pixels and size. Save it again.")
        boxes = unit_boxes(boxes, size, str(path))
    fields = {name: arrays[name] for name in FIELDS if name in arrays}
    return Regions(path.stem, arrays["features"], boxes, str(path), size if "size" in arrays else NO_SIZE, fields)


def load(path: Path) -> Any:
    """The array of a .npy, or those of a .npz by name. Objects are refused, so nothing in the file can run."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return np.load(file, allow_pickle=False)
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > LARGEST:
                    raise ValueError(f"over {LARGEST:,} bytes of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    except Exception as error:  # zipfile, zlib and numpy raise anything on a foreign file
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CorpusError(f"{path}: not numpy's arrays ({reason}). Save it again.") from None
