"""Scores of a model on a split; the model's size and speed."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from vlx.objectives.supervised import logits_of
from vlx.progress import meter
from vlx.tasks import Task
from vlx.training.batching import Split, sorted_batches

EVAL_BATCH = 128
LATENCY_RUNS = 40


def predict(model: nn.Module, split: Split, task: Task) -> np.ndarray:
    """The task's probabilities [examples, A] in the order of the split; the processes share the work."""
    model.eval()
    state, device = PartialState(), next(model.parameters()).device
    batches = sorted_batches(split.lengths, EVAL_BATCH)[state.process_index :: state.num_processes]
    found: list[tuple[list[int], np.ndarray]] = []
    with torch.no_grad(), meter(f"scoring {split.name}", len(batches)) as bar:
        for indices in batches:
            batch = {name: x.to(device) for name, x in split.batch(indices).items()}
            found.append((indices, task.probabilities(logits_of(model, batch).float()).cpu().numpy()))
            bar.advance()
    everyone = gather_object(found) if state.num_processes > 1 else found
    probabilities = np.zeros((len(split), everyone[0][1].shape[1]), np.float32)
    for indices, rows in everyone:
        probabilities[indices] = rows
    return probabilities


def validator(task: Task, split: Split) -> Callable[[nn.Module], dict[str, float]]:
    """What the loop calls to choose its best step."""
    return lambda model: task.score(split.examples, predict(model, split, task))


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def latency_ms(model: nn.Module, split: Split) -> float:
    """Median milliseconds of one example alone, over the first LATENCY_RUNS examples, after a warm-up."""
    model.eval()
    device = next(model.parameters()).device
    times = []
    with torch.no_grad():
        for index in [0, 0, *range(min(LATENCY_RUNS, len(split)))]:
            batch = {name: x.to(device) for name, x in split.batch([index]).items()}
            started = time.perf_counter()
            logits_of(model, batch).cpu()
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:])


def is_at_chance(accuracy: float, chance: float, examples: int) -> bool:
    """Not above the majority answer by more than two standard errors."""
    return accuracy <= chance + 2 * (chance * (1 - chance) / examples) ** 0.5
