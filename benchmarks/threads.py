"""Training steps with torch's 2 threads, as ratios: threads that soon sleep while they wait, as vlx sets them, against
threads as torch sets them.

COMMAND   python benchmarks/threads.py [--seconds 12] [--repeats 3]

A step: 64 examples of 20 tokens and 12 regions, Oscar of the default size (4 layers, H 64), forward, backward, update.
vlx sets OMP_WAIT_POLICY=passive and GOMP_SPINCOUNT=2000 for every entry point: threads spin for about 20 microseconds,
then sleep. OpenMP reads both when torch is imported, so each count of steps comes from a new process, and the settings
take turns. The busy process computes on one core without a pause.
Ratios are best against best, so that other processes on the machine count less; the spread of the pairs is shown.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch.optim import AdamW

from vlx.models.oscar import Oscar, OscarConfig

BATCH, TEXT, REGIONS = 64, 20, 12
THREADS = 2
WARM_UP = 3  # steps before the clock starts
VLX = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000"}
COMPUTE = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with its parent
ALONE, BUSY = "alone", "beside a busy process"
WANTED = {ALONE: 0.97, BUSY: 1.0}  # steps of passive threads, in those of spinning threads


def count_steps(seconds: float) -> int:
    """Run in a process of its own, which imports torch under the policy to measure."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    model = Oscar(OscarConfig(vocab_size=2000, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
                              intermediate_size=256, img_feature_dim=14))  # fmt: skip
    optimizer = AdamW(model.parameters(), 1e-3, fused=True)
    batch = {
        "input_ids": torch.ones(BATCH, 1, TEXT, dtype=torch.long),
        "text_mask": torch.ones(BATCH, 1, TEXT, dtype=torch.bool),
        "regions": torch.rand(BATCH, 1, REGIONS, 8),
        "boxes": torch.rand(BATCH, 1, REGIONS, 4),
        "region_mask": torch.ones(BATCH, 1, REGIONS, dtype=torch.bool),
    }

    def step() -> None:
        model(batch).logits.logsumexp(-1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(WARM_UP):
        step()
    steps, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        step()
        steps += 1
    return steps


def measure(variables: dict[str, str], seconds: float) -> int:
    """Steps with these variables of OpenMP and no others."""
    for name in VLX:
        os.environ.pop(name, None)
    os.environ.update(variables)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(count_steps, seconds).result()


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", COMPUTE])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def compare(name: str, seconds: float, repeats: int) -> None:
    """Print the most steps of each policy in `repeats` pairs, their ratio, and the spread of the pairs."""
    pairs = [(measure({}, seconds), measure(VLX, seconds)) for _ in range(repeats)]
    ratios = [passive / max(spinning, 1) for spinning, passive in pairs]
    spinning, passive = (max(counts) for counts in zip(*pairs, strict=True))
    best = passive / max(spinning, 1)
    verdict = "met" if best >= WANTED[name] else "MISSED"
    steps = f"{spinning} steps unset, {passive} as vlx sets it"
    spread = f"x{best:.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
    print(f"{name:24s} {steps:40s} {spread}  wanted >= {WANTED[name]:g}: {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    print(f"{os.cpu_count()} cores, {THREADS} threads, torch {torch.__version__}, {options.seconds:g} seconds a count")
    compare(ALONE, options.seconds, options.repeats)
    with busy_process():
        compare(BUSY, options.seconds, options.repeats)


if __name__ == "__main__":
    main()
