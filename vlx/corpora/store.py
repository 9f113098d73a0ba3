"""A corpus on disk: written once, opened by memory map in milliseconds, shared by every worker.

manifest.json          what it is, where it came from, the size of every file, the fingerprint of its content
features.npy           [regions, D] fp16 or fp32, all images one after another
boxes.npy              [regions, 4] fp32, x1 y1 x2 y2 in 0..1 of the picture
images.arrow           image_id, start, count (rows of the two matrices), width, height, bytes (the picture, or null)
<task>-<split>.arrow   statements
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from PIL import Image

from vlx import __version__
from vlx.errors import CorpusError

if TYPE_CHECKING:
    from datasets import Dataset  # imported where it is used: a second that opening a corpus need not pay

FORMAT = "vlx-corpus-1"
MANIFEST = "manifest.json"
ROWS_PER_BATCH = 1_000
TEXT, NUMBER, PIXELS = pa.string(), pa.int64(), pa.int32()
IMAGES = pa.schema(
    [
        ("image_id", TEXT),
        ("start", NUMBER),
        ("count", NUMBER),
        ("width", PIXELS),
        ("height", PIXELS),
        ("bytes", pa.binary()),
    ]
)
STATEMENTS = pa.schema(
    {
        **{"identifier": TEXT, "group": TEXT, "sentence": TEXT, "image_ids": pa.list_(TEXT)},
        **{"label": NUMBER, "category": TEXT},
    }
)


class Statement(NamedTuple):
    """A sentence about pictures. `group`: statements counted together for consistency; label: 1 = true."""

    identifier: str
    group: str
    sentence: str
    image_ids: list[str]
    label: int
    category: str = ""


class Corpus:
    """A prepared corpus, read only. Pickled as its path: every process maps the files itself."""

    def __init__(self, path: Path | str) -> None:
        """Raises CorpusError if the corpus is not whole."""
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.fingerprint: str = self.manifest["fingerprint"]
        self.region_dim: int = self.manifest["region_dim"]
        self.detector: str = self.manifest["detector"]

    def __reduce__(self) -> tuple[type["Corpus"], tuple[Path]]:
        return Corpus, (self.path,)

    @cached_property
    def _features(self) -> np.ndarray:
        return map_matrix(self.path / "features.npy", (self.manifest["regions"], self.region_dim))

    @cached_property
    def _boxes(self) -> np.ndarray:
        return map_matrix(self.path / "boxes.npy", (self.manifest["regions"], 4))

    @cached_property
    def _images(self) -> pa.Table:
        return map_table(self.path / "images.arrow", IMAGES)

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int, int]]:
        """image_id -> its row of images.arrow, its first region, the one after its last."""
        start, count = (self._images[name].to_numpy() for name in ("start", "count"))
        rows = zip(range(len(start)), start.tolist(), (start + count).tolist(), strict=True)
        return dict(zip(self._images["image_id"].to_pylist(), rows, strict=True))

    def _span(self, image_id: str) -> tuple[int, int, int]:
        if image_id not in self._spans:
            raise CorpusError(f"{self.path}: no image {image_id!r} among {len(self._spans):,}. Check the image id.")
        return self._spans[image_id]

    def splits(self, task: str) -> list[str]:
        """Names of the splits with examples of `task`."""
        found = self.manifest["examples"]
        if task not in found:
            raise CorpusError(
                f"{self.path}: no examples of task {task}; it holds {', '.join(found)}. Choose that task."
            )
        return list(found[task])

    def examples(self, task: str, split: str) -> "Dataset":
        """The memory-mapped statements of a split, in the order of the official file."""
        from datasets import Dataset

        splits = self.splits(task)
        if split not in splits:
            raise CorpusError(f"{self.path}: no split {split} of task {task}. Expected one of {', '.join(splits)}.")
        path = self.path / f"{task}-{split}.arrow"
        map_table(path, STATEMENTS)  # CorpusError where datasets would say something less clear
        return Dataset.from_file(str(path))

    def num_regions(self, image_id: str) -> int:
        _, start, stop = self._span(image_id)
        return stop - start

    def regions(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Read-only views: features [R,D] fp16 or fp32, boxes [R,4] fp32."""
        _, start, stop = self._span(image_id)
        return self._features[start:stop], self._boxes[start:stop]

    def image(self, image_id: str) -> Image.Image | None:
        """The RGB picture, or None where the source had none."""
        data = self._images["bytes"][self._span(image_id)[0]].as_py()
        return None if data is None else Image.open(BytesIO(data)).convert("RGB")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, once every file it names is there in full."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CorpusError(f"{folder}: no {MANIFEST}, so not a prepared corpus. Run prepare, or check the path.")
    try:
        manifest = json.loads(path.read_bytes())
        version, files = manifest["format"], dict(manifest["files"])
        manifest["fingerprint"], manifest["region_dim"], manifest["regions"], manifest["detector"], manifest["examples"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: not the manifest of a corpus ({error}). Prepare the corpus again.") from None
    if version != FORMAT:
        raise CorpusError(f"{path}: format {version}, expected {FORMAT}. Prepare the corpus again.")
    for name, expected in files.items():
        file = folder / name
        found = f"{file.stat().st_size:,} bytes" if file.is_file() else "nothing"
        if found != f"{expected:,} bytes":
            raise CorpusError(f"{file}: found {found}, expected {expected:,} bytes. Prepare the corpus again.")
    return manifest


def map_matrix(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise CorpusError(f"{path}: unreadable ({error}). Prepare the corpus again.") from None
    if matrix.shape != shape:
        raise CorpusError(f"{path}: found a matrix {matrix.shape}, expected {shape}. Prepare the corpus again.")
    return np.asarray(matrix)  # a plain view slices faster than a memmap


def map_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise CorpusError(f"{path}: unreadable ({str(error).splitlines()[0]}). Prepare the corpus again.") from None
    if table.schema != schema:
        raise CorpusError(f"{path}: columns {table.column_names}, expected {schema.names}. Prepare the corpus again.")
    return table


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder of ours alone, removed at the end. What a killed process left in it is removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)  # the lock dies with its process
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise CorpusError(f"{folder}: another process is writing this corpus. Wait until it is done.") from None
    try:
        for stale in folder.iterdir():
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


class Matrix:
    """A .npy file [rows, width] of a length known only at the end."""

    def __init__(self, path: Path, dtype: str, width: int) -> None:
        self.file: BinaryIO = path.open("wb")
        self.dtype, self.width, self.rows, self.sha = np.dtype(dtype), width, 0, hashlib.sha256()
        self._header()

    def _header(self) -> None:
        """Numpy pads a header so that a longer first axis fits in the same bytes."""
        descr = npy.dtype_to_descr(self.dtype)
        about = {"descr": descr, "fortran_order": False, "shape": (self.rows, self.width)}
        npy.write_array_header_1_0(self.file, about)

    def write(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows, self.dtype).tobytes()
        self.file.write(data)
        self.sha.update(data)
        self.rows += len(rows)

    def close(self) -> None:
        self.file.seek(0)
        self._header()
        close_durably(self.file)


class Table:
    """An Arrow stream file, written in batches."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.file, self.schema, self.rows, self.sha = path.open("wb"), schema, 0, hashlib.sha256()
        self.stream = pa.ipc.new_stream(self.file, schema)
        self.batch: list[tuple[Any, ...]] = []

    def write(self, row: tuple[Any, ...]) -> None:
        content = [hashlib.sha256(cell).hexdigest() if isinstance(cell, bytes) else cell for cell in row]
        self.sha.update(json.dumps(content).encode())
        self.batch.append(row)
        self.rows += 1
        if len(self.batch) == ROWS_PER_BATCH:
            self.flush()

    def flush(self) -> None:
        if self.batch:
            columns = zip(zip(*self.batch, strict=True), self.schema, strict=True)
            arrays = [pa.array(cells, field.type) for cells, field in columns]
            self.stream.write_batch(pa.record_batch(arrays, schema=self.schema))
            self.batch = []

    def close(self) -> None:
        self.flush()
        self.stream.close()
        close_durably(self.file)


P = TypeVar("P", Matrix, Table)


def close_durably(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


class CorpusWriter:
    """Streams a corpus into a folder beside `out`, which `commit` renames: a half-written corpus never has its name."""

    def __init__(self, out: Path | str, *, dtype: str = "float16") -> None:
        self.out, self.dtype = Path(out), dtype
        self.image_ids: set[str] = set()
        self.examples: dict[str, dict[str, Table]] = {}
        self.features: Matrix | None = None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise CorpusError(f"{self.out}: already there, expected a new folder. Remove it or choose another one.")
        self.folder = self.stack.enter_context(scratch(self.out.parent / f".{self.out.name}.partial"))
        self.boxes = self.own(Matrix(self.folder / "boxes.npy", "float32", 4))
        self.images = self.own(Table(self.folder / "images.arrow", IMAGES))
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def own(self, part: P) -> P:
        """Close the part's file at the end, whatever happens."""
        self.stack.callback(part.file.close)
        return part

    def add_image(
        self,
        image_id: str,
        features: np.ndarray,
        boxes: np.ndarray,
        *,
        size: tuple[int, int] | None = None,
        data: bytes | None = None,
    ) -> None:
        """features [R,D], boxes [R,4] xyxy in 0..1; size: width and height in pixels; data: the picture's file."""
        if self.features is None:
            self.features = self.own(Matrix(self.folder / "features.npy", self.dtype, features.shape[1]))
        kept = check_regions(image_id, features.astype(self.dtype), boxes, self.features.width)
        if image_id in self.image_ids:
            raise CorpusError(f"image {image_id}: found twice, expected once. Remove one of them from the source.")
        self.image_ids.add(image_id)
        width, height = size or (None, None)
        self.images.write((image_id, self.features.rows, len(kept), width, height, data))
        self.features.write(kept)
        self.boxes.write(boxes)

    def add_statements(self, task: str, split: str, statements: Iterable[Statement]) -> None:
        table = self.own(Table(self.folder / f"{task}-{split}.arrow", STATEMENTS))
        self.examples.setdefault(task, {})[split] = table
        for statement in statements:
            missing = [name for name in statement.image_ids if name not in self.image_ids]
            if missing:
                raise CorpusError(f"statement {statement.identifier}: no image {missing[0]}. Check the source.")
            table.write(tuple(statement))
        table.close()

    def commit(self, *, reader: str, detector: str, source: list[dict[str, Any]]) -> None:
        """Make the corpus whole: manifest last, then one rename."""
        if self.features is None or not any(
            table.rows for tables in self.examples.values() for table in tables.values()
        ):
            raise CorpusError(f"{self.out}: the source holds no pictures or no statements. Check the source.")
        for part in (self.features, self.boxes, self.images):
            part.close()
        examples = {task: {name: part.rows for name, part in parts.items()} for task, parts in self.examples.items()}
        manifest = {
            **{"format": FORMAT, "tool": f"vlx {__version__}", "reader": reader, "detector": detector},
            **{"dtype": self.dtype, "region_dim": self.features.width, "regions": self.features.rows},
            **{"images": self.images.rows, "examples": examples, "source": source},
            "files": {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())},
            "fingerprint": self._fingerprint(self.features),
        }
        with (self.folder / MANIFEST).open("wb") as file:
            file.write(json.dumps(manifest, indent=1).encode())
            close_durably(file)
        sync_folder(self.folder)
        self.folder.rename(self.out)
        sync_folder(self.out.parent)

    def _fingerprint(self, features: Matrix) -> str:
        """Of content alone: the same source gives the same one at any time and place."""
        parts = [
            self.dtype,
            str(features.width),
            *(part.sha.hexdigest() for part in (features, self.boxes, self.images)),
        ]
        for task, tables in sorted(self.examples.items()):
            parts += [f"{task}-{split} {table.sha.hexdigest()}" for split, table in sorted(tables.items())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_regions(image_id: str, features: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """The features, if there is at least one region and every number is possible."""
    if features.ndim != 2 or features.shape[1] != width or boxes.shape != (len(features), 4) or not len(features):
        found = f"features {list(features.shape)} and boxes {list(boxes.shape)}"
        raise CorpusError(f"image {image_id}: {found}, expected [R,{width}] and [R,4] with R > 0. Check the source.")
    if not np.isfinite(features).all():
        raise CorpusError(f"image {image_id}: a feature is NaN, or beyond {features.dtype}. Check the source.")
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise CorpusError(f"image {image_id}: a box is not x1 < x2, y1 < y2 within 0..1. Check the source.")
    return features
