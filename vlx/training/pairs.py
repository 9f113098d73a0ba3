"""Texts and pictures that belong together, of which pre-training hides a part.

What an example shows in an epoch is a function of (seed, epoch, its identifier): the same after a resume, and in any
batch. The text's side is here; a picture's side is another's, Regions' or one of pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.objectives.masking import hide_words
from vlx.objectives.vilbert import only_matched
from vlx.tokenization import WordPiece, cut_pair
from vlx.training.batching import examples_of, joint_layout, padded

Batch = dict[str, Tensor]
TRIES = 20  # to draw another picture's text
FIXED = -1  # the epoch whose masks validation sees


class Hiding(NamedTuple):
    """What is hidden. words: share of them; swapped: share of texts shown with another's picture."""

    words: float
    swapped: float
    only_matched: bool  # nothing is to be guessed of a text and a picture that do not belong together


class PictureSide(Protocol):
    """The part of a batch that comes of its pictures."""

    def lengths(self, images: Sequence[str]) -> np.ndarray:
        """How long each picture makes a sequence, [N]: examples of like length share a batch."""
        ...

    def batch(self, images: Sequence[str], draws: Sequence[Random]) -> Batch:
        """Tensors of these pictures; draws: of each example its own, after those of its text."""
        ...

    def epoch_batches(
        self, images: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        """Of examples with these pictures and lengths: shuffled, those of a batch alike."""
        ...

    def ordered_batches(self, images: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        """Every example once."""
        ...


class Text(NamedTuple):
    """A text with its picture, before anything is hidden."""

    identifier: str
    image_id: str
    words: list[int]  # without special tokens
    tags: list[int]  # of the picture, where the model reads such
    answers: Mapping[int, float]  # scores by label; empty: no question, or none of its answers is known


class Shown(NamedTuple):
    """What the model reads of a text in an epoch, and what it is to guess, -1: nothing."""

    ids: list[int]
    labels: list[int]
    segments: list[int]
    matched: int  # 1: text and picture belong together; 0: another's text; 2: another's tags
    answer: int


@dataclass(frozen=True)
class Pairs:
    """A split to pre-train on."""

    name: str
    corpus: Corpus
    texts: list[Text]
    tokenizer: WordPiece
    limit: int  # tokens of a text and its tags
    hiding: Hiding
    side: PictureSide
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        return self.side.epoch_batches(self.images, self.lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, batch_size: int) -> list[list[int]]:
        """For validation: every example once."""
        return self.side.ordered_batches(self.images, self.lengths, batch_size)

    @cached_property
    def images(self) -> list[str]:
        """The picture of every example."""
        return [text.image_id for text in self.texts]

    def fixed_batch(self, indices: Sequence[int]) -> Batch:
        """For validation: the same is hidden every time."""
        return self.training_batch(indices, seed=0, epoch=FIXED)

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> Batch:
        """input_ids, text_mask and word_labels [B,T]; word_places [K], where in B*T words are to be guessed;
        matched_labels and answer_labels [B]; token_type_ids where there are tags; and the pictures' side, with regions
        the layout too."""
        draws = [Random(f"{seed}/{epoch}/{self.texts[index].identifier}") for index in indices]
        rows = [self.show(index, rng) for index, rng in zip(indices, draws, strict=True)]
        lengths = torch.tensor([len(row.ids) for row in rows])
        tokens = int(lengths.max())
        batch = self.side.batch([self.texts[index].image_id for index in indices], draws) | {
            "input_ids": padded([row.ids for row in rows], tokens, 0),
            "text_mask": torch.arange(tokens) < lengths[:, None],
            "word_labels": padded([row.labels for row in rows], tokens, -1),
            "matched_labels": torch.tensor([row.matched for row in rows]),
            "answer_labels": torch.tensor([row.answer for row in rows]),
        }
        if any(row.segments[-1] for row in rows):
            batch["token_type_ids"] = padded([row.segments for row in rows], tokens, 0)
        if "region_mask" in batch:
            batch["layout"] = joint_layout(lengths, batch["region_mask"].sum(1), tokens)
        if self.hiding.only_matched:
            batch = only_matched(batch)
        return batch | {"word_places": (batch["word_labels"] >= 0).flatten().nonzero().flatten()}

    def show(self, index: int, rng: Random) -> Shown:
        """Draw another's text or tags or none, then the words to guess, then one of several answers by their scores."""
        text, swap = self.texts[index], rng.random() < self.hiding.swapped
        other = self.other(text.image_id, rng) if swap else None
        words, tags, matched = text.words, text.tags, 1
        if other is not None and tags and other.tags and rng.random() < 0.5:
            tags, matched = other.tags, 2
        elif other is not None:
            words, matched = other.words, 0
        first, second = cut_pair(words, tags, limit=self.limit, cut="longer")
        vocabulary, mask_id = len(self.tokenizer), self.tokenizer.vocab["[MASK]"]
        options = {"mask_id": mask_id, "vocab_size": vocabulary}
        parts = [hide_words(part or [], rng, share=self.hiding.words, **options) for part in (first, second)]
        shown, asked = zip(*parts, strict=True)
        ids, segments = self.tokenizer.join(shown[0], shown[1] or None)
        labels = [-1, *asked[0], -1, *asked[1], *([-1] if asked[1] else [])]
        answers = text.answers if matched == 1 else {}
        answer = rng.choices([*answers], [*answers.values()])[0] if answers else -1
        return Shown(ids, labels, segments, matched, answer)

    def other(self, image_id: str, rng: Random) -> Text | None:
        """Another picture's text; None where hardly any is."""
        drawn = (self.texts[rng.randrange(len(self.texts))] for _ in range(TRIES))
        return next((text for text in drawn if text.image_id != image_id), None)


def open_pairs(
    corpus: Corpus, task: str, name: str, tokenizer: WordPiece, side: PictureSide, hiding: Hiding,
    *, limit: int, tags: bool, examples: int = 0, images: int = 0,
) -> Pairs:  # fmt: skip
    """The texts of a task's split, each with each of its pictures. examples, images: of the first so many; 0: all."""
    rows = examples_of(corpus, task, name)
    if examples:
        rows = rows.select(range(min(examples, len(rows))))
    if images:
        shown = set(list(dict.fromkeys(found[0] for found in rows["image_ids"]))[:images])
        rows = rows.select([index for index, found in enumerate(rows["image_ids"]) if found[0] in shown])
    if not len(rows):
        raise CorpusError(f"{corpus.path}: split {name} of task {task} is empty; prepare the corpus again.")
    texts = texts_of(rows, tokenizer, corpus, task, tags=tags)
    longest = np.array([min(limit, len(text.words) + len(text.tags) + 3) for text in texts])
    lengths = longest + side.lengths([text.image_id for text in texts])
    return Pairs(name.replace(",", "-"), corpus, texts, tokenizer, limit, hiding, side, lengths)


def texts_of(rows: Dataset, tokenizer: WordPiece, corpus: Corpus, task: str, *, tags: bool) -> list[Text]:
    labels = {answer: label for label, answer in enumerate(corpus.answers(task))}
    kept: dict[str, list[int]] = {}
    texts = []
    columns = (rows[name] for name in ("identifier", "image_ids", "answers", "scores"))
    for words, identifier, images, answers, scores in zip(tokenizer.pieces(rows["text"]), *columns, strict=True):
        known = {labels[answer]: score for answer, score in zip(answers, scores, strict=True) if answer in labels}
        for number, image in enumerate(images):
            if tags and image not in kept:
                kept[image] = tokenizer.pieces([" ".join(corpus.tags(image))])[0]
            name = f"{identifier}/{number}" if number else identifier
            texts.append(Text(name, image, words, kept.get(image, []), known))
    return texts
