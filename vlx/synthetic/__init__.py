"""The built-in corpus: drawn pictures and English about them, in the official files of each task, read like any other.

Region features come from the rendered pixels. A set of eight pictures and what is said of them depend on
(seed, split, number of the set) and nothing else; no picture is in two of train, validation and test.
"""

import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlx.corpora.formats import prepare
from vlx.corpora.regions import DETECTOR
from vlx.corpora.store import Corpus
from vlx.corpora.writer import scratch
from vlx.progress import meter
from vlx.synthetic.files import TASKS
from vlx.synthetic.pictures import DIFFICULTIES, PARTS, add_picture

HELD_OUT_SHARE, HELD_OUT_LEAST = 10, 100  # validation and test: a tenth of train, at least 100 examples

__all__ = ["TASKS", "build", "write_sources"]


def build(
    out: Path | str, *, task: str = "nlvr2", seed: int = 0, size: int = 20_000, difficulty: str = "normal"
) -> Corpus:
    """Render the corpus `out` of `size` training examples of a task by way of official files beside it."""
    with scratch(Path(out), "source") as folder:
        write_sources(folder, task=task, seed=seed, size=size, difficulty=difficulty)
        return prepare(TASKS[task].format, folder, out)


def write_sources(folder: Path, *, task: str, seed: int, size: int, difficulty: str) -> None:
    """Write the task's official files, images.tar and the regions' features."""
    held_out, made = max(HELD_OUT_LEAST, size // HELD_OUT_SHARE), TASKS[task]
    sizes = (size, made.validation or held_out, held_out)[: len(made.names)]
    regions: dict[str, np.ndarray] = {}
    splits: dict[str, list[dict[str, Any]]] = {}
    with meter("scenes", sum(sizes)) as progress, tarfile.open(folder / "images.tar", "w") as archive:
        for split, part, total in zip(made.names, PARTS, sizes, strict=False):
            records, number = splits.setdefault(split, []), 0
            while len(records) < total:
                rng = random.Random(f"{seed}/{split}/{number}")
                pictures, found = made.draw(rng, split, number, part, DIFFICULTIES[difficulty], total - len(records))
                for name, picture in pictures.items():
                    regions[name] = add_picture(archive, f"images/{name}.png", picture, rng.randrange(200, 250))
                progress.advance(len(found))
                records += found
                number += 1
    made.write(folder, splits)
    if made.regions:
        return made.regions(folder, regions)
    if not regions:  # the pictures are of another kind, and the task's own
        (folder / "images.tar").unlink()
        return
    # Views of one tensor: thousands of small ones are slow to save.
    rows = torch.from_numpy(np.concatenate(list(regions.values()))).split([len(rows) for rows in regions.values()])
    torch.save(dict(zip(regions, rows, strict=True)), folder / f"{task}_{DETECTOR}_feats.pt")
