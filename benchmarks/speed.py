"""Speed as ratios: both sides of a pair run in turn in one process; the median pair is reported with its spread.

COMMAND   make bench      (python benchmarks/speed.py [--repeats 7])
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from vlx.training.batching import epoch_batches, joint_layout

from vlx import tracking
from vlx.config import DistillConfig
from vlx.models.oscar import Oscar, OscarConfig
from vlx.training.optim import decay_groups

BATCH, TEXT, REGIONS = 32, 128, 50  # Oscar's VQA settings: every example padded to 128 tokens and 50 regions
Step = Callable[[], None]


def ratio(name: str, slow: Step, fast: Step, repeats: int) -> None:
    """Print how many times faster `fast` is: median, least and most of `repeats` pairs."""
    slow(), fast()
    pairs = []
    for _ in range(repeats):
        times = []
        for step in (slow, fast):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        pairs.append(times[0] / times[1])
    print(f"{name:58s} x{statistics.median(pairs):.2f} [{min(pairs):.2f}..{max(pairs):.2f}]")


def bucketed_against_fixed(repeats: int) -> None:
    """One training step of 32 examples. Lengths: text uniform in 8..86, regions in 20..50, 46 % of the fixed places."""
    random = np.random.default_rng(0)
    texts, regions = random.integers(8, 87, 3200), random.integers(20, 51, 3200)
    model = Oscar(OscarConfig(vocab_size=1000, hidden_size=192, num_hidden_layers=4, num_attention_heads=6,
                              intermediate_size=768, img_feature_dim=262))  # fmt: skip
    chosen = iter(epoch_batches(texts + regions, BATCH, seed=0, epoch=0))
    shuffled = iter(torch.randperm(3200, generator=torch.Generator().manual_seed(0)).split(BATCH))

    def step(batch: dict[str, Tensor]) -> None:
        model(batch).logits.logsumexp(-1).sum().backward()
        model.zero_grad()

    def joint() -> None:
        rows = next(chosen)
        step(batch_of(texts[rows], regions[rows], max(texts[rows]), max(regions[rows]), pack=True))

    def apart() -> None:
        rows = next(shuffled).numpy()
        step(batch_of(texts[rows], regions[rows], TEXT, REGIONS, pack=False))

    ratio("joint length buckets against fixed 128 + 50 padding", apart, joint, repeats)


def batch_of(
    texts: np.ndarray, regions: np.ndarray, most_text: int, most_regions: int, *, pack: bool
) -> dict[str, Tensor]:
    size, text_lengths, region_lengths = len(texts), torch.from_numpy(texts), torch.from_numpy(regions)
    batch = {
        "input_ids": torch.ones(size, 1, int(most_text), dtype=torch.long),
        "text_mask": torch.arange(int(most_text)) < text_lengths[:, None, None],
        "regions": torch.rand(size, 1, int(most_regions), 256),
        "boxes": torch.rand(size, 1, int(most_regions), 4),
        "region_mask": torch.arange(int(most_regions)) < region_lengths[:, None, None],
    }
    return batch | ({"layout": joint_layout(text_lengths, region_lengths, int(most_text))} if pack else {})


def fused_against_default(repeats: int) -> None:
    """The update of 87 M parameters, BERT base's."""
    model = Oscar(OscarConfig(vocab_size=1000, img_feature_dim=2054))
    for weight in model.parameters():
        weight.grad = torch.randn_like(weight) * 1e-3
    default, fused = (
        AdamW(decay_groups(model.named_parameters(), 0.01), 1e-5, fused=choice) for choice in (None, True)
    )
    ratio(
        f"fused against default AdamW, {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M",
        default.step,
        fused.step,
        repeats,
    )


def tracked_against_untracked(repeats: int) -> None:
    """50 training steps of a small model, six metrics every step (ten times what the loop logs) or none."""
    model = Oscar(OscarConfig(vocab_size=100, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
                              intermediate_size=256, img_feature_dim=14))  # fmt: skip
    optimizer = AdamW(model.parameters(), 1e-3, fused=True)
    lengths = np.full(64, 12)
    batch = batch_of(lengths, lengths // 2, 12, 6, pack=True) | {"regions": torch.rand(64, 1, 6, 8)}

    def steps(log: Callable[[int], None]) -> None:
        for number in range(50):
            model(batch).logits.logsumexp(-1).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            log(number)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        with tracking.run(DistillConfig(), name="benchmark", description="", folder=Path(folder) / "run") as run:
            done = iter(range(10**6))

            def log(_: int) -> None:
                run.log_metrics({f"train/{index}": 0.5 for index in range(6)}, step=next(done))

            ratio(
                "tracking off against on (above 1: what tracking costs)",
                lambda: steps(log),
                lambda: steps(lambda _: None),
                repeats,
            )


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
