"""Examples into batches: buckets of like length; text and regions joined, then padded once. Order is f(seed, epoch)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from random import Random
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from vlx import models
from vlx.config import DistillConfig, FinetuneConfig, ModelFields
from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.progress import meter
from vlx.tasks import Contrasting, Encoded, Task, Varying
from vlx.tasks.base import Groups
from vlx.tasks.pointing import HALF, box_iou
from vlx.tasks.retrieval import IN_BATCH
from vlx.tokenization import WordPiece

CHUNK = 256  # pictures compared with all others at a time
BUCKET = 50  # batches that are sorted by length together
WIDTH = 32  # lengths of a bucket are told apart this finely: batches of one exact length hold one kind of text


class TrainingData(Protocol):
    """What the loop asks of its data. A batch has input_ids, one row an example, and text_mask or layout."""

    @property
    def name(self) -> str: ...
    @property
    def corpus(self) -> Corpus: ...
    def __len__(self) -> int: ...
    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        """The examples of every batch of an epoch; as many batches in each epoch."""
        ...

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> dict[str, Tensor]:
        """The model's input for these examples, and what is to be learnt, drawn from (seed, epoch, example)."""
        ...


@dataclass(frozen=True)
class Split:
    """A split ready for a model: examples, their tokens, and where their regions lie."""

    name: str
    corpus: Corpus
    examples: Dataset
    encoded: list[Encoded]
    lengths: np.ndarray  # longest text + regions of each example
    max_regions: int
    task: Task
    taught: np.ndarray | None = None  # [examples, A]: what a frozen teacher says, if it is kept
    labelled: int = 0  # only the first so many have a label to learn from; 0: all

    def __len__(self) -> int:
        return len(self.encoded)

    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(self.lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, batch_size: int) -> list[list[int]]:
        """Every example once, those of a batch alike: for evaluation."""
        return sorted_batches(self.lengths, batch_size)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The model's input for these examples (shapes: models.oscar) and its targets."""
        return self.collate([self.encoded[index] for index in indices])

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> dict[str, Tensor]:
        """The same; where a task varies its examples, or learns from pairs that do not belong together too, these are
        drawn from (seed, epoch, example)."""
        kept = {} if self.taught is None else {"taught": torch.from_numpy(self.taught[list(indices)]).float()}
        seen = {"labelled": torch.tensor(indices) < self.labelled} if self.labelled else {}
        draws = ((index, Random(f"{seed}/{epoch}/{index}")) for index in indices)
        if isinstance(self.task, Contrasting):
            found = [self.task.learnt(self.encoded, self.groups, index, rng) for index, rng in draws]
            return self.collate([row for rows in zip(*found, strict=True) for row in rows]) | kept  # right ones first
        if isinstance(self.task, Varying):
            return self.collate([self.task.varied(self.encoded[index], rng) for index, rng in draws]) | kept | seen
        return self.batch(indices) | kept | seen

    def first(self, count: int) -> "Split":
        """The split of its first examples."""
        examples, encoded = self.examples.select(range(count)), self.encoded[:count]
        return replace(self, examples=examples, encoded=encoded, lengths=self.lengths[:count], taught=None, labelled=0)

    @cached_property
    def groups(self) -> Groups:
        """Raises CorpusError if all examples are of one picture."""
        task = cast(Contrasting, self.task)
        groups = task.groups(self.encoded)
        if len(groups.members) < 2:
            raise CorpusError(f"split {self.name}: all captions are of one picture, expected two pictures or more.")
        return groups._replace(near=near(self, groups, task.alike)) if task.alike else groups

    def collate(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        return collate(rows, self.corpus, max_regions=self.max_regions, labels=self.task.head.labels)


class RegionSource(Protocol):
    """What regions come from: a corpus."""

    region_dim: int

    def regions(self, image_id: str) -> tuple[np.ndarray, np.ndarray]: ...


class Data(NamedTuple):
    """The three splits of a task."""

    train: Split
    validation: Split
    test: Split


def open_data(corpus: Corpus, task: Task, tokenizer: WordPiece, cfg: FinetuneConfig | DistillConfig) -> Data:
    """The task's splits, of the training split `train_examples`, or more of which so many are labelled."""
    opened = partial(
        open_split, corpus, task, max_text_tokens=cfg.max_text_tokens, max_regions=cfg.max_regions, tags=reads_tags(cfg)
    )
    names, limit = task.splits, cfg.limit
    learnt = min(cfg.train_examples or limit, limit or cfg.train_examples)
    more = isinstance(cfg, DistillConfig) and cfg.unlabelled
    train = opened(cfg.train_split or names.train, tokenizer, limit=limit if more else learnt)
    train = replace(train, labelled=learnt) if more else train
    return Data(
        replace(train, task=IN_BATCH) if cfg.model in models.TOWERS else train,
        opened(cfg.val_split or names.validation, tokenizer, limit=limit, images=cfg.val_images, listed=cfg.listed),
        opened(cfg.test_split or names.test, tokenizer, limit=limit, images=cfg.test_images),
    )


def examples_of(corpus: Corpus, task: str, names: str) -> Dataset:
    """The examples of a split, or of several joined by commas, one after the other."""
    return concatenate_datasets([corpus.examples(task, name) for name in names.split(",")])


def reads_tags(cfg: ModelFields) -> bool:
    """Oscar alone has a place for the tags of a picture."""
    return cfg.tags and cfg.model == "oscar"


def open_split(
    corpus: Corpus, task: Task, name: str, tokenizer: WordPiece,
    *, max_text_tokens: int, max_regions: int, tags: bool, limit: int = 0, images: int = 0, listed: bool = False,
) -> Split:  # fmt: skip
    """Encode a split, or its first `limit` examples if limit > 0 (a fixed, label-free choice). images, listed: of pairs
    (see `shown`)."""
    examples = examples_of(corpus, task.name, name)
    if isinstance(task, Contrasting):
        examples = shown(examples, task, images=images, listed=listed)
    if limit:
        examples = examples.select(range(min(limit, len(examples))))
    if not len(examples):
        raise CorpusError(f"{corpus.path}: split {name} of task {task.name} is empty; prepare the corpus again.")
    encoded = task.encode(examples, tokenizer, limit=max_text_tokens, tags=corpus.tags if tags else None)
    regions = [max(min(corpus.num_regions(image), max_regions) for image in row.image_ids) for row in encoded]
    lengths = np.array([max(map(len, row.texts)) for row in encoded]) + np.array(regions)
    return Split(name.replace(",", "-"), corpus, examples, encoded, lengths, max_regions, task)


def shown(examples: Dataset, task: Contrasting, *, images: int, listed: bool) -> Dataset:
    """listed: where the split lists the pairs to score, those; else all pairs, of its first `images` if images > 0."""
    if task.asked(examples) is not None:
        if listed:
            return examples
        examples = examples.remove_columns("extra").add_column("extra", [""] * len(examples))
    own = [row[0] for row in examples["image_ids"]]
    few = set(list(dict.fromkeys(own))[:images] if images else own)
    return examples.select([index for index, name in enumerate(own) if name in few]) if images else examples


def near(split: Split, groups: Groups, count: int) -> list[list[int]]:
    """For every picture the `count` that look most like it, those it is listed with (specs: ViLBERT 3.3) or the
    nearest by their mean region, as far as the split shows them."""
    first = [members[0] for members in groups.members]
    names = [split.encoded[index].image_ids[0] for index in first]
    place = {name: number for number, name in enumerate(names)}
    listed = [json.loads(split.examples[index]["extra"] or "{}").get("hard_negatives") for index in first]
    if any(listed):
        return [[place[name] for name in row or () if name in place][:count] for row in listed]
    means = torch.from_numpy(np.stack([split.corpus.regions(name)[0].mean(0, dtype=np.float32) for name in names]))
    found = list[list[int]]()
    with meter("pictures that look alike", len(names)) as bar:
        for own in torch.arange(len(names)).split(CHUNK):
            distances = torch.cdist(means[own], means)
            distances[torch.arange(len(own)), own] = torch.inf
            found += distances.topk(min(count, len(names) - 1), largest=False).indices.tolist()
            bar.advance(len(own))
    return found


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


def collate(rows: Sequence[Encoded], corpus: RegionSource, *, max_regions: int, labels: int) -> dict[str, Tensor]:
    """input_ids [B,S,T], regions [B,S,R,D], boxes [B,S,R,4], their masks and layout [B*S,L], where S pairs of a text
    and an image make an example; labels [B], and targets [B,labels] where answers have soft scores."""
    texts, images = ([widen(row, part) for row in rows] for part in ("texts", "image_ids"))
    shape = len(rows), len(texts[0])
    found = {name: corpus.regions(name) for row in images for name in row}
    kept = {name: min(len(boxes), max_regions) for name, (_, boxes) in found.items()}
    tokens, regions = max(len(text) for row in texts for text in row), max(kept.values())
    input_ids = np.zeros((*shape, tokens), np.int64)
    kind = np.result_type(*{rows.dtype for rows, _ in found.values()})  # torch makes fp32 of fp16 faster than numpy
    features = np.zeros((*shape, regions, corpus.region_dim), kind)
    boxes = np.zeros((*shape, regions, 4), np.float32)
    for place in np.ndindex(shape):
        text, name = texts[place[0]][place[1]], images[place[0]][place[1]]
        input_ids[place][: len(text)] = text
        features[place][: kept[name]], boxes[place][: kept[name]] = (each[: kept[name]] for each in found[name])
    text_lengths = torch.tensor([[len(text) for text in row] for row in texts])
    region_lengths = torch.tensor([[kept[name] for name in row] for row in images])
    return {
        "input_ids": torch.from_numpy(input_ids),
        "text_mask": torch.arange(tokens) < text_lengths[..., None],
        "regions": torch.from_numpy(features).float(),
        "boxes": torch.from_numpy(boxes),
        "region_mask": torch.arange(regions) < region_lengths[..., None],
        "layout": joint_layout(text_lengths.flatten(), region_lengths.flatten(), tokens),
        **answers_of(rows, labels),
        **({"token_type_ids": segments_of(rows, input_ids.shape)} if rows[0].segments else {}),
        **(pointed_at(rows, torch.from_numpy(boxes[:, 0])) if rows[0].box else {}),
    }


def segments_of(rows: Sequence[Encoded], shape: tuple[int, ...]) -> Tensor:
    """[B,S,T]: 1 in the second part of a text."""
    kinds = torch.zeros(shape, dtype=torch.int64)
    for b, row in enumerate(rows):
        for s, segments in enumerate(widen(row, "segments")):
            kinds[b, s, : len(segments)] = torch.tensor(segments)
    return kinds


def widen(row: Encoded, part: str) -> tuple[Any, ...]:
    """The texts or images of an example, one for each of its pairs: a single one serves all."""
    values, pairs = getattr(row, part), max(len(row.texts), len(row.image_ids))
    return values if len(values) == pairs else values * pairs


def pointed_at(rows: Sequence[Encoded], regions: Tensor) -> dict[str, Tensor]:
    """targets [B,R]: how far each region is what the text points at, 0 below half; candidates [B,C,4], if any, where
    those of padding have no area."""
    wanted = torch.tensor([row.box for row in rows])[:, None]
    overlap = box_iou(wanted, regions)[:, 0]
    found = {"targets": overlap.masked_fill(overlap < HALF, 0.0)}
    most = max(len(row.candidates) for row in rows)
    if not most:
        return found
    none = ((0.0, 0.0, 0.0, 0.0),)
    return found | {"candidates": torch.tensor([row.candidates + none * (most - len(row.candidates)) for row in rows])}


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """[B,width]."""
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def answers_of(rows: Sequence[Encoded], labels: int) -> dict[str, Tensor]:
    """labels [B], and targets [B,labels] where answers have soft scores."""
    soft = {"targets": soft_targets(rows, labels)} if rows[0].scores is not None else {}
    return {"labels": torch.tensor([row.label for row in rows])} | soft


def soft_targets(rows: Sequence[Encoded], labels: int) -> Tensor:
    """[B,labels]: the score of every label, 0 where an example names none."""
    targets = torch.zeros(len(rows), labels)
    for number, row in enumerate(rows):
        for label, score in (row.scores or {}).items():
            targets[number, label] = score
    return targets


def joint_layout(text_lengths: Tensor, region_lengths: Tensor, tokens: int) -> Tensor:
    """Positions [M,L] of each text and then its regions on the axis of `tokens` + R places; -1 is padding."""
    total = text_lengths + region_lengths
    place = torch.arange(int(total.max())).expand(len(total), -1)
    texts = text_lengths[:, None]
    position = torch.where(place < texts, place, place - texts + tokens)
    return position.masked_fill(place >= total[:, None], -1)
