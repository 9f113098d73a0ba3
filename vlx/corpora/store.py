"""A corpus on disk: written once, opened by memory map in milliseconds, shared by every worker.

manifest.json          what it is, where it came from, the size of every file, the fingerprint of its content
features.npy           [regions, D] fp16 or fp32, all images one after another
boxes.npy              [regions, 4] fp32, x1 y1 x2 y2 in 0..1 of the picture
images.arrow           image_id, start, count (rows of the two matrices), width, height, bytes (the picture, or null)
<task>-<split>.arrow   statements
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from uuid import uuid4

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
Size = tuple[int | None, int | None]  # width and height of a picture in pixels
NO_SIZE: Size = (None, None)
TEXT, NUMBER, PIXELS = pa.string(), pa.int64(), pa.int32()
IMAGES = pa.schema(
    {"image_id": TEXT, "start": NUMBER, "count": NUMBER, "width": PIXELS, "height": PIXELS, "bytes": pa.binary()}
)
STATEMENTS = pa.schema(
    {
        "identifier": TEXT,
        "group": TEXT,
        "sentence": TEXT,
        "image_ids": pa.list_(TEXT),
        "label": NUMBER,
        "category": TEXT,
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
        with reading(self.path / "features.npy") as file:
            self._features = np.asarray(np.load(file, mmap_mode="r"))  # a plain view slices faster than a memmap
        with reading(self.path / "boxes.npy") as file:
            self._boxes = np.asarray(np.load(file, mmap_mode="r"))
        with reading(self.path / "images.arrow") as file:
            self._images: pa.Table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()

    def __reduce__(self) -> tuple[type["Corpus"], tuple[Path]]:
        return Corpus, (self.path,)

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int, int]]:
        """image_id -> its row of images.arrow, its first region, the one after its last."""
        columns = (self._images[name].to_pylist() for name in ("image_id", "start", "count"))
        rows = enumerate(zip(*columns, strict=True))
        return {image_id: (row, start, start + count) for row, (image_id, start, count) in rows}

    def _span(self, image_id: str) -> tuple[int, int, int]:
        if image_id not in self._spans:
            raise CorpusError(f"{self.path}: no image {image_id!r} among {len(self._spans):,}. Check the image id.")
        return self._spans[image_id]

    def splits(self, task: str) -> list[str]:
        """Names of the splits with examples of `task`."""
        found = self.manifest["examples"]
        if task not in found:
            tasks = ", ".join(found)
            raise CorpusError(f"{self.path}: no examples of task {task}; it holds {tasks}. Choose that task.")
        return list(found[task])

    def examples(self, task: str, split: str) -> "Dataset":
        """The memory-mapped statements of a split, in the order of the official file."""
        from datasets import Dataset

        splits = self.splits(task)
        if split not in splits:
            raise CorpusError(f"{self.path}: no split {split} of task {task}. Expected one of {', '.join(splits)}.")
        with reading(self.path / f"{task}-{split}.arrow") as file:
            return Dataset.from_file(str(file))

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


@contextmanager
def reading(file: Path) -> Iterator[Path]:
    """What libraries raise on a damaged file becomes one line."""
    try:
        yield file
    except (OSError, ValueError, KeyError, TypeError) as error:  # arrow's and json's own are ValueErrors
        first_line = str(error).partition("\n")[0]
        raise CorpusError(f"{file}: unreadable ({first_line}). Prepare the corpus again.") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, once every file it names is there in full."""
    if not (folder / MANIFEST).is_file():
        raise CorpusError(f"{folder}: no {MANIFEST}, so not a prepared corpus. Run prepare, or check the path.")
    with reading(folder / MANIFEST) as path:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise CorpusError(f"{path}: format {manifest['format']}, expected {FORMAT}. Prepare the corpus again.")
        sizes = dict(manifest["files"])
    for name, expected in sizes.items():
        file = folder / name
        found = f"{file.stat().st_size:,} bytes" if file.is_file() else "nothing"
        if found != f"{expected:,} bytes":
            raise CorpusError(f"{file}: found {found}, expected {expected:,} bytes. Prepare the corpus again.")
    return manifest


@contextmanager
def scratch(out: Path, kind: str) -> Iterator[Path]:
    """A new folder beside `out`, removed at the end. What a killed process left of that kind is removed first."""
    for stale in out.parent.glob(f".{out.name}.{kind}-*"):
        shutil.rmtree(stale)
    folder = out.parent / f".{out.name}.{kind}-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Return once a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


class CorpusWriter:
    """Streams a corpus into a folder beside `out`, which `commit` renames: a half-written corpus never has its name."""

    def __init__(self, out: Path | str, *, dtype: str = "float16") -> None:
        self.out, self.dtype, self.stack = Path(out), dtype, ExitStack()
        self.width, self.regions, self.images = 0, 0, 0  # features of a region, and what is written so far
        self.boxes: list[np.ndarray] = []
        self.batch: list[dict[str, Any]] = []  # images not yet written
        self.examples: dict[str, dict[str, int]] = {}  # task -> split -> statements
        self.statements: list[str] = []  # what they are, in short
        self.digests = {name: hashlib.sha256() for name in ("features", "boxes", "images")}

    def __enter__(self) -> Self:
        if self.out.exists():
            raise CorpusError(f"{self.out}: already there, expected a new folder. Remove it or choose another one.")
        self.folder = self.stack.enter_context(scratch(self.out, "partial"))
        self.features_file = self.stack.enter_context((self.folder / "features.npy").open("wb"))
        self.images_file = pa.ipc.new_stream(self.folder / "images.arrow", IMAGES)
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def add_image(
        self, image_id: str, features: np.ndarray, boxes: np.ndarray, *, size: Size = NO_SIZE, data: bytes | None = None
    ) -> None:
        """features [R,D], boxes [R,4] xyxy in 0..1; size: width and height in pixels; data: the picture's file."""
        if not self.width:
            self.width = features.shape[1]
            self._write_header()
        features, boxes = features.astype(self.dtype), boxes.astype(np.float32)
        check_regions(image_id, features, boxes, self.width)
        row = (image_id, self.regions, len(boxes), *size)
        self.batch.append(dict(zip(IMAGES.names, (*row, data), strict=True)))
        if len(self.batch) == ROWS_PER_BATCH:
            self._write_batch()
        self.features_file.write(features.tobytes())
        self.boxes.append(boxes)
        self.digests["features"].update(features.tobytes())
        self.digests["boxes"].update(boxes.tobytes())
        self.digests["images"].update(json.dumps([*row, data and hashlib.sha256(data).hexdigest()]).encode())
        self.regions += len(boxes)
        self.images += 1

    def _write_header(self) -> None:
        """Of the features; numpy pads it so that more rows fit in the same bytes."""
        shape = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": (self.regions, self.width)}
        self.features_file.seek(0)
        npy.write_array_header_1_0(self.features_file, shape)

    def _write_batch(self) -> None:
        self.images_file.write_batch(pa.RecordBatch.from_pylist(self.batch, schema=IMAGES))
        self.batch = []

    def add_statements(self, task: str, split: str, statements: list[Statement]) -> None:
        with pa.ipc.new_stream(self.folder / f"{task}-{split}.arrow", STATEMENTS) as stream:
            table = pa.Table.from_pylist([row._asdict() for row in statements], STATEMENTS)
            stream.write_table(table, ROWS_PER_BATCH)
        self.examples.setdefault(task, {})[split] = len(statements)
        digest = hashlib.sha256("".join(map(json.dumps, statements)).encode()).hexdigest()
        self.statements.append(f"{task}-{split} {digest}")

    def commit(self, *, reader: str, detector: str, source: list[dict[str, Any]]) -> None:
        """Make the corpus whole: manifest last, then one rename."""
        if not self.regions or not any(sum(splits.values()) for splits in self.examples.values()):
            raise CorpusError(f"{self.out}: the source holds no pictures or no statements. Check the source.")
        self._write_header()
        self.features_file.close()
        self._write_batch()
        self.images_file.close()
        np.save(self.folder / "boxes.npy", np.concatenate(self.boxes))
        digests = [digest.hexdigest() for digest in self.digests.values()]
        content = "\n".join([self.dtype, str(self.width), *digests, *sorted(self.statements)])
        manifest = {
            **{"format": FORMAT, "tool": f"vlx {__version__}", "reader": reader, "detector": detector},
            **{"dtype": self.dtype, "region_dim": self.width, "regions": self.regions, "images": self.images},
            **{"examples": self.examples, "source": source},
            "files": {path.name: path.stat().st_size for path in sorted(self.folder.iterdir())},
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
        }
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in (*self.folder.iterdir(), self.folder):
            sync(path)
        self.folder.rename(self.out)
        sync(self.out.parent)


def check_regions(image_id: str, features: np.ndarray, boxes: np.ndarray, width: int) -> None:
    """There is at least one region and every number is possible."""
    if features.shape != (len(boxes), width) or boxes.shape != (len(boxes), 4) or not len(boxes):
        found = f"features {list(features.shape)} and boxes {list(boxes.shape)}"
        raise CorpusError(f"image {image_id}: {found}, expected [R,{width}] and [R,4] with R > 0. Check the source.")
    if not np.isfinite(features).all():
        raise CorpusError(f"image {image_id}: a feature is NaN, or beyond {features.dtype}. Check the source.")
    if not ((boxes >= 0) & (boxes <= 1)).all() or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise CorpusError(f"image {image_id}: a box is not x1 < x2, y1 < y2 within 0..1. Check the source.")
