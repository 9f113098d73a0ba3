"""Scores of a model on a split; the model's size and speed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel, gather_object
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from vlx.models.dual import Dual
from vlx.objectives.supervised import Batch, logits_of
from vlx.progress import meter
from vlx.tasks import Contrasting, Encoded, Task
from vlx.training.batching import Split, sorted_batches

EVAL_BATCH = 128
LATENCY_RUNS = 40
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
Validate = Callable[[nn.Module], dict[str, float]]
Shape = Sequence[int]


def predict(model: nn.Module, split: Split, task: Task, *, kept: Path | None = None) -> np.ndarray:
    """The task's probabilities [examples, A] in the order of the split; of retrieval, the scores of all pairs.

    kept: a folder where the scores of pairs are written as they come; a killed run goes on from them.
    """
    if isinstance(task, Contrasting):
        towers = extract_model_from_parallel(model)
        return match(towers, split, kept=kept) if isinstance(towers, Dual) else rank(model, split, task, kept=kept)
    state = PartialState()
    batches = split.ordered_batches(EVAL_BATCH)[state.process_index :: state.num_processes]
    found = []
    with meter(f"scoring {split.name}", len(batches)) as bar:
        for indices in batches:
            found.append((indices, probabilities(model, split, task, [split.encoded[index] for index in indices])))
            bar.advance()
    everyone = gather_object(found) if state.num_processes > 1 else found
    table = np.zeros((len(split), max(rows.shape[1] for _, rows in everyone)), np.float32)
    for indices, rows in everyone:
        table[indices, : rows.shape[1]] = rows  # as many as the batch's largest example has candidates
    return table


def rank(model: nn.Module, split: Split, task: Task, *, kept: Path | None) -> np.ndarray:
    """Scores [captions, images] that they belong together, images in order of first appearance, one column a time; nan
    where a split lists pairs and this is none."""
    state, contrasts, pictures = PartialState(), cast(Contrasting, task), dict[str, Encoded]()
    for row in split.encoded:
        pictures.setdefault(row.image_ids[0], row)
    asked, shape = contrasts.asked(split.examples), (len(pictures), len(split))
    table = open_table(kept and kept / f"pairs-{split.name}-{state.process_index}.npy", shape)
    order = np.argsort([len(row.texts[0]) for row in split.encoded], kind="stable")
    mine = range(state.process_index, len(pictures), state.num_processes)
    many = f"{len(split):,} x {len(pictures):,}" if asked is None else f"{asked.sum():,}"
    with meter(f"scoring {many} pairs of {split.name}", len(mine)) as bar:
        for column, picture in list(enumerate(pictures.values()))[mine.start :: mine.step]:
            wanted = order if asked is None else order[asked[order, column]]
            missing = np.isnan(table[column, wanted]).any()
            for start in range(0, len(wanted) if missing else 0, EVAL_BATCH):
                chunk = wanted[start : start + EVAL_BATCH]
                rows = [contrasts.pair(split.encoded[index], picture) for index in chunk]
                table[column, chunk] = probabilities(model, split, task, rows)[:, -1]
            bar.advance()
    found = gather_object([(column, np.array(table[column])) for column in mine]) if state.num_processes > 1 else []
    for column, scores in found:
        table[column] = scores
    return np.array(table.T)


def match(model: Dual, split: Split, *, kept: Path | None) -> np.ndarray:
    """The same of two towers: each caption and each picture is read once, and all pairs are one product."""
    shown = list({row.image_ids: row for row in reversed(split.encoded)}.values())[::-1]  # a caption of each picture
    texts = read(model, model.texts, replace(split, max_regions=0), split.encoded, kept and kept / "texts")
    pictures = read(model, model.pictures, split, shown, kept and kept / "pictures")
    with torch.no_grad():
        vectors = (torch.from_numpy(each).to(model.device) for each in (texts, pictures))
        return model.match(*vectors).float().cpu().numpy()


@torch.no_grad()
def read(
    model: Dual, tower: Callable[[Batch], Tensor], split: Split, rows: Sequence[Encoded], kept: Path | None
) -> np.ndarray:
    """Vectors [rows,H] of a tower, a chunk of like length a time."""
    model.eval()
    state, device = PartialState(), model.device
    name = f"{kept}-{split.name}-{state.process_index}.npy"
    table = open_table(kept and Path(name), (len(rows), model.config.hidden_size))
    chunks = sorted_batches(np.array([len(row.texts[0]) for row in rows]), EVAL_BATCH)
    mine = chunks[state.process_index :: state.num_processes]
    with meter(f"reading {len(rows):,} rows of {split.name}", len(mine)) as bar:
        for chunk in mine:
            if np.isnan(table[chunk]).any():
                batch = split.collate([rows[index] for index in chunk])
                table[chunk] = tower({key: x.to(device) for key, x in batch.items()}).float().cpu().numpy()
            bar.advance()
    found = gather_object([(chunk, np.array(table[chunk])) for chunk in mine]) if state.num_processes > 1 else []
    for chunk, vectors in found:
        table[chunk] = vectors
    return np.array(table)


def open_table(path: Path | None, shape: tuple[int, int]) -> np.ndarray:
    """A table of NaN, or what an earlier process left in the file."""
    if path is None:
        return np.full(shape, np.nan, np.float32)
    if not path.exists():
        started = path.with_suffix(".new")
        np.lib.format.open_memmap(started, "w+", np.float32, shape)[:] = np.nan
        started.rename(path)
    return np.lib.format.open_memmap(path, "r+")


@torch.no_grad()
def probabilities(model: nn.Module, split: Split, task: Task, rows: Sequence[Encoded]) -> np.ndarray:
    model.eval()
    device = next(model.parameters()).device
    batch = {name: x.to(device) for name, x in split.collate(rows).items()}
    return task.probabilities(logits_of(model, batch).float(), batch).cpu().numpy()


def validator(task: Task, split: Split) -> Validate:
    """What the loop calls to choose its best step."""
    return lambda model: task.score(split.examples, predict(model, split, task))


def beside_teacher(task: Task, split: Split, teacher: nn.Module, *, moves: bool) -> Validate:
    """The same with the teacher's own score, and how often both give the same answer. A teacher that moves is asked
    again each time."""
    said: list[np.ndarray] = []

    def validate(model: nn.Module) -> dict[str, float]:
        own = predict(model, split, task)
        if moves or not said:
            said[:] = [predict(teacher, split, task)]
        teachers = task.score(split.examples, said[0])[task.metric]
        agreement = float((own.argmax(1) == said[0].argmax(1)).mean())
        scores = task.score(split.examples, own)
        return scores | {f"teacher_{task.metric}": teachers, "agreement": agreement}

    return validate


class Cost(NamedTuple):
    """What a model costs: its weights, and one example alone on this machine."""

    parameters: int
    flops: int  # multiplications and additions of a forward pass, of linear maps and attention; a mean
    latency_ms: float  # median
    latency_p95_ms: float


def cost_of(model: nn.Module, split: Split) -> Cost:
    """Over the first LATENCY_RUNS examples, each alone; timed after a warm-up."""
    model.eval()
    device, times = next(model.parameters()).device, []
    few = range(min(LATENCY_RUNS, len(split)))
    batches = [{name: x.to(device) for name, x in split.batch([index]).items()} for index in few]
    with torch.no_grad():
        for batch in [batches[0], batches[0], *batches]:
            started = time.perf_counter()
            logits_of(model, batch).cpu()
            times.append(1000 * (time.perf_counter() - started))
        with FlopCounterMode(display=False, custom_mapping={CPU_ATTENTION: attention_flops}) as counter:
            for batch in batches:
                logits_of(model, batch)
    middle, high = np.percentile(times[2:], [50, 95])
    weights = sum(weight.numel() for weight in model.parameters())
    return Cost(weights, round(counter.get_total_flops() / len(batches)), float(middle), float(high))


def attention_flops(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    """Of the fused kernel of CPUs, which torch does not count: [B,heads,L,D] with keys and values [B,heads,C,D]."""
    return sdpa_flop_count(query, key, value)


def is_at_chance(accuracy: float, chance: float, examples: int) -> bool:
    """Not above the majority answer by more than two standard errors."""
    return accuracy <= chance + 2 * (chance * (1 - chance) / examples) ** 0.5
