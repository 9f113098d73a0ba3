"""Size and speed of a model."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vlx.inputs.dataset import TaskDataset
from vlx.objectives.supervised import logits_of

LATENCY_RUNS = 40
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Shape = Sequence[int]


class Cost(NamedTuple):
    """Parameters, and the forward pass of one example on this machine. flops: of linear maps and attention, a mean."""

    parameters: int
    flops: int
    latency_ms: float  # median
    latency_p95_ms: float

    def as_text(self) -> dict[str, str]:
        """Counts as integers, milliseconds with two decimals."""
        values = self._asdict().items()
        return {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in values}


def cost_of(model: nn.Module, dataset: TaskDataset) -> Cost:
    """Over the first LATENCY_RUNS examples, each in a batch of one; timed after a warm-up."""
    model.eval()
    device = next(model.parameters()).device
    indices = range(min(LATENCY_RUNS, len(dataset)))
    batches = [{name: values.to(device) for name, values in dataset.batch([index]).items()} for index in indices]
    times = []
    with torch.no_grad():
        for batch in [batches[0], batches[0], *batches]:
            started = time.perf_counter()
            logits_of(model, batch).cpu()
            times.append(1000 * (time.perf_counter() - started))
        with FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_flops}) as counter:
            for batch in batches:
                logits_of(model, batch)
    median, p95 = np.percentile(times[2:], [50, 95])
    parameters = sum(weight.numel() for weight in model.parameters())
    return Cost(parameters, round(counter.get_total_flops() / len(batches)), float(median), float(p95))


def attention_flops(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Of the fused kernel of CPUs, which torch does not count: [B,heads,L,D] with keys and values [B,heads,C,D]."""
    return sdpa_flop_count(query, key, value)
