"""Examples into batches: buckets of like length; text and regions joined, then padded once. Order is f(seed, epoch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.config import ModelFields
from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.tasks import Encoded, Task
from vlx.tokenization import WordPiece

BUCKET = 50  # batches that are sorted by length together
WIDTH = 32  # lengths of a bucket are told apart this finely: batches of one exact length hold one kind of text


@dataclass(frozen=True)
class Split:
    """A split ready for a model: examples, their tokens, and where their regions lie."""

    name: str
    corpus: Corpus
    examples: Dataset
    encoded: list[Encoded]
    lengths: np.ndarray  # longest text + regions of each example
    max_regions: int

    def __len__(self) -> int:
        return len(self.encoded)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The model's input for these examples (shapes: models.oscar)."""
        return collate([self.encoded[index] for index in indices], self.corpus, max_regions=self.max_regions)


class Data(NamedTuple):
    """The three splits of a task."""

    train: Split
    validation: Split
    test: Split


def open_data(corpus: Corpus, task: Task, tokenizer: WordPiece, cfg: ModelFields, *, limit: int) -> Data:
    """The task's splits; `limit` > 0 keeps that many training examples."""
    sizes = {"max_text_tokens": cfg.max_text_tokens, "max_regions": cfg.max_regions}
    names = task.splits
    return Data(
        open_split(corpus, task, names.train, tokenizer, **sizes, limit=limit),
        open_split(corpus, task, names.validation, tokenizer, **sizes),
        open_split(corpus, task, names.test, tokenizer, **sizes),
    )


def open_split(
    corpus: Corpus, task: Task, name: str, tokenizer: WordPiece,
    *, max_text_tokens: int, max_regions: int, limit: int = 0,
) -> Split:  # fmt: skip
    """Encode a split, or its first `limit` whole examples if limit > 0 (a fixed, label-free choice)."""
    examples = corpus.examples(task.name, name)
    if limit:
        examples = examples.select(range(min(limit, len(examples))))
    if not len(examples):
        raise CorpusError(f"{corpus.path}: split {name} of task {task.name} is empty; prepare the corpus again.")
    encoded = task.encode(examples, tokenizer, limit=max_text_tokens)
    regions = [max(min(corpus.num_regions(image), max_regions) for image in row.image_ids) for row in encoded]
    lengths = np.array([len(row.input_ids) for row in encoded]) + np.array(regions)
    return Split(name, corpus, examples, encoded, lengths, max_regions)


def epoch_batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Every example once: shuffled, sorted by length within buckets, cut into batches, the batches shuffled."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).numpy()
    size = batch_size * BUCKET
    buckets = [order[start : start + size] for start in range(0, len(order), size)]
    ordered = np.concatenate([bucket[np.argsort(lengths[bucket] // WIDTH, kind="stable")] for bucket in buckets])
    batches = [ordered[start : start + batch_size].tolist() for start in range(0, len(ordered), batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def sorted_batches(lengths: np.ndarray, batch_size: int) -> list[list[int]]:
    """Every example once, by length: for evaluation."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]


def collate(rows: Sequence[Encoded], corpus: Corpus, *, max_regions: int) -> dict[str, Tensor]:
    """input_ids [B,N,T], regions [B,N,R,D], boxes [B,N,R,4], their masks, layout [B*N,L] and labels [B]."""
    found = [[corpus.regions(image) for image in row.image_ids] for row in rows]
    kept = [min(len(boxes), max_regions) for images in found for _, boxes in images]
    shape = len(rows), len(rows[0].image_ids)
    tokens, regions = max(len(row.input_ids) for row in rows), max(kept)
    input_ids = np.zeros((len(rows), 1, tokens), np.int64)
    features = np.zeros((*shape, regions, corpus.region_dim), np.float32)
    boxes = np.zeros((*shape, regions, 4), np.float32)
    for b, (row, images) in enumerate(zip(rows, found, strict=True)):
        input_ids[b, 0, : len(row.input_ids)] = row.input_ids
        for n, (region, box) in enumerate(images):
            count = min(len(box), max_regions)
            features[b, n, :count], boxes[b, n, :count] = region[:count], box[:count]
    text_lengths = torch.tensor([len(row.input_ids) for row in rows])[:, None].expand(shape)
    region_lengths = torch.tensor(kept).view(shape)
    return {
        "input_ids": torch.from_numpy(input_ids).expand(*shape, tokens),
        "text_mask": torch.arange(tokens) < text_lengths[..., None],
        "regions": torch.from_numpy(features),
        "boxes": torch.from_numpy(boxes),
        "region_mask": torch.arange(regions) < region_lengths[..., None],
        "layout": joint_layout(text_lengths.flatten(), region_lengths.flatten(), tokens),
        "labels": torch.tensor([row.label for row in rows]),
    }


def joint_layout(text_lengths: Tensor, region_lengths: Tensor, tokens: int) -> Tensor:
    """Positions [M,L] of each text and then its regions on the axis of `tokens` + R places; -1 is padding."""
    total = text_lengths + region_lengths
    place = torch.arange(int(total.max())).expand(len(total), -1)
    texts = text_lengths[:, None]
    position = torch.where(place < texts, place, place - texts + tokens)
    return position.masked_fill(place >= total[:, None], -1)
