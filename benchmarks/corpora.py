"""A corpus against a loader (csv.DictReader, base64) that keeps LXMERT's regions, 36 x 2,048 an image, in memory.

COMMAND   python benchmarks/corpora.py [--images 5000 20000] [--pairs 3]      20,000: 11 GB of files, 6 GB of memory
Each measurement is a process of its own, and loader and corpus take turns; CPU seconds include those of the system.
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

REGIONS = 36  # of an image
DIM = 2048  # of a region's features
BATCH = 32
ROUNDS = 60  # batches that are timed
WORKERS = 4
TSV = "train2014_obj36.tsv"
COLUMNS = ("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf", "num_boxes", "boxes")
COLUMNS += ("features",)  # of LXMERT's TSV
ARRAYS = {  # columns that are base64 of arrays
    "objects_id": "<i8",
    "objects_conf": "<f4",
    "attrs_id": "<i8",
    "attrs_conf": "<f4",
    "boxes": "<f4",
    "features": "<f4",
}


def write_source(folder: Path, images: int) -> None:
    """Write LXMERT's VQA, one question an image; the rows of the TSV differ in the image's name alone."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 200, (REGIONS, 2))
    arrays = {
        "objects_id": random.uniform(size=REGIONS) * 400,
        "objects_conf": random.uniform(size=REGIONS),
        "attrs_id": random.uniform(size=REGIONS) * 400,
        "attrs_conf": random.uniform(size=REGIONS),
        "boxes": np.hstack([corners, corners + 200]),
        "features": random.exponential(0.5, (REGIONS, DIM)),
    }
    cells = {key: base64.b64encode(arrays[key].astype(kind).tobytes()).decode() for key, kind in ARRAYS.items()}
    cells |= {"img_id": "%s", "img_h": "480", "img_w": "640", "num_boxes": str(REGIONS)}
    row = "\t".join(cells[key] for key in COLUMNS) + "\r\n"
    names = [f"COCO_train2014_{number:012d}" for number in range(images)]
    with (folder / TSV).open("w", newline="") as file:
        file.writelines(row % name for name in names)
    questions = [
        {"sent": "What is it?", "label": {"dog": 1}, "question_id": number, "img_id": name}
        for number, name in enumerate(names)
    ]
    (folder / "train.json").write_text(json.dumps(questions))
    (folder / "trainval_label2ans.json").write_text(json.dumps(["dog"]))


def load(folder: Path) -> list[dict[str, Any]]:
    """Load all rows of the TSV into memory, as the original does (LXMERT, src/utils.py)."""
    csv.field_size_limit(sys.maxsize)
    rows = []
    with (folder / TSV).open(newline="") as file:
        for row in csv.DictReader(file, COLUMNS, delimiter="\t"):
            arrays = {key: np.frombuffer(base64.b64decode(row[key]), kind) for key, kind in ARRAYS.items()}
            rows.append(row | {key: values.reshape(REGIONS, -1) for key, values in arrays.items()})
    return rows


def prepare(folder: Path) -> corpora.Corpus:
    return corpora.prepare("lxmert-vqa", folder, folder / "corpus")


def reopen(folder: Path) -> Any:
    """Open the corpus and look up the regions of the first image."""
    return corpora.open(folder / "corpus").regions("COCO_train2014_000000000000")


def cost(step: Callable[[Path], Any], folder: Path) -> tuple[float, float, float]:
    """Return CPU and wall seconds of a step, and its peak memory above the memory before, in megabytes."""
    before = memory("self", "status", "VmRSS")
    cpu_start = time.process_time()
    wall_start = time.perf_counter()
    _result = step(folder)  # in memory until the peak is read
    cpu = time.process_time() - cpu_start
    wall = time.perf_counter() - wall_start
    return cpu, wall, memory("self", "status", "VmHWM") - before


def batches(folder: Path) -> list[float]:
    """Return the median seconds of a random batch in fp32: from rows of the TSV, read by offset and decoded, and from
    slices of the corpus, gathered and cast."""
    torch.set_num_threads(1)  # as in a worker
    corpus = corpora.open(folder / "corpus")
    names = corpus.image_ids()
    single = np.empty((BATCH, REGIONS, DIM), np.float32)
    half = np.empty((BATCH, REGIONS, DIM), np.float16)
    boxes = np.empty((BATCH, REGIONS, 4), np.float32)
    with (folder / TSV).open("rb") as file:
        offsets = [0, *(file.tell() for _ in iter(file.readline, b""))]

        def decode(chosen: np.ndarray) -> None:
            for row, number in enumerate(chosen):
                file.seek(offsets[number])
                cells = dict(zip(COLUMNS, file.readline().split(b"\t"), strict=True))
                for key, batch in (("features", single), ("boxes", boxes)):
                    batch[row] = np.frombuffer(base64.b64decode(cells[key]), "<f4").reshape(REGIONS, -1)

        def look_up(chosen: np.ndarray) -> None:
            for row, number in enumerate(chosen):
                half[row], boxes[row] = corpus.regions(names[number])
            torch.from_numpy(single).copy_(torch.from_numpy(half))

        rounds = np.random.default_rng(0).integers(0, len(names), (ROUNDS, BATCH))
        times = [[timeit(partial(step, chosen), number=1) for step in (decode, look_up)] for chosen in rounds]
    return np.median(times, 0).tolist()


def workers(folder: Path) -> tuple[float, float]:
    """Return the megabytes, with a shared page counted once, of a process that has read all regions, and of it
    and its workers after each of them has read all too."""
    corpus = corpora.open(folder / "corpus")
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(WORKERS + 1)

    def read_all(waits: int) -> None:
        for name in corpus.image_ids():
            corpus.regions(name)[0][:, ::512].sum()  # touches every page
        for _ in range(waits):
            barrier.wait()

    read_all(0)
    alone = memory("self", "smaps_rollup", "Pss")
    forked = [fork.Process(target=read_all, args=(2,)) for _ in range(WORKERS)]
    for process in forked:
        process.start()
    barrier.wait()
    together = sum(memory(process, "smaps_rollup", "Pss") for process in ("self", *(worker.pid for worker in forked)))
    barrier.wait()
    return alone, together


def memory(process: str | int | None, file: str, key: str) -> float:
    """Return the megabytes of an entry of /proc/<process>/<file>."""
    return int(Path(f"/proc/{process}/{file}").read_text().partition(f"\n{key}:")[2].split()[0]) / 1024


def in_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def compare(folder: Path, images: int, pairs: int) -> None:
    write_source(folder, images)
    loader_costs: list[tuple[float, float, float]] = []
    corpus_costs: list[tuple[float, float, float]] = []
    for _ in range(pairs):
        shutil.rmtree(folder / "corpus", ignore_errors=True)
        loader_costs.append(in_process(cost, load, folder))
        corpus_costs.append(in_process(cost, prepare, folder))
    ratios = sorted(new[0] / old[0] for old, new in zip(loader_costs, corpus_costs, strict=True))
    loader_peak = max(memory for _, _, memory in loader_costs)
    corpus_peak = max(memory for _, _, memory in corpus_costs)
    _, open_seconds, open_memory = in_process(cost, reopen, folder)
    decode_seconds, lookup_seconds = in_process(batches, folder)
    alone, together = in_process(workers, folder)
    speed_up = decode_seconds / lookup_seconds
    for line in (
        f"import: {statistics.median(ratios):.2f} [{ratios[0]:.2f}..{ratios[-1]:.2f}] of its CPU time (at most 0.6)",
        f"import: {corpus_peak:.0f} MB at the peak, the loader {loader_peak:,.0f} (at most 200)",
        f"open: {open_seconds * 1e3:.1f} ms and {open_memory:.1f} MB (at most 50 and 50)",
        f"random batch of {BATCH}: {speed_up:.1f} x faster than by offset, {lookup_seconds * 1e3:.2f} ms (at least 20)",
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
