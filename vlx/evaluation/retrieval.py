"""Scores of every text with every image: a cross-encoder reads each pair, a dual encoder multiplies vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import extract_model_from_parallel, gather_object
from torch import Tensor, nn

from vlx.batch import Batch
from vlx.inputs.dataset import TaskDataset
from vlx.inputs.sampler import sorted_batches
from vlx.inputs.text import text_tensors
from vlx.models.spec import spec_of
from vlx.progress import meter
from vlx.tasks.base import Encoded

Score = Callable[[nn.Module, TaskDataset, Sequence[Encoded]], np.ndarray]  # rows -> probabilities [rows, A]


def score_pairs(
    model: nn.Module, dataset: TaskDataset, score: Score, *, batch_size: int, folder: Path | None
) -> np.ndarray:
    """Scores [texts, images], images in order of first appearance; nan for pairs that the split does not list."""
    unwrapped = extract_model_from_parallel(model)
    if spec_of(unwrapped).dual_encoder:
        return multiply_vectors(unwrapped, dataset, batch_size=batch_size, folder=folder)
    return read_pairs(model, dataset, score, batch_size=batch_size, folder=folder)


def read_pairs(
    model: nn.Module, dataset: TaskDataset, score: Score, *, batch_size: int, folder: Path | None
) -> np.ndarray:
    """One column, an image with all its texts, at a time."""
    state = PartialState()
    images: dict[str, Encoded] = {}
    for row in dataset.encoded:
        images.setdefault(row.image_ids[0], row)
    mask = dataset.task.candidate_mask(dataset.examples)
    path = folder and folder / f"pairs-{dataset.name}-{state.process_index}.npy"
    table = open_table(path, (len(images), len(dataset)))
    by_length = np.argsort([len(row.texts[0]) for row in dataset.encoded], kind="stable")
    columns = range(state.process_index, len(images), state.num_processes)
    count = f"{len(dataset):,} x {len(images):,}" if mask is None else f"{mask.sum():,}"
    with meter(f"scoring {count} pairs of {dataset.name}", len(columns)) as bar:
        for column, image in list(enumerate(images.values()))[columns.start :: columns.step]:
            texts = by_length if mask is None else by_length[mask[by_length, column]]
            missing = np.isnan(table[column, texts]).any()
            for start in range(0, len(texts) if missing else 0, batch_size):
                chunk = texts[start : start + batch_size]
                rows = [dataset.task.pair(dataset.encoded[index], image) for index in chunk]
                table[column, chunk] = score(model, dataset, rows)[:, -1]
            bar.advance()
    if state.num_processes > 1:
        for column, scores in gather_object([(column, np.array(table[column])) for column in columns]):
            table[column] = scores
    return np.array(table.T)


def multiply_vectors(model: Any, dataset: TaskDataset, *, batch_size: int, folder: Path | None) -> np.ndarray:
    """Every text and every image is encoded once."""
    first = {row.image_ids: row for row in reversed(dataset.encoded)}
    images = list(first.values())[::-1]  # one row of each image, in order of appearance
    text_vectors = encode(
        model, model.encode_texts, dataset.encoded, text_tensors,
        path=table_path(folder, "texts", dataset), batch_size=batch_size,
    )  # fmt: skip
    image_vectors = encode(
        model, model.encode_images, images, dataset.collate,
        path=table_path(folder, "images", dataset), batch_size=batch_size,
    )  # fmt: skip
    with torch.no_grad():
        vectors = [torch.from_numpy(array).to(model.device) for array in (text_vectors, image_vectors)]
        return model.similarity(*vectors).float().cpu().numpy()


@torch.no_grad()
def encode(
    model: Any, encoder: Callable[[Batch], Tensor], rows: Sequence[Encoded],
    collate: Callable[[Sequence[Encoded]], Batch], *, path: Path | None, batch_size: int,
) -> np.ndarray:  # fmt: skip
    """Vectors [rows,H], in batches of similar text length."""
    model.eval()
    state = PartialState()
    table = open_table(path, (len(rows), model.config.hidden_size))
    chunks = sorted_batches(np.array([len(row.texts[0]) for row in rows]), batch_size)
    chunks = chunks[state.process_index :: state.num_processes]
    with meter(f"encoding {len(rows):,} rows", len(chunks)) as bar:
        for chunk in chunks:
            if np.isnan(table[chunk]).any():
                batch = collate([rows[index] for index in chunk])
                vectors = encoder({name: values.to(model.device) for name, values in batch.items()})
                table[chunk] = vectors.float().cpu().numpy()
            bar.advance()
    if state.num_processes > 1:
        for chunk, rows_of_chunk in gather_object([(chunk, np.array(table[chunk])) for chunk in chunks]):
            table[chunk] = rows_of_chunk
    return np.array(table)


def table_path(folder: Path | None, kind: str, dataset: TaskDataset) -> Path | None:
    return folder and folder / f"{kind}-{dataset.name}-{PartialState().process_index}.npy"


def open_table(path: Path | None, shape: tuple[int, int]) -> np.ndarray:
    """A table of NaN, or the one that an earlier process left in the file."""
    if path is None:
        return np.full(shape, np.nan, np.float32)
    if not path.exists():
        partial = path.with_suffix(".new")
        np.lib.format.open_memmap(partial, "w+", np.float32, shape)[:] = np.nan
        partial.rename(path)
    return np.lib.format.open_memmap(path, "r+")
