"""A split of a task as batches of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from vlx.batch import Batch
from vlx.boxes import IOU_THRESHOLD, iou
from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.inputs.hard_negatives import hard_negatives
from vlx.inputs.image_input import ImageInput
from vlx.inputs.packing import joint_packing
from vlx.inputs.text import broadcast_pairs, label_tensors, text_tensors
from vlx.tasks.base import Encoded, ImageGroups, Task
from vlx.tokenization import WordPiece

NO_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TaskDataset:
    """teacher_logits [examples, A]: outputs of a fixed teacher, if they are cached. num_labeled: the first so many
    examples have a label to train on; 0: all."""

    name: str
    corpus: Corpus
    examples: Dataset
    encoded: list[Encoded]
    task: Task
    image_input: ImageInput
    teacher_logits: np.ndarray | None = None
    num_labeled: int = 0

    def __len__(self) -> int:
        return len(self.encoded)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The longest text plus the longest image of each example, [examples]."""
        names = list(dict.fromkeys(name for row in self.encoded for name in row.image_ids))
        length_of = dict(zip(names, self.image_input.lengths(names).tolist(), strict=True))
        texts = [max(map(len, row.texts)) for row in self.encoded]
        images = [max(length_of[name] for name in row.image_ids) for row in self.encoded]
        return np.array(texts) + np.array(images)

    @cached_property
    def first_images(self) -> list[str]:
        return [row.image_ids[0] for row in self.encoded]

    @cached_property
    def groups(self) -> ImageGroups | None:
        """The examples by image, for tasks that train on other pairs. Raises CorpusError if there is one image."""
        groups = self.task.image_groups(self.encoded)
        if groups is None:
            return None
        if len(groups.members) < 2:
            raise CorpusError(f"split {self.name}: all captions are of one image, expected two images or more.")
        count = self.task.num_hard_negatives
        if not count:
            return groups
        rows = [members[0] for members in groups.members]
        names = [self.first_images[row] for row in rows]
        extras = [self.examples[row]["extra"] for row in rows]
        return groups._replace(hard_negatives=hard_negatives(self.corpus, names, extras, count))

    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        return self.image_input.epoch_batches(self.first_images, self.lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, batch_size: int) -> list[list[int]]:
        """Every example once, for evaluation."""
        return self.image_input.ordered_batches(self.first_images, self.lengths, batch_size)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The model's input for these examples, and their labels."""
        return self.collate([self.encoded[index] for index in indices])

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> Batch:
        """Draws depend on (seed, epoch, index). Rows of positive pairs come first, then those of negatives."""
        generators = [Random(f"{seed}/{epoch}/{index}") for index in indices]
        pairs = [
            self.task.training_pairs(self.encoded, self.groups, index, generator)
            for index, generator in zip(indices, generators, strict=True)
        ]
        rows = list(chain.from_iterable(zip(*pairs, strict=True)))
        batch = self.collate(rows, generators=generators * (len(rows) // len(indices)))
        if self.teacher_logits is not None:
            batch["teacher_logits"] = torch.from_numpy(self.teacher_logits[list(indices)]).float()
        if self.num_labeled:
            batch["labeled_mask"] = torch.tensor(indices) < self.num_labeled
        return batch

    def collate(self, rows: Sequence[Encoded], *, generators: Sequence[Random] | None = None) -> Batch:
        """input_ids and text_mask [B,N,T], the image input's tensors [B,N,...], labels [B]; N pairs of a text and an
        image make an example. Where known: token_type_ids [B,N,T], packing [B*N,L], targets [B,A]."""
        images = [broadcast_pairs(row, "image_ids") for row in rows]
        shape = (len(rows), len(images[0]))
        repeated = [generator for generator in generators for _ in range(shape[1])] if generators else None
        tensors = self.image_input.tensors(list(chain.from_iterable(images)), generators=repeated)
        batch = text_tensors(rows) | {name: values.unflatten(0, shape) for name, values in tensors.items()}
        batch |= label_tensors(rows, self.task.head.labels)
        if "region_mask" in batch:
            batch["packing"] = packing_of(batch)
        if rows[0].box:
            batch |= grounding_targets(rows, batch["boxes"][:, 0])
        return batch

    def first(self, count: int) -> "TaskDataset":
        """The dataset of its first examples, all labeled."""
        examples = self.examples.select(range(count))
        return replace(self, examples=examples, encoded=self.encoded[:count], teacher_logits=None, num_labeled=0)

    def with_labels(self, count: int) -> "TaskDataset":
        """The same examples, of which the first `count` are labeled in training."""
        return replace(self, num_labeled=count)

    def with_teacher_logits(self, logits: np.ndarray) -> "TaskDataset":
        return replace(self, teacher_logits=logits)

    def profile(self) -> dict[str, int]:
        """Counts for the run's log."""
        labeled = {"labeled": self.num_labeled} if self.num_labeled else {}
        return {"examples": len(self)} | labeled


class TaskDatasets(NamedTuple):
    train: TaskDataset
    validation: TaskDataset
    test: TaskDataset


def packing_of(batch: Batch) -> Tensor:
    """[B*N,L]."""
    text_lengths = batch["text_mask"].sum(-1).flatten()
    return joint_packing(text_lengths, batch["region_mask"].sum(-1).flatten(), batch["text_mask"].shape[-1])


def grounding_targets(rows: Sequence[Encoded], regions: Tensor) -> Batch:
    """targets [B,R]: IoU of each region with the labeled box, 0 below one half; candidates [B,C,4] if there are any,
    with boxes without area as padding."""
    boxes = torch.tensor([row.box for row in rows])[:, None]
    overlap = iou(boxes, regions)[:, 0]
    batch = {"targets": overlap.masked_fill(overlap < IOU_THRESHOLD, 0.0)}
    width = max(len(row.candidates) for row in rows)
    if width:
        padded = [row.candidates + (NO_BOX,) * (width - len(row.candidates)) for row in rows]
        batch["candidates"] = torch.tensor(padded)
    return batch


def examples_of(corpus: Corpus, task: str, names: str) -> Dataset:
    """The examples of a split, or of several joined by commas."""
    return concatenate_datasets([corpus.examples(task, name) for name in names.split(",")])


def open_task_dataset(
    corpus: Corpus, task: Task, name: str, tokenizer: WordPiece, image_input: ImageInput,
    *, max_text_tokens: int, object_tags: bool, limit: int = 0, num_images: int = 0, candidates_only: bool = False,
) -> TaskDataset:  # fmt: skip
    """Encode a split, or its first `limit` examples if limit > 0. num_images, candidates_only: see Task.select."""
    examples = examples_of(corpus, task.name, name)
    examples = task.select(examples, num_images=num_images, candidates_only=candidates_only)
    if limit:
        examples = examples.select(range(min(limit, len(examples))))
    if not len(examples):
        raise CorpusError(f"{corpus.path}: split {name} of task {task.name} is empty; prepare the corpus again.")
    tags = corpus.tags if object_tags else None
    encoded = task.encode(examples, tokenizer, limit=max_text_tokens, tags=tags)
    return TaskDataset(name.replace(",", "-"), corpus, examples, encoded, task, image_input)
