"""A fixed teacher's outputs for a split, computed once and kept in a memory-mapped file."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlx import workspace
from vlx.batch import Batch
from vlx.files import replacing
from vlx.inputs.dataset import TaskDataset
from vlx.models.spec import spec_of
from vlx.objectives.supervised import logits_of
from vlx.progress import meter

log = logging.getLogger("vlx")
BATCH_SIZE = 128


def cached_teacher_logits(teacher: nn.Module, dataset: TaskDataset, folder: Path) -> np.ndarray:
    """[examples, A] fp16 of `folder`/logits-KEY; computed first unless the same teacher has read the same split."""
    with workspace.locked_folder(folder / f"logits-{key_of(teacher, dataset)}") as place:
        path = place / "logits.npy"
        if path.is_file():
            log.info("teacher logits: cached by an earlier run, %s.", path)
        else:
            write_logits(path, teacher, dataset)
    return np.load(path, mmap_mode="r")


def key_of(teacher: nn.Module, dataset: TaskDataset) -> str:
    """Changes with the teacher's configuration, any of its weights, and all that it reads of the split."""
    configs = [module.config.to_json_string() for module in teacher.modules() if isinstance(module, PreTrainedModel)]
    lengths = dataset.lengths.tolist()
    sha = hashlib.sha256(repr((configs, dataset.corpus.fingerprint, dataset.task.name, lengths)).encode())
    for name, weight in teacher.state_dict().items():
        sha.update(name.encode())
        sha.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for row in dataset.encoded:
        sha.update(repr((row.texts, row.image_ids, row.segments)).encode())
    for name, values in sorted(dataset.batch([0]).items()):  # differs with the size at which images are read
        sha.update(repr((name, values.shape)).encode())
        sha.update(values.contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


@torch.no_grad()
def write_logits(path: Path, teacher: nn.Module, dataset: TaskDataset) -> None:
    """One pass over the split, written whole or not at all. Rows are as wide as the longest example's."""
    teacher.eval()
    longest = int(np.argmax(dataset.image_input.lengths(dataset.first_images)))
    width = teacher_outputs(teacher, dataset.batch([longest])).shape[1]
    batches = dataset.ordered_batches(BATCH_SIZE)
    with replacing(path) as partial, meter(f"teacher logits of {dataset.name}", len(batches)) as bar:
        rows = np.lib.format.open_memmap(partial, "w+", np.float16, (len(dataset), width))
        for indices in batches:
            logits = teacher_outputs(teacher, dataset.batch(indices)).half().cpu().numpy()
            rows[indices, : logits.shape[1]] = logits
            rows[indices, logits.shape[1] :] = -np.inf
            bar.advance()
        rows.flush()


def teacher_outputs(teacher: nn.Module, batch: Batch) -> Tensor:
    """[B,A]: logits; of a dual encoder the vectors, from which the scores of all pairs are made."""
    device = next(teacher.parameters()).device
    batch = {name: values.to(device) for name, values in batch.items()}
    return teacher(batch).pooled if spec_of(teacher).dual_encoder else logits_of(teacher, batch)
