"""The built-in corpus: synthetic images and English texts about them, in the official files of each task.

Region features come from the rendered pixels. Images and texts are generated in sets; a set depends on
(seed, split, index of the set) alone, and no image is in two of train, validation and test.
"""

import random
import tarfile
from pathlib import Path

import numpy as np
import torch

from vlx.corpora.formats import prepare
from vlx.corpora.regions import DETECTOR
from vlx.corpora.store import Corpus
from vlx.corpora.writer import scratch
from vlx.progress import meter
from vlx.synthetic.images import DIFFICULTIES, PARTS, add_file, png, region_rows, render
from vlx.synthetic.records import SetRequest, Splits
from vlx.synthetic.tasks import TASKS, SyntheticTask

HELD_OUT_FRACTION = 10  # validation and test: a tenth of train each ...
MIN_HELD_OUT = 100  # ... and this many examples or more

__all__ = ["DIFFICULTIES", "TASKS", "build", "write_sources"]


def build(
    out: Path | str, *, task: str = "nlvr2", seed: int = 0, size: int = 20_000, difficulty: str = "normal"
) -> Corpus:
    """Build the corpus `out` with `size` training examples of a task, from official files in a temporary folder."""
    with scratch(Path(out), "source") as folder:
        write_sources(folder, task=task, seed=seed, size=size, difficulty=difficulty)
        return prepare(TASKS[task].format, folder, out)


def write_sources(folder: Path, *, task: str, seed: int, size: int, difficulty: str) -> None:
    """Write the task's official files, images.tar and the features of the regions."""
    spec = TASKS[task]
    sizes = split_sizes(spec, size)
    splits: Splits = {split: [] for split in sizes}
    regions: dict[str, np.ndarray] = {}  # rows [R,D+6] by image name
    with (
        meter("synthetic", sum(sizes.values())) as progress,
        tarfile.open(folder / "images.tar", "w") as archive,
    ):
        for (split, records), part in zip(splits.items(), PARTS, strict=False):
            index = 0
            while len(records) < sizes[split]:
                rng = random.Random(f"{seed}/{split}/{index}")
                request = SetRequest(split, part, index, DIFFICULTIES[difficulty], sizes[split] - len(records))
                image_set = spec.generate(rng, request)
                for name, shapes in image_set.images.items():
                    image = render(shapes, rng.randrange(200, 250))
                    add_file(archive, f"images/{name}.png", content=png(image))
                    regions[name] = region_rows(image)
                progress.advance(len(image_set.records))
                records += image_set.records
                index += 1
    spec.write(folder, splits)
    if spec.write_regions:
        spec.write_regions(folder, regions)
    elif regions:
        save_regions(folder / f"{task}_{DETECTOR}_feats.pt", regions)
    else:  # the task's own writer renders the images
        (folder / "images.tar").unlink()


def split_sizes(spec: SyntheticTask, size: int) -> dict[str, int]:
    """Return the number of examples of every split."""
    held_out = max(MIN_HELD_OUT, size // HELD_OUT_FRACTION)
    sizes = (size, spec.num_validation or held_out, held_out)
    return dict(zip(spec.splits, sizes, strict=False))


def save_regions(path: Path, regions: dict[str, np.ndarray]) -> None:
    """Save rows [R,D+6] by image name, as views of one tensor: thousands of small tensors are slow to save."""
    tensor = torch.from_numpy(np.concatenate(list(regions.values())))
    views = tensor.split([len(rows) for rows in regions.values()])
    torch.save(dict(zip(regions, views, strict=True)), path)
