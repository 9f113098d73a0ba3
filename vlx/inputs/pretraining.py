"""Image-text pairs with masks, for pre-training.

The masks of an example in an epoch depend on (seed, epoch, its identifier): the same after a resume and in any batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset

from vlx.batch import Batch
from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.inputs.dataset import examples_of, packing_of
from vlx.inputs.image_input import ImageInput
from vlx.inputs.masking import MaskingConfig, mask_tokens
from vlx.inputs.text import padded
from vlx.tokenization import WordPiece, cut_pair

ATTEMPTS = 20  # to sample a text of another image
EVALUATION_EPOCH = -1  # whose masks validation uses


class ImageTextPair(NamedTuple):
    """A text and its image before masking. Token ids are without special tokens; tags: of the image, where the model
    reads them. answers: score by label; empty: no question, or no answer in the vocabulary."""

    identifier: str
    image_id: str
    text_ids: list[int]
    tag_ids: list[int]
    answers: Mapping[int, float]


class MaskedExample(NamedTuple):
    """mlm_labels: -1 = not masked. itm_label: 1 = text and image match; 0 = another image's text; 2 = another image's
    tags. qa_label: -1 = none."""

    input_ids: list[int]
    mlm_labels: list[int]
    segments: list[int]
    itm_label: int
    qa_label: int


@dataclass(frozen=True)
class PretrainingDataset:
    """max_text_tokens: of a text and its tags."""

    name: str
    corpus: Corpus
    pairs: list[ImageTextPair]
    tokenizer: WordPiece
    max_text_tokens: int
    masking: MaskingConfig
    image_input: ImageInput

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of text and image, [pairs]."""
        texts = [min(self.max_text_tokens, len(pair.text_ids) + len(pair.tag_ids) + 3) for pair in self.pairs]
        return np.array(texts) + self.image_input.lengths(self.image_ids)

    @cached_property
    def image_ids(self) -> list[str]:
        return [pair.image_id for pair in self.pairs]

    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        return self.image_input.epoch_batches(self.image_ids, self.lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, batch_size: int) -> list[list[int]]:
        """Every pair once, for validation."""
        return self.image_input.ordered_batches(self.image_ids, self.lengths, batch_size)

    def evaluation_batch(self, indices: Sequence[int]) -> Batch:
        """With the same masks at every call."""
        return self.training_batch(indices, seed=0, epoch=EVALUATION_EPOCH)

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> Batch:
        """input_ids, text_mask and mlm_labels [B,T]; masked_positions [K] in B*T; itm_labels and qa_labels [B];
        token_type_ids [B,T] where there are tags; the image input's tensors [B,...], with regions packing [B,L]."""
        generators = [Random(f"{seed}/{epoch}/{self.pairs[index].identifier}") for index in indices]
        rows = [self.masked_example(index, generator) for index, generator in zip(indices, generators, strict=True)]
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        tokens = int(lengths.max())
        batch = self.image_input.tensors([self.image_ids[index] for index in indices], generators=generators)
        batch |= {
            "input_ids": padded([row.input_ids for row in rows], tokens, 0),
            "text_mask": torch.arange(tokens) < lengths[:, None],
            "mlm_labels": padded([row.mlm_labels for row in rows], tokens, -1),
            "itm_labels": torch.tensor([row.itm_label for row in rows]),
            "qa_labels": torch.tensor([row.qa_label for row in rows]),
        }
        if any(row.segments[-1] for row in rows):
            batch["token_type_ids"] = padded([row.segments for row in rows], tokens, 0)
        if "region_mask" in batch:
            batch["packing"] = packing_of(batch)
        if self.masking.mask_positives_only:
            batch = without_negative_masks(batch)
        return batch | {"masked_positions": (batch["mlm_labels"] >= 0).flatten().nonzero().flatten()}

    def masked_example(self, index: int, generator: Random) -> MaskedExample:
        """Draw a negative text or tags, then the masked tokens, then one answer in proportion to the scores."""
        pair = self.pairs[index]
        is_negative = generator.random() < self.masking.itm_negative_probability
        text_ids, tag_ids, itm_label = self.negative(pair, generator) if is_negative else self.positive(pair)
        text, tags = cut_pair(text_ids, tag_ids, limit=self.max_text_tokens, cut="longer")
        masked_text, text_labels = self.mask(text, generator)
        masked_tags, tag_labels = self.mask(tags or [], generator)
        input_ids, segments = self.tokenizer.with_special_tokens(masked_text, masked_tags or None)
        mlm_labels = [-1, *text_labels, -1, *tag_labels, *([-1] if tag_labels else [])]
        qa_label = -1
        if pair.answers and itm_label == 1:
            (qa_label,) = generator.choices([*pair.answers], [*pair.answers.values()])
        return MaskedExample(input_ids, mlm_labels, segments, itm_label, qa_label)

    def positive(self, pair: ImageTextPair) -> tuple[list[int], list[int], int]:
        """Token ids of text and tags, and the ITM label."""
        return pair.text_ids, pair.tag_ids, 1

    def negative(self, pair: ImageTextPair, generator: Random) -> tuple[list[int], list[int], int]:
        """Token ids of text and tags, one of them another image's, and the ITM label; the pair itself (label 1) where
        hardly any text is of another image."""
        samples = (self.pairs[generator.randrange(len(self.pairs))] for _ in range(ATTEMPTS))
        other = next((sample for sample in samples if sample.image_id != pair.image_id), None)
        if other is None:
            return self.positive(pair)
        if pair.tag_ids and other.tag_ids and generator.random() < 0.5:
            return pair.text_ids, other.tag_ids, 2
        return other.text_ids, pair.tag_ids, 0

    def mask(self, ids: Sequence[int], generator: Random) -> tuple[list[int], list[int]]:
        return mask_tokens(
            ids, generator, mask_id=self.tokenizer.mask, vocab_size=len(self.tokenizer),
            probability=self.masking.mlm_probability,
        )  # fmt: skip

    def profile(self) -> dict[str, int]:
        """Counts for the run's log."""
        return {"examples": len(self)}


def without_negative_masks(batch: Batch) -> Batch:
    """No masked labels where text and image do not match (ViLBERT's objective 1)."""
    negative = batch["itm_labels"][:, None] != 1
    masks = {"mlm_labels": batch["mlm_labels"].masked_fill(negative, -1)}
    if "masked_regions" in batch:
        masks["masked_regions"] = batch["masked_regions"] & ~negative
    return batch | masks


def open_pretraining_dataset(
    corpus: Corpus, task: str, name: str, tokenizer: WordPiece, image_input: ImageInput, masking: MaskingConfig,
    *, max_text_tokens: int, object_tags: bool, limit: int = 0, num_images: int = 0,
) -> PretrainingDataset:  # fmt: skip
    """Every text of a task's split with each of its images. limit: maximum examples; num_images: maximum images, with
    all of their texts; 0: all."""
    rows = examples_of(corpus, task, name)
    if limit:
        rows = rows.select(range(min(limit, len(rows))))
    if num_images:
        first = [image_ids[0] for image_ids in rows["image_ids"]]
        selected = set(list(dict.fromkeys(first))[:num_images])
        rows = rows.select([index for index, image_id in enumerate(first) if image_id in selected])
    if not len(rows):
        raise CorpusError(f"{corpus.path}: split {name} of task {task} is empty; prepare the corpus again.")
    pairs = image_text_pairs(rows, tokenizer, corpus, task, object_tags=object_tags)
    return PretrainingDataset(name.replace(",", "-"), corpus, pairs, tokenizer, max_text_tokens, masking, image_input)


def image_text_pairs(
    rows: Dataset, tokenizer: WordPiece, corpus: Corpus, task: str, *, object_tags: bool
) -> list[ImageTextPair]:
    labels = {answer: label for label, answer in enumerate(corpus.answers(task))}
    tag_ids: dict[str, list[int]] = {}
    pairs = []
    columns = (rows[name] for name in ("identifier", "image_ids", "answers", "scores"))
    for text_ids, identifier, images, answers, scores in zip(tokenizer.token_ids(rows["text"]), *columns, strict=True):
        targets = {labels[answer]: score for answer, score in zip(answers, scores, strict=True) if answer in labels}
        for number, image in enumerate(images):
            if object_tags and image not in tag_ids:
                tag_ids[image] = tokenizer.token_ids([" ".join(corpus.tags(image))])[0]
            name = f"{identifier}/{number}" if number else identifier
            pairs.append(ImageTextPair(name, image, text_ids, tag_ids.get(image, []), targets))
    return pairs
