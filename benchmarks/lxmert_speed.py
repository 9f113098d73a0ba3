"""A training step of vlx's LXMERT against that of transformers, as a ratio of times; both take turns in one process.

COMMAND   python benchmarks/lxmert_speed.py [--repeats 9]

A step: 8 examples of 20 tokens and 36 regions, forward, backward from the pooled vector, update; dropout .1.
vlx: scaled_dot_product_attention, fused AdamW, and after the last cross-attention only what an answer needs.
transformers: LxmertModel with torch's default AdamW.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn
from torch.optim import AdamW

from vlx.models.lxmert import Lxmert, LxmertConfig

BATCH = 8
TEXT = 20  # tokens of an example
REGIONS = 36  # of an example
THREADS = 2
Step = Callable[[], None]


class Size(NamedTuple):
    layers: tuple[int, int, int]  # language, cross-modality, region
    hidden: int
    heads: int
    repeats: int  # steps that are timed together
    goal: float  # least ratio


SIZES = {
    "small, lxr 3-1-2, H 256": Size((3, 1, 2), 256, 4, 8, 1.5),
    "base, lxr 9-5-5, H 768": Size((9, 5, 5), 768, 12, 1, 1.2),
}


def batch_of() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(1, 30522, (BATCH, TEXT), generator=generator),
        "text_mask": torch.ones(BATCH, TEXT, dtype=torch.bool),
        "regions": torch.rand(BATCH, REGIONS, 2048, generator=generator),
        "boxes": torch.rand(BATCH, REGIONS, 4, generator=generator),
        "region_mask": torch.ones(BATCH, REGIONS, dtype=torch.bool),
    }


def training(model: nn.Module, pooled: Callable[[], Tensor], optimizer: AdamW, repeats: int) -> Step:
    def step() -> None:
        for _ in range(repeats):
            pooled().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    model.train()
    return step


def vlx_step(size: Size, batch: dict[str, Tensor]) -> Step:
    language, cross, region = size.layers
    model = Lxmert(LxmertConfig(
        num_hidden_layers=language, cross_layers=cross, region_layers=region, hidden_size=size.hidden,
        num_attention_heads=size.heads, intermediate_size=4 * size.hidden,
    ))  # fmt: skip
    return training(model, lambda: model(batch).pooled, AdamW(model.parameters(), 1e-5, fused=True), size.repeats)


def transformers_step(size: Size, batch: dict[str, Tensor]) -> Step:
    language, cross, region = size.layers
    model = transformers.LxmertModel(transformers.LxmertConfig(
        l_layers=language, x_layers=cross, r_layers=region, hidden_size=size.hidden, num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
    ))  # fmt: skip
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["text_mask"].float(),
        "visual_feats": batch["regions"],
        "visual_pos": batch["boxes"],
        "visual_attention_mask": batch["region_mask"].float(),
    }
    return training(model, lambda: model(**inputs).pooled_output, AdamW(model.parameters(), 1e-5), size.repeats)


def seconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(THREADS)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for name, size in SIZES.items():
        batch = batch_of()
        slow = transformers_step(size, batch)
        fast = vlx_step(size, batch)
        slow()
        fast()
        pairs = [(seconds(slow), seconds(fast)) for _ in range(repeats)]
        ratios = [slow_time / fast_time for slow_time, fast_time in pairs]
        best = min(first for first, _ in pairs) / min(second for _, second in pairs)
        spread = f"x{statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
        print(f"{name:24s} {spread}, best against best x{best:.2f}; goal x{size.goal}")


if __name__ == "__main__":
    main()
