"""Speed as ratios: slow and fast take turns in one process; the median pair is reported with its spread.

COMMAND   make bench      (python benchmarks/speed.py [--repeats 7])
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from vlx import tracking
from vlx.config import DistillConfig
from vlx.inputs.packing import joint_packing
from vlx.inputs.sampler import epoch_batches
from vlx.models.oscar import Oscar, OscarConfig
from vlx.training.optim import decay_groups

BATCH = 32
TEXT = 128  # tokens to which Oscar's VQA settings pad every example
REGIONS = 50  # to which they pad it too
Step = Callable[[], None]


def print_ratio(name: str, *, slow: Step, fast: Step, repeats: int) -> None:
    """Print how many times faster `fast` is: median, least and most of `repeats` pairs."""
    slow()
    fast()
    ratios = [seconds(slow) / seconds(fast) for _ in range(repeats)]
    print(f"{name:58s} x{statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]")


def seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def bucketed_against_fixed(repeats: int) -> None:
    """A training step of 32 examples of 8 to 86 tokens and 20 to 50 regions, which fill 46 % of the fixed padding."""
    random = np.random.default_rng(0)
    texts = random.integers(8, 87, 3200)
    regions = random.integers(20, 51, 3200)
    model = Oscar(OscarConfig(vocab_size=1000, hidden_size=192, num_hidden_layers=4, num_attention_heads=6,
                              intermediate_size=768, img_feature_dim=262))  # fmt: skip
    bucketed = iter(epoch_batches(texts + regions, BATCH, seed=0, epoch=0))
    shuffled = iter(torch.randperm(3200, generator=torch.Generator().manual_seed(0)).split(BATCH))

    def step(batch: dict[str, Tensor]) -> None:
        model(batch).logits.logsumexp(-1).sum().backward()
        model.zero_grad()

    def packed() -> None:
        rows = next(bucketed)
        step(packed_batch(texts[rows], regions[rows]))

    def padded() -> None:
        rows = next(shuffled).numpy()
        step(padded_batch(texts[rows], regions[rows], num_tokens=TEXT, num_regions=REGIONS))

    name = "joint length buckets against fixed 128 + 50 padding"
    print_ratio(name, slow=padded, fast=packed, repeats=repeats)


def padded_batch(
    texts: np.ndarray, regions: np.ndarray, *, num_tokens: int, num_regions: int, dim: int = 256
) -> dict[str, Tensor]:
    """Return examples of the given lengths, padded. texts, regions: their lengths [B]."""
    size = len(texts)
    return {
        "input_ids": torch.ones(size, 1, num_tokens, dtype=torch.long),
        "text_mask": torch.arange(num_tokens) < torch.from_numpy(texts)[:, None, None],
        "regions": torch.rand(size, 1, num_regions, dim),
        "boxes": torch.rand(size, 1, num_regions, 4),
        "region_mask": torch.arange(num_regions) < torch.from_numpy(regions)[:, None, None],
    }


def packed_batch(texts: np.ndarray, regions: np.ndarray, *, dim: int = 256) -> dict[str, Tensor]:
    """Return examples of the given lengths, whose text and regions share one axis that is padded once."""
    num_tokens = int(texts.max())
    batch = padded_batch(texts, regions, num_tokens=num_tokens, num_regions=int(regions.max()), dim=dim)
    return batch | {"packing": joint_packing(torch.from_numpy(texts), torch.from_numpy(regions), num_tokens)}


def fused_against_default(repeats: int) -> None:
    """An update of the 87 M parameters of BERT base."""
    model = Oscar(OscarConfig(vocab_size=1000, img_feature_dim=2054))
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight) * 1e-3
    default = AdamW(decay_groups(model.named_parameters(), 0.01), 1e-5)
    fused = AdamW(decay_groups(model.named_parameters(), 0.01), 1e-5, fused=True)
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    name = f"fused against default AdamW, {millions:.0f} M"
    print_ratio(name, slow=default.step, fast=fused.step, repeats=repeats)


def tracked_against_untracked(repeats: int) -> None:
    """50 training steps of a small model, with six metrics every step (ten times what the loop logs) or none."""
    model = Oscar(OscarConfig(vocab_size=100, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
                              intermediate_size=256, img_feature_dim=14))  # fmt: skip
    optimizer = AdamW(model.parameters(), 1e-3, fused=True)
    lengths = np.full(64, 12)
    batch = packed_batch(lengths, lengths // 2, dim=8)

    def step() -> None:
        model(batch).logits.logsumexp(-1).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        with tracking.run(DistillConfig(), name="benchmark", description="", folder=Path(folder) / "run") as run:
            numbers = count()

            def tracked() -> None:
                for _ in range(50):
                    step()
                    run.log_metrics({f"train/{index}": 0.5 for index in range(6)}, step=next(numbers))

            def untracked() -> None:
                for _ in range(50):
                    step()

            name = "tracking off against on (above 1: what tracking costs)"
            print_ratio(name, slow=tracked, fast=untracked, repeats=repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    bucketed_against_fixed(repeats)
    fused_against_default(repeats)
    tracked_against_untracked(repeats)


if __name__ == "__main__":
    main()
