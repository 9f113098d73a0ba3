"""Writes a corpus, streaming: memory stays flat, and a half-written corpus never has a corpus's name."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedWriter, BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from PIL import Image

from vlx import __version__
from vlx.corpora.store import EXAMPLES, FIELDS, FORMAT, IMAGES, MANIFEST, NO_SIZE, Example, Size
from vlx.errors import CorpusError
from vlx.files import flush

ROWS_PER_BATCH = 1_000
FIRST_INFINITE = {"float16": 65_520.0, "float32": 2.0**128 - 2.0**103}  # the smallest number rounded to infinity
BYTES_PER_BATCH = 1 << 25  # of image files


Detect = Callable[[Image.Image], tuple[np.ndarray, np.ndarray]]  # image -> features [R,D], boxes [R,4] in 0..1


class Matrix:
    """A .npy file that grows by rows; its first line is written again at the end."""

    def __init__(self, path: Path, like: np.ndarray) -> None:
        self.file: BufferedWriter = path.open("wb")
        self.dtype = like.dtype
        self.row_shape = like.shape[1:]
        self.rows = 0
        self.digest = hashlib.sha256()
        self._write_header()

    def _write_header(self) -> None:
        """numpy pads it so that more rows fit in the same bytes."""
        shape = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.row_shape)}
        self.file.seek(0)
        npy.write_array_header_1_0(self.file, shape)

    def add(self, rows: np.ndarray) -> None:
        content = np.ascontiguousarray(rows).data
        self.file.write(content)
        self.digest.update(content)
        self.rows += len(rows)

    def close(self) -> None:
        self._write_header()
        self.file.close()


class CorpusWriter:
    """Writes into a folder beside `out`, which `commit` renames."""

    def __init__(self, out: Path | str, *, dtype: str = "float16", detect: Detect | None = None) -> None:
        """detect: finds the regions of images that come without."""
        self.out = Path(out)
        self.dtype = dtype
        self.detect = detect
        self.stack = ExitStack()
        self.region_dim = 0
        self.regions = 0  # written so far
        self.matrices: dict[str, Matrix] = {}
        self.batch: list[dict[str, Any]] = []  # rows of images.arrow, not yet written
        self.batch_bytes = 0
        self.image_ids: dict[str, Size] = {}  # image id -> size, of all images written
        self.examples: dict[str, dict[str, int]] = {}  # task -> split -> examples
        self.contents: list[str] = []  # digests of examples and answers
        self.images_digest = hashlib.sha256()

    def __enter__(self) -> Self:
        if self.out.exists():
            raise CorpusError(f"{self.out}: already there, expected a new folder. Remove it or choose another one.")
        self.folder = self.stack.enter_context(scratch(self.out, "partial"))
        self.images_file = pa.ipc.new_stream(self.folder / "images.arrow", IMAGES)
        return self

    def __exit__(self, *error: object) -> None:
        for matrix in self.matrices.values():
            matrix.file.close()
        self.stack.close()

    def add_image(
        self, image_id: str, features: np.ndarray | None = None, boxes: np.ndarray | None = None,
        *, size: Size = NO_SIZE, data: bytes | None = None,
        fields: Mapping[str, np.ndarray] | None = None, tags: Sequence[str] = (), where: str = "",
    ) -> None:  # fmt: skip
        """features [R,D], boxes [R,4] xyxy in 0..1, fields [R] or [R,classes] by name (FIELDS): all images or none
        have them. size: width and height in pixels; data: the image file; where: it was read, for errors."""
        where = where or f"image {image_id}"
        if image_id in self.image_ids:
            raise CorpusError(f"{where}: image {image_id} found twice, expected once. Remove one of them.")
        count = 0
        if features is None and data is not None and self.detect:
            features, boxes = self.detect(Image.open(BytesIO(data)).convert("RGB"))
        if features is not None and boxes is not None:
            count = len(boxes)
            arrays = {"features": cast(features, self.dtype, where), "boxes": boxes.astype(np.float32)}
            arrays |= {name: compact(values, self.dtype) for name, values in (fields or {}).items()}
            self._add_regions(arrays, where)
        elif self.matrices:
            raise CorpusError(f"{where}: no regions, but other images have them. Check the feature files.")
        row = (image_id, self.regions, count, *size, list(tags))
        self.batch.append(dict(zip(IMAGES.names, (*row, data), strict=True)))
        self.batch_bytes += len(data or b"")
        if len(self.batch) == ROWS_PER_BATCH or self.batch_bytes >= BYTES_PER_BATCH:
            self._write_batch()
        self.images_digest.update(json.dumps([*row, data and hashlib.sha256(data).hexdigest()]).encode())
        self.regions += count
        self.image_ids[image_id] = size

    def _add_regions(self, arrays: dict[str, np.ndarray], where: str) -> None:
        if not self.matrices:
            if self.image_ids:
                raise CorpusError(f"{where}: regions, but other images have none. Check the feature files.")
            unknown = arrays.keys() - {"features", "boxes", *FIELDS}
            if unknown:
                raise CorpusError(f"{where}: region fields {sorted(unknown)}, expected some of {FIELDS}.")
            self.region_dim = arrays["features"].shape[-1]
            self.matrices = {name: Matrix(self.folder / f"{name}.npy", rows) for name, rows in arrays.items()}
        check_regions(where, arrays["features"], arrays["boxes"], self.region_dim)
        if arrays.keys() != self.matrices.keys():
            names = f"found {sorted(arrays)}, other images have {sorted(self.matrices)}"
            raise CorpusError(f"{where}: {names}. Check the feature files.")
        for name, rows in arrays.items():
            matrix = self.matrices[name]
            if rows.shape != (len(arrays["boxes"]), *matrix.row_shape):
                shape = f"{name} {list(rows.shape)} for {len(arrays['boxes'])} regions"
                raise CorpusError(f"{where}: {shape}, other images have {list(matrix.row_shape)} a region.")
            matrix.add(rows)

    def _write_batch(self) -> None:
        self.images_file.write_batch(pa.RecordBatch.from_pylist(self.batch, schema=IMAGES))
        self.batch, self.batch_bytes = [], 0

    def add_examples(self, task: str, split: str, examples: Iterable[Example]) -> None:
        digest, count = hashlib.sha256(), 0
        with pa.ipc.new_stream(self.folder / f"{task}-{split}.arrow", EXAMPLES) as stream:
            remaining = iter(examples)
            while rows := list(islice(remaining, ROWS_PER_BATCH)):
                stream.write_batch(pa.RecordBatch.from_pylist([row._asdict() for row in rows], schema=EXAMPLES))
                digest.update("".join(map(json.dumps, rows)).encode())
                count += len(rows)
        self.examples.setdefault(task, {})[split] = count
        self.contents.append(f"{task}-{split} {digest.hexdigest()}")

    def add_answers(self, task: str, answers: Sequence[str]) -> None:
        """The answer vocabulary: the answer of label 0, 1, ..."""
        if len(set(answers)) != len(answers):
            duplicate = next(answer for answer in answers if list(answers).count(answer) > 1)
            raise CorpusError(
                f"answers of {task}: {duplicate!r} found twice, expected each once. Check the vocabulary."
            )
        text = json.dumps(list(answers))
        (self.folder / f"{task}-answers.json").write_text(text, encoding="utf-8")
        self.contents.append(f"{task}-answers {hashlib.sha256(text.encode()).hexdigest()}")

    def commit(self, *, reader: str, detector: str, source: list[dict[str, Any]]) -> None:
        """Make the corpus whole: manifest last, then one rename."""
        if not self.image_ids or not any(sum(splits.values()) for splits in self.examples.values()):
            raise CorpusError(f"{self.out}: the source holds no images or no examples. Check the source.")
        self._write_batch()
        self.images_file.close()
        for matrix in self.matrices.values():
            matrix.close()
        digests = [f"{name} {matrix.digest.hexdigest()}" for name, matrix in sorted(self.matrices.items())]
        content = "\n".join([self.dtype, *digests, self.images_digest.hexdigest(), *sorted(self.contents)])
        manifest = {
            "format": FORMAT,
            "tool": f"vlx {__version__}",
            "reader": reader,
            "detector": detector,
            "dtype": self.dtype,
            "region_dim": self.region_dim,
            "regions": self.regions,
            "images": len(self.image_ids),
            "examples": self.examples,
            "source": source,
            "files": {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())},
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
        }
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in (*self.folder.iterdir(), self.folder):
            flush(path)
        self.folder.rename(self.out)
        flush(self.out.parent)


def cast(features: np.ndarray, dtype: str, where: str) -> np.ndarray:
    """The features in `dtype`, all finite; checked before the cast, which is faster than to search fp16."""
    if features.size and not float(np.abs(features).max()) < FIRST_INFINITE[dtype]:
        hint = "Check the source, or prepare with dtype=float32."
        raise CorpusError(f"{where}: a feature is NaN, or beyond {dtype}. {hint}")
    return features.astype(dtype)


def compact(values: np.ndarray, dtype: str) -> np.ndarray:
    """Ids as int32, one number a region as fp32, a distribution a region in the dtype of the features."""
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int32)
    return values.astype(np.float32 if values.ndim == 1 else dtype)


def check_regions(where: str, features: np.ndarray, boxes: np.ndarray, region_dim: int) -> None:
    """Refuses no regions, other shapes, and boxes outside the image."""
    if features.shape != (len(boxes), region_dim) or boxes.shape != (len(boxes), 4) or not len(boxes):
        shapes = f"features {list(features.shape)} and boxes {list(boxes.shape)}"
        raise CorpusError(f"{where}: {shapes}, expected [R,{region_dim}] and [R,4] with R > 0. Check the source.")
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, :2] <= boxes[:, 2:]).all():
        raise CorpusError(f"{where}: a box is not x1 <= x2, y1 <= y2 within 0..1. Check the source.")


@contextmanager
def scratch(out: Path, kind: str) -> Iterator[Path]:
    """A new folder beside `out`, removed at the end. What a killed process left behind is removed first."""
    for stale in out.parent.glob(f".{out.name}.{kind}-*"):
        shutil.rmtree(stale)
    folder = out.parent / f".{out.name}.{kind}-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
