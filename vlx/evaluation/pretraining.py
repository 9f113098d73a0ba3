"""Losses and accuracies of pre-training on a split, and the tokens predicted for [MASK]."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn

from vlx.evaluation.compare import Validate
from vlx.evaluation.predict import EVAL_BATCH
from vlx.inputs.pretraining import PretrainingDataset
from vlx.objectives import Objective

METRIC = "negative_loss"  # of the best step, which has the lowest loss
MAX_LOG_PERPLEXITY = 100.0


def pretraining_validator(
    objective: Objective, names: Sequence[str], loss_weights: Mapping[str, float], dataset: PretrainingDataset,
    *, batch_size: int = EVAL_BATCH,
) -> Validate:  # fmt: skip
    """Each loss and accuracy over the split, with the same masks at every call."""

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        model.eval()
        state = PartialState()
        device = next(model.parameters()).device
        sums = defaultdict[str, float](float)
        counts = defaultdict[str, float](float)
        for indices in dataset.ordered_batches(batch_size)[state.process_index :: state.num_processes]:
            batch = {name: values.to(device) for name, values in dataset.evaluation_batch(indices).items()}
            losses = objective(model, batch)
            for name, count in losses.counts.items():
                sums[name] += float(losses.parts[name] * count)
                counts[name] += float(count)
        totals = gather_object([(sums, counts)]) if state.num_processes > 1 else [(sums, counts)]
        means = {name: sum(s[name] for s, _ in totals) / max(sum(c[name] for _, c in totals), 1) for name in sums}
        loss = sum(loss_weights.get(name, 1.0) * means[name] for name in names)
        if "mlm" in names:
            means["perplexity"] = math.exp(min(means["mlm"], MAX_LOG_PERPLEXITY))
        return means | {"loss": loss, METRIC: -loss}

    return validate


@torch.no_grad()
def mlm_samples(model: nn.Module, dataset: PretrainingDataset) -> dict[str, list[Any]]:
    """A row for each text with masked tokens, with the columns of a predictions table."""
    model.eval()
    device = next(model.parameters()).device
    columns = defaultdict[str, list[Any]](list)
    for indices in dataset.ordered_batches(EVAL_BATCH):
        batch = {name: values.to(device) for name, values in dataset.evaluation_batch(indices).items()}
        probabilities = model(batch, heads=("mlm",)).scores["mlm"].float().softmax(-1)
        row_of = batch["masked_positions"] // batch["input_ids"].shape[1]
        best = probabilities.max(-1)
        for row, index in enumerate(indices):
            in_row = row_of == row
            if in_row.any():
                sample = mlm_sample(dataset, index, batch, row, best.indices[in_row].tolist())
                sample["score"] = round(float(best.values[in_row].mean()), 4)
                for name, value in sample.items():
                    columns[name].append(value)
    return dict(columns)


def mlm_sample(
    dataset: PretrainingDataset, index: int, batch: Mapping[str, torch.Tensor], row: int, predicted_ids: list[int]
) -> dict[str, Any]:
    tokens = dataset.tokenizer.tokens
    labels = batch["mlm_labels"][row]
    label = tokens(labels[labels >= 0].tolist())
    prediction = tokens(predicted_ids)
    pair = dataset.pairs[index]
    return {
        "identifier": pair.identifier,
        "text": " ".join(tokens(batch["input_ids"][row][batch["text_mask"][row]].tolist())),
        "category": "",
        "image_ids": [pair.image_id],
        "label": " ".join(label),
        "prediction": " ".join(prediction),
        "correct": label == prediction,
    }
