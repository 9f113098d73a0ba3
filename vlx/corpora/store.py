"""A corpus on disk: opened by memory map in milliseconds, shared by every worker. `writer.py` makes it, once.

manifest.json          what it is, where it came from, the size of every file, the fingerprint of its content
features.npy           [regions, D] fp16 or fp32, all images one after another; none in a corpus of images alone
boxes.npy              [regions, 4] fp32, x1 y1 x2 y2 in 0..1 of the image
<field>.npy            further predictions of the detector for every region: see FIELDS
images.arrow           image_id, start, count (rows of the matrices), width, height, tags, bytes (the file, or null)
<task>-<split>.arrow   examples
<task>-answers.json    the answer vocabulary: the official answer of every label
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from vlx.errors import CorpusError

if TYPE_CHECKING:
    from datasets import Dataset  # imported where it is used: a second that opening a corpus need not pay

FORMAT = "vlx-corpus-2"
MANIFEST = "manifest.json"
FIELDS = ("objects_id", "objects_conf", "attrs_id", "attrs_conf", "class_probs")  # LXMERT's names; ViLBERT's last one
Size = tuple[int | None, int | None]  # width and height of an image in pixels
NO_SIZE: Size = (None, None)
IMAGES = pa.schema(
    {
        "image_id": pa.string(),
        "start": pa.int64(),
        "count": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "tags": pa.list_(pa.string()),
        "bytes": pa.binary(),
    }
)
EXAMPLES = pa.schema(
    {
        "identifier": pa.string(),
        "text": pa.string(),
        "image_ids": pa.list_(pa.string()),
        "answers": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "label": pa.int64(),
        "choices": pa.list_(pa.string()),
        "boxes": pa.list_(pa.list_(pa.float32())),
        "group": pa.string(),
        "category": pa.string(),
        "extra": pa.string(),
    }
)


class Example(NamedTuple):
    """One record of an official annotation file, of any task. Fields that a task does not use stay empty."""

    identifier: str  # official and unique within the split
    text: str  # question, statement, caption or referring expression
    image_ids: list[str]
    answers: list[str] = []  # the correct ones, or the human ones, by task
    scores: list[float] = []  # 0..1, one for each answer
    label: int = -1  # class, or index of the correct one of `choices`; -1: not published
    choices: list[str] = []  # candidate texts
    boxes: list[list[float]] = []  # boxes that the text refers to, x1 y1 x2 y2 in 0..1
    group: str = ""  # examples counted together: for consistency, or all captions of an image
    category: str = ""  # type of question or answer, by which scores are split
    extra: str = ""  # JSON that the official metric needs besides


class Corpus:
    """A prepared corpus, read only. Pickled as its path: every process maps the files itself."""

    def __init__(self, path: Path | str) -> None:
        """Raises CorpusError if the corpus is not whole."""
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        self.fingerprint: str = self.manifest["fingerprint"]
        self.region_dim: int = self.manifest["region_dim"]  # 0: a corpus of images alone
        self.detector: str = self.manifest["detector"]
        self._features, self._boxes = self._matrix("features"), self._matrix("boxes")
        self._fields = {name: self._matrix(name) for name in FIELDS if f"{name}.npy" in self.manifest["files"]}
        with reading(self.path / "images.arrow") as file:
            self._images: pa.Table = pa.ipc.open_stream(pa.memory_map(str(file))).read_all()

    def _matrix(self, name: str) -> np.ndarray:
        if not self.region_dim:
            return np.zeros((0, 4 if name == "boxes" else 0), np.float32)
        with reading(self.path / f"{name}.npy") as file:
            return np.asarray(np.load(file, mmap_mode="r"))  # a plain view slices faster than a memmap

    def __reduce__(self) -> tuple[type["Corpus"], tuple[Path]]:
        return Corpus, (self.path,)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """image_id -> its row of images.arrow."""
        return {image_id: row for row, image_id in enumerate(self._images["image_id"].to_pylist())}

    @cached_property
    def _starts(self) -> np.ndarray:
        """First region of every image, and the end of the last."""
        counts = self._images["count"].to_pylist()  # arrow's to_numpy would import pandas
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def _row(self, image_id: str) -> int:
        if image_id not in self._rows:
            raise CorpusError(f"{self.path}: no image {image_id!r} among {len(self._rows):,}. Check the image id.")
        return self._rows[image_id]

    def _span(self, image_id: str) -> slice:
        row = self._row(image_id)
        return slice(self._starts[row], self._starts[row + 1])

    def splits(self, task: str) -> list[str]:
        """Names of the splits with examples of `task`."""
        tasks = self.manifest["examples"]
        if task not in tasks:
            raise CorpusError(
                f"{self.path}: no examples of task {task}; it holds {', '.join(tasks)}. Choose that task."
            )
        return list(tasks[task])

    def examples(self, task: str, split: str) -> "Dataset":
        """The memory-mapped examples of a split, in the order of the official file."""
        from datasets import Dataset

        splits = self.splits(task)
        if split not in splits:
            raise CorpusError(f"{self.path}: no split {split} of task {task}. Expected one of {', '.join(splits)}.")
        with reading(self.path / f"{task}-{split}.arrow") as file:
            return Dataset.from_file(str(file))

    def answers(self, task: str) -> list[str]:
        """The answer vocabulary of `task`, by label; empty if it has none."""
        name = f"{task}-answers.json"
        if name not in self.manifest["files"]:
            return []
        with reading(self.path / name) as file:
            return list(json.loads(file.read_bytes()))

    def image_ids(self) -> list[str]:
        return list(self._rows)

    def num_regions(self, image_id: str) -> int:
        span = self._span(image_id)
        return int(span.stop - span.start)

    def regions(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Read-only views: features [R,D] fp16 or fp32, boxes [R,4] fp32."""
        span = self._span(image_id)
        return self._features[span], self._boxes[span]

    def fields(self, image_id: str) -> dict[str, np.ndarray]:
        """Further predictions of the detector: the FIELDS that the corpus has, each [R] or [R,classes]."""
        span = self._span(image_id)
        return {name: values[span] for name, values in self._fields.items()}

    def classes(self, field: str) -> int:
        """Number of classes of one of FIELDS; 0 without it."""
        values = self._fields.get(field)
        if values is None:
            return 0
        return values.shape[1] if values.ndim == 2 else int(values.max()) + 1

    def image_size(self, image_id: str) -> Size:
        """Width and height of the image in pixels, or (None, None) if the source has neither."""
        row = self._row(image_id)
        return self._images["width"][row].as_py(), self._images["height"][row].as_py()

    def tags(self, image_id: str) -> list[str]:
        """Names of the detected objects (Oscar's object tags)."""
        return self._images["tags"][self._row(image_id)].as_py()

    def image_bytes(self, image_id: str) -> bytes | None:
        """The image's original file, or None without a file."""
        return self._images["bytes"][self._row(image_id)].as_py()

    def image(self, image_id: str) -> Image.Image | None:
        """The RGB image, or None without a file."""
        data = self.image_bytes(image_id)
        return None if data is None else Image.open(BytesIO(data)).convert("RGB")


@contextmanager
def reading(file: Path) -> Iterator[Path]:
    """Turns the exceptions of libraries on a damaged file into a CorpusError of one line."""
    try:
        yield file
    except (OSError, ValueError, KeyError, TypeError) as error:  # errors of arrow and json are ValueErrors
        first_line = str(error).partition("\n")[0]
        raise CorpusError(f"{file}: unreadable ({first_line}). Prepare the corpus again.") from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest. Raises CorpusError unless every file that it names exists and has its size."""
    if not (folder / MANIFEST).is_file():
        raise CorpusError(f"{folder}: no {MANIFEST}, so not a prepared corpus. Run prepare, or check the path.")
    with reading(folder / MANIFEST) as path:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise CorpusError(f"{path}: format {manifest['format']}, expected {FORMAT}. Prepare the corpus again.")
        sizes = dict(manifest["files"])
    for name, expected in sizes.items():
        file = folder / name
        actual = f"{file.stat().st_size:,} bytes" if file.is_file() else "nothing"
        if actual != f"{expected:,} bytes":
            raise CorpusError(f"{file}: found {actual}, expected {expected:,} bytes. Prepare the corpus again.")
    return manifest
