"""A user's own regions: a folder `regions` of one <image id>.npz an image, as numpy.savez writes it.

features [R,D]; boxes [R,4] x1 y1 x2 y2 in 0..1, or in pixels beside size = (width, height) of the image;
and any of store.FIELDS, [R] or [R,classes].
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vlx.corpora.formats.boxes import unit_boxes
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.corpora.store import FIELDS, NO_SIZE
from vlx.errors import CorpusError

MAX_BYTES = 1 << 30  # of the arrays of one file


def regions(folder: Path) -> Iterator[RegionRecord]:
    """Image by image, in the order of the names."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise CorpusError(f"{folder}: found no .npz files, expected one an image. Add them or rename the folder.")
    yield from map(regions_of, paths)


def regions_of(path: Path) -> RegionRecord:
    loaded = load(path)
    arrays = loaded if isinstance(loaded, dict) else {"": loaded}
    refuse_other_arrays(arrays, path)
    boxes = arrays["boxes"]
    size = None
    if "size" in arrays:
        size = int(arrays["size"][0]), int(arrays["size"][1])
    if boxes.size and boxes.max() > 1:
        if size is None:
            raise CorpusError(f"{path}: boxes up to {boxes.max()}, expected 0..1, or pixels and size. Save it again.")
        boxes = unit_boxes(boxes, size, str(path))
    fields = {name: arrays[name] for name in FIELDS if name in arrays}
    return RegionRecord(path.stem, arrays["features"], boxes, str(path), size or NO_SIZE, fields)


def refuse_other_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """The names, types and shapes are those of the module's docstring."""
    boxes = arrays.get("boxes", np.zeros(0))
    size = arrays.get("size", np.ones(2))
    has_names = {"features", "boxes"} <= arrays.keys() <= {"features", "boxes", "size", *FIELDS}
    are_numbers = all(array.dtype.kind in "fiu" for array in arrays.values())
    has_shapes = boxes.shape[1:] == (4,) and size.shape == (2,)
    if not (has_names and are_numbers and has_shapes and ((size >= 1) & (size < MAX_BYTES)).all()):
        shapes = {name: f"{values.dtype}{list(values.shape)}" for name, values in arrays.items()}
        expected = f"numbers: features [R,D], boxes [R,4], perhaps size [2] and {', '.join(FIELDS)}"
        raise CorpusError(f"{path}: found {shapes}, expected {expected}. Save it again.")


def load(path: Path) -> Any:
    """The array of a .npy, or the arrays of a .npz by name. Objects are refused: nothing in the file can run."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return np.load(file, allow_pickle=False)
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                    raise ValueError(f"over {MAX_BYTES:,} bytes of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    except Exception as error:  # zipfile, zlib and numpy raise anything on a foreign file
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CorpusError(f"{path}: not numpy's arrays ({reason}). Save it again.") from None
