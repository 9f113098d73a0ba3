"""Probabilities of a model on a split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from vlx.evaluation.retrieval import score_pairs
from vlx.inputs.dataset import TaskDataset
from vlx.objectives.supervised import logits_of
from vlx.progress import meter
from vlx.tasks.base import Encoded

EVAL_BATCH = 128


def predict(
    model: nn.Module, dataset: TaskDataset, *, folder: Path | None = None, batch_size: int = EVAL_BATCH
) -> np.ndarray:
    """The task's probabilities [examples, A] in the order of the split; of tasks that score all pairs, scores [texts,
    images].

    folder: where the scores of pairs are written as they come, so that a killed run resumes them.
    """
    if dataset.task.scores_all_pairs:
        return score_pairs(model, dataset, probabilities, batch_size=batch_size, folder=folder)
    state = PartialState()
    batches = dataset.ordered_batches(batch_size)[state.process_index :: state.num_processes]
    results = []
    with meter(f"scoring {dataset.name}", len(batches)) as bar:
        for indices in batches:
            results.append((indices, probabilities(model, dataset, [dataset.encoded[index] for index in indices])))
            bar.advance()
    gathered = gather_object(results) if state.num_processes > 1 else results
    table = np.zeros((len(dataset), max(rows.shape[1] for _, rows in gathered)), np.float32)
    for indices, rows in gathered:
        table[indices, : rows.shape[1]] = rows  # a batch is as wide as its largest set of candidates
    return table


@torch.no_grad()
def probabilities(model: nn.Module, dataset: TaskDataset, rows: Sequence[Encoded]) -> np.ndarray:
    model.eval()
    device = next(model.parameters()).device
    batch = {name: values.to(device) for name, values in dataset.collate(rows).items()}
    return dataset.task.probabilities(logits_of(model, batch).float(), batch).cpu().numpy()
