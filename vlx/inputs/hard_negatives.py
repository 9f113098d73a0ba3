"""Hard negatives of retrieval: images that look alike (ViLBERT 12-in-1, vilbert/datasets/retreival_dataset.py)."""

import json
from collections.abc import Sequence

import numpy as np
import torch

from vlx.corpora import Corpus
from vlx.progress import meter

CHUNK = 256  # images compared with all others at a time


def hard_negatives(corpus: Corpus, names: Sequence[str], extras: Sequence[str], count: int) -> list[list[int]]:
    """For every image the indices of the `count` most similar ones: those that the source lists (`hard_negatives` in an
    example's extra), or else the nearest by their mean region."""
    index_of = {name: index for index, name in enumerate(names)}
    lists = [json.loads(extra or "{}").get("hard_negatives") for extra in extras]
    if any(lists):
        return [[index_of[name] for name in row or () if name in index_of][:count] for row in lists]
    means = torch.from_numpy(np.stack([corpus.regions(name)[0].mean(0, dtype=np.float32) for name in names]))
    rows = list[list[int]]()
    with meter("similar images", len(names)) as bar:
        for chunk in torch.arange(len(names)).split(CHUNK):
            distances = torch.cdist(means[chunk], means)
            distances[torch.arange(len(chunk)), chunk] = torch.inf
            rows += distances.topk(min(count, len(names) - 1), largest=False).indices.tolist()
            bar.advance(len(chunk))
    return rows
