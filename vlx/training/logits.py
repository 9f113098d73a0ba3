"""A frozen teacher's logits, computed once for a split and kept in a memory-mapped file."""

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from vlx import workspace
from vlx.models.dual import Dual
from vlx.objectives.supervised import Batch, logits_of
from vlx.progress import meter
from vlx.training.batching import Split, sorted_batches

log = logging.getLogger("vlx")
BATCH = 128


def kept_logits(teacher: nn.Module, split: Split, folder: Path) -> np.ndarray:
    """[examples, A] fp16 of `folder`/logits-KEY; filled first unless the same teacher has read the same split."""
    with workspace.locked_folder(folder / f"logits-{key_of(teacher, split)}") as place:
        path = place / "logits.npy"
        if path.is_file():
            log.info("logits of the teacher: kept from an earlier run, %s.", path)
        else:
            fill(path, teacher, split)
    return np.load(path, mmap_mode="r")


def key_of(teacher: nn.Module, split: Split) -> str:
    """Changes with the teacher's options or any of its weights, and with all that it reads of the split."""
    options = [one.config.to_json_string() for one in teacher.modules() if isinstance(one, PreTrainedModel)]
    sha = hashlib.sha256(repr((options, split.corpus.fingerprint, split.task.name, split.max_regions)).encode())
    for name, weight in teacher.state_dict().items():
        sha.update(name.encode())
        sha.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for row in split.encoded:
        sha.update(repr((row.texts, row.image_ids, row.segments)).encode())
    return sha.hexdigest()[:16]


@torch.no_grad()
def fill(path: Path, teacher: nn.Module, split: Split) -> None:
    """One pass over the split, written whole or not at all."""
    teacher.eval()
    device, partial = next(teacher.parameters()).device, path.with_suffix(f".{os.getpid()}")
    rows = np.lib.format.open_memmap(partial, "w+", np.float16, (len(split), width_of(teacher, split)))
    batches = sorted_batches(split.lengths, BATCH)
    with meter(f"logits of the teacher for {split.name}", len(batches)) as bar:
        for indices in batches:
            batch = {name: x.to(device) for name, x in split.batch(indices).items()}
            logits = said(teacher, batch).half().cpu().numpy()
            rows[indices, : logits.shape[1]] = logits
            rows[indices, logits.shape[1] :] = -np.inf
            bar.advance()
    os.replace(partial, path)


def said(teacher: nn.Module, batch: Batch) -> torch.Tensor:
    """[B,A]: logits; of two towers the vectors, from which the scores of all pairs are made."""
    return teacher(batch).pooled if isinstance(teacher, Dual) else logits_of(teacher, batch)


def width_of(teacher: nn.Module, split: Split) -> int:
    """A, of regions the most that any picture has."""
    if isinstance(teacher, Dual):
        return 2 * teacher.config.hidden_size
    if split.task.head.kind != "point":
        return len(split.encoded[0].texts) if split.task.head.kind == "choose" else split.task.head.labels
    images = {name for row in split.encoded for name in row.image_ids}
    return max(min(split.corpus.num_regions(name), split.max_regions) for name in images)
