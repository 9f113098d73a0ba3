"""A corpus against a csv.DictReader and base64 loader that keeps LXMERT's regions, 36 x 2,048 an image, in memory.

COMMAND   python benchmarks/corpora.py [--images 5000 20000] [--pairs 3]      20,000: 11 GB of files, 6 GB of memory
Each measurement is a process of its own, the two sides of a pair in turn; CPU seconds count the system's too.
"""

import argparse
import base64
import csv
import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import timeit
from typing import Any

import numpy as np
import torch

from vlx import corpora
from vlx.corpora.formats.features.lxmert_tsv import DETECTED, LXMERT

REGIONS, DIM, BATCH, ROUNDS, WORKERS = 36, 2048, 32, 60, 4
ARRAYS = {**DETECTED, "boxes": "<f4", "features": "<f4"}
TSV = "train2014_obj36.tsv"


def write_source(folder: Path, images: int) -> None:
    """LXMERT's VQA, a question an image; the rows of the TSV are alike but for the image's name."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 200, (REGIONS, 2))
    arrays = {key: random.uniform(size=REGIONS) * (400 if key.endswith("_id") else 1) for key in DETECTED}
    arrays |= {"boxes": np.hstack([corners, corners + 200]), "features": random.exponential(0.5, (REGIONS, DIM))}
    cells = {key: base64.b64encode(arrays[key].astype(kind).tobytes()).decode() for key, kind in ARRAYS.items()}
    cells |= {"img_id": "%s", "img_h": "480", "img_w": "640", "num_boxes": str(REGIONS)}
    row = "\t".join(cells[key] for key in LXMERT) + "\r\n"
    names = [f"COCO_train2014_{number:012d}" for number in range(images)]
    with (folder / TSV).open("w", newline="") as file:
        file.writelines(row % name for name in names)
    same = {"sent": "What is it?", "label": {"dog": 1}}
    questions = [same | {"question_id": number, "img_id": name} for number, name in enumerate(names)]
    (folder / "train.json").write_text(json.dumps(questions))
    (folder / "trainval_label2ans.json").write_text(json.dumps(["dog"]))


def load(folder: Path) -> list[dict[str, Any]]:
    """The straightforward loader."""
    csv.field_size_limit(sys.maxsize)
    rows = []
    with (folder / TSV).open(newline="") as file:
        for row in csv.DictReader(file, LXMERT, delimiter="\t"):
            arrays = {key: np.frombuffer(base64.b64decode(row[key]), kind) for key, kind in ARRAYS.items()}
            rows.append(row | {key: values.reshape(REGIONS, -1) for key, values in arrays.items()})
    return rows


def prepare(folder: Path) -> corpora.Corpus:
    return corpora.prepare("lxmert-vqa", folder, folder / "corpus")


def reopen(folder: Path) -> Any:
    """Opened, and the first regions looked up."""
    return corpora.open(folder / "corpus").regions("COCO_train2014_000000000000")


def cost(step: Callable[[Path], Any], folder: Path) -> tuple[float, float, float]:
    """CPU and wall seconds of a step, and at its peak the megabytes above those before."""
    before, cpu, wall = memory("self", "status", "VmRSS"), time.process_time(), time.perf_counter()
    _kept = step(folder)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu, wall, memory("self", "status", "VmHWM") - before


def batches(folder: Path) -> list[float]:
    """Seconds a random batch: rows of the TSV found by offset, decoded, or slices of the corpus gathered and cast; both
    into the same fp32 arrays."""
    torch.set_num_threads(1)  # as in a worker
    names = (corpus := corpora.open(folder / "corpus")).image_ids()
    single, half = (np.empty((BATCH, REGIONS, DIM), kind) for kind in (np.float32, np.float16))
    boxes = np.empty((BATCH, REGIONS, 4), np.float32)
    with (folder / TSV).open("rb") as file:
        offsets = [0, *(file.tell() for _ in iter(file.readline, b""))]

        def decode(chosen: np.ndarray) -> None:
            for place, number in enumerate(chosen):
                file.seek(offsets[number])
                cells = dict(zip(LXMERT, file.readline().split(b"\t"), strict=True))
                for key, batch in (("features", single), ("boxes", boxes)):
                    batch[place] = np.frombuffer(base64.b64decode(cells[key]), "<f4").reshape(REGIONS, -1)

        def look_up(chosen: np.ndarray) -> None:
            for place, number in enumerate(chosen):
                half[place], boxes[place] = corpus.regions(names[number])
            torch.from_numpy(single).copy_(torch.from_numpy(half))

        rounds = np.random.default_rng(0).integers(0, len(names), (ROUNDS, BATCH))
        times = [[timeit(partial(step, chosen), number=1) for step in (decode, look_up)] for chosen in rounds]
    return np.median(times, 0).tolist()


def workers(folder: Path) -> tuple[float, float]:
    """Megabytes, a shared page once: of a process that has read all regions, and with its workers that have too."""
    corpus, fork = corpora.open(folder / "corpus"), multiprocessing.get_context("fork")
    barrier = fork.Barrier(WORKERS + 1)

    def read_all(waits: int) -> None:
        for name in corpus.image_ids():
            corpus.regions(name)[0][:, ::512].sum()  # of every page
        for _ in range(waits):
            barrier.wait()

    read_all(0)
    alone = memory("self", "smaps_rollup", "Pss")
    forked = [fork.Process(target=read_all, args=(2,)) for _ in range(WORKERS)]
    for process in forked:
        process.start()
    barrier.wait()
    together = sum(memory(process, "smaps_rollup", "Pss") for process in ("self", *(each.pid for each in forked)))
    barrier.wait()
    return alone, together


def memory(process: str | int | None, file: str, key: str) -> float:
    """Megabytes, of /proc/<process>/<file>."""
    return int(Path(f"/proc/{process}/{file}").read_text().partition(f"\n{key}:")[2].split()[0]) / 1024


def apart(measure: Callable[..., Any], *given: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *given).result()


def compare(folder: Path, images: int, pairs: int) -> None:
    write_source(folder, images)
    costs = []
    for _ in range(pairs):
        shutil.rmtree(folder / "corpus", ignore_errors=True)
        costs.append((apart(cost, load, folder), apart(cost, prepare, folder)))
    shares = sorted(ours[0] / theirs[0] for theirs, ours in costs)
    held, peak = (max(run[-1] for run in side) for side in zip(*costs, strict=True))
    (_, seconds, opened), (decoded, found) = apart(cost, reopen, folder), apart(batches, folder)
    alone, together = apart(workers, folder)
    for line in (
        f"import: {statistics.median(shares):.2f} [{shares[0]:.2f}..{shares[-1]:.2f}] of its CPU time (at most 0.6)",
        f"import: {peak:.0f} MB at the peak, it holds {held:,.0f} (at most 200)",
        f"open: {seconds * 1e3:.1f} ms and {opened:.1f} MB (at most 50 and 50)",
        f"random batch of {BATCH}: {decoded / found:.1f} x faster than by offset, {found * 1e3:.2f} ms (at least 20)",
        f"{WORKERS} workers: {together / alone - 1:.1%} added to {alone:,.0f} MB (at most 5 %)",
    ):
        print(f"{images:6,d} images   {line}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 20_000])
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    for images in options.images:
        with TemporaryDirectory() as folder:
            compare(Path(folder), images, options.pairs)


if __name__ == "__main__":
    main()
