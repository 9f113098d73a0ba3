"""Image-text retrieval: find the image of a caption and the captions of an image (Oscar, oscar/run_retrieval.py).

A cross-encoder reads a caption with an image and classifies the pair; every pair is scored, or those that the split
lists.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vlx.batch import Batch
from vlx.models.heads import Head
from vlx.tasks.base import Encoded, ImageGroups, PredictionColumns, Splits, Task
from vlx.tasks.metrics.recall import CUTOFFS, best_ranks, random_recall, rankings, recalls
from vlx.tasks.retrieval_sampling import Negative, draw_negative, draw_three_negatives
from vlx.tasks.texts import TagLookup
from vlx.tokenization import WordPiece

SUBMISSION_TITLES = {"i2t": "i2t_retrieval", "t2i": "t2i_retrieval"}  # of Oscar's .eval.json


class RetrievalTask(Task):
    """An example is a caption. Trains on each pair and one negative pair, as Oscar.

    `probabilities` are matching scores [captions, images], images in order of first appearance; only pairs of the
    candidate mask count.
    """

    examples_vary: ClassVar[bool] = True
    scores_all_pairs: ClassVar[bool] = True

    @property
    def head(self) -> Head:
        return Head("classify", len(self.answers))

    def with_itm_negatives(self, name: str) -> Task:
        return HARD_RETRIEVAL if name == "three" else super().with_itm_negatives(name)

    def for_dual_encoder(self) -> Task:
        return IN_BATCH_RETRIEVAL

    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        """Encode [CLS] caption [SEP], followed by the image's tags and [SEP] as far as `limit` allows."""
        captions = tokenizer.encode(examples["text"], limit=limit)
        image_ids = list(map(tuple, examples["image_ids"]))
        tag_ids = encode_tags(image_ids, tokenizer, tags) if tags else {}
        if not any(tag_ids.values()):
            return [Encoded((ids,), images, 1) for ids, images in zip(captions, image_ids, strict=True)]
        rows = [
            Encoded((ids,), images, 1, ([0] * len(ids),), tags=tuple(tag_ids[images[0]]), tag_budget=limit - len(ids))
            for ids, images in zip(captions, image_ids, strict=True)
        ]
        return [self.pair(row, row) for row in rows]

    def pair(self, text: Encoded, image: Encoded) -> Encoded:
        """Return the caption of one example with the image of another, and its tags cut to the caption's budget."""
        if not text.segments:
            return text._replace(image_ids=image.image_ids)
        caption = text.texts[0][: len(text.texts[0]) - sum(text.segments[0])]
        tags = [*image.tags[: text.tag_budget - 1], caption[-1]] if image.tags and text.tag_budget else []
        segments = [0] * len(caption) + [1] * len(tags)
        return text._replace(
            texts=([*caption, *tags],), segments=(segments,), image_ids=image.image_ids, tags=image.tags
        )

    def image_groups(self, encoded: Sequence[Encoded]) -> ImageGroups:
        """Group the captions by image."""
        members: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(encoded):
            members.setdefault(row.image_ids, []).append(index)
        number = {image_ids: group for group, image_ids in enumerate(members)}
        return ImageGroups([number[row.image_ids] for row in encoded], list(members.values()))

    def training_pairs(
        self, encoded: Sequence[Encoded], groups: ImageGroups | None, index: int, rng: Random
    ) -> list[Encoded]:
        """Return the pair and a negative with another image or a caption of another image."""
        assert groups is not None  # of `image_groups`
        negative = draw_negative(groups.group_of[index], rng, num_captions=list(map(len, groups.members)))
        pair = self.negative_pair(encoded, groups, index, negative)
        return [encoded[index], pair._replace(label=0)]

    def negative_pair(self, encoded: Sequence[Encoded], groups: ImageGroups, index: int, negative: Negative) -> Encoded:
        """Return example `index` with the image, or the caption, of the negative."""
        captions = groups.members[negative.image]
        if negative.caption is None:
            return self.pair(encoded[index], encoded[captions[0]])
        return self.pair(encoded[captions[negative.caption]], encoded[index])

    def select(self, examples: Dataset, *, num_images: int, candidates_only: bool) -> Dataset:
        """Return the captions of the first `num_images` images (0: all), to be scored over all pairs; or, if
        `candidates_only` and the split lists candidates, the whole split."""
        if self.candidate_mask(examples) is not None:
            if candidates_only:
                return examples
            examples = examples.remove_columns("extra").add_column("extra", [""] * len(examples))
        if not num_images:
            return examples
        selected = set(image_names(examples)[:num_images])
        return examples.select([index for index, row in enumerate(examples["image_ids"]) if row[0] in selected])

    def candidate_mask(self, examples: Dataset) -> np.ndarray | None:
        """Return the listed captions of each image [captions, images], as Oscar's minival_caption_indexs; None: all."""
        matches = match_matrix(examples)
        row_of = {identifier: row for row, identifier in enumerate(examples["identifier"])}
        mask = np.zeros_like(matches)
        for column, caption in enumerate(matches.argmax(0)):
            extra = json.loads(examples[int(caption)]["extra"] or "{}")
            mask[[row_of[name] for name in extra.get("candidates", ()) if name in row_of], column] = True
        return mask if mask.any() else None

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """The last column is the probability of a match; a model that chose among pairs has a single logit."""
        return logits.softmax(-1) if logits.shape[1] > 1 else torch.cat([-logits, logits], 1).sigmoid()

    def is_labeled(self, examples: Dataset) -> bool:
        return True

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        """R@1, R@5 and R@10 in both directions and their mean; among listed captions, from image to text alone."""
        directions = rankings(probabilities, match_matrix(examples), self.candidate_mask(examples))
        return flat_scores({direction: recalls(*ranking) for direction, ranking in directions.items()})

    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        """A row per caption with the image retrieved; among listed captions a row per image with the caption
        retrieved."""
        matches = match_matrix(examples)
        directions = rankings(probabilities, matches, self.candidate_mask(examples))
        if "t2i" in directions:
            ranking = directions["t2i"]
            candidates = image_names(examples)
            labels = [image_ids[0] for image_ids in examples["image_ids"]]
        else:
            ranking = directions["i2t"]
            candidates = list(examples["text"])
            labels = [candidates[caption] for caption in matches.argmax(0)]
        return PredictionColumns(
            label=labels,
            prediction=[candidates[index] for index in ranking.scores.argmax(1)],
            score=ranking.scores.max(1),
            correct=best_ranks(*ranking) < 1,
        )

    def prediction_rows(self, examples: Dataset, columns: PredictionColumns) -> dict[str, Sequence[Any]]:
        """A caption is shown with the image retrieved, an image with its first caption."""
        if self.candidate_mask(examples) is None:
            return super().prediction_rows(examples, columns) | {"image_ids": [[name] for name in columns.prediction]}
        names = image_names(examples)
        return {
            "identifier": names,
            "text": columns.label,
            "category": [""] * len(names),
            "image_ids": [[name] for name in names],
        }

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write Oscar's .eval.json, which holds the metrics; a test set of captions has no official file."""
        directions = rankings(probabilities, match_matrix(examples), self.candidate_mask(examples))
        tables = {
            SUBMISSION_TITLES[direction]: {f"R@{k}": recall for k, recall in recalls(*ranking).items()}
            for direction, ranking in directions.items()
        }
        path = stem.with_suffix(".eval.json")
        path.write_text(json.dumps(tables, indent=1), encoding="utf-8")
        return path

    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        """Return the metrics of the file; it holds no scores of pairs to compute them from."""
        tables = json.loads(path.read_text(encoding="utf-8"))
        return flat_scores(
            {
                direction: {k: tables[title][f"R@{k}"] for k in CUTOFFS}
                for direction, title in SUBMISSION_TITLES.items()
                if title in tables
            }
        )

    def majority_baseline(self, examples: Dataset) -> float:
        """Mean recall of a random order."""
        matches = match_matrix(examples)
        mask = self.candidate_mask(examples)
        candidates = np.ones_like(matches) if mask is None else mask
        num_candidates = {"i2t": candidates.sum(0), "t2i": candidates.sum(1)}
        values = [
            random_recall(ranking.relevant.sum(1), num_candidates[direction])
            for direction, ranking in rankings(matches, matches, mask).items()
        ]
        return float(np.mean(values))

    def evaluation_protocol(self, examples: Dataset, encoded: Sequence[Encoded]) -> str:
        mask = self.candidate_mask(examples)
        if mask is not None:
            return f"{len(encoded):,} captions, {mask.sum():,} listed pairs"
        num_images = len({row.image_ids for row in encoded})
        return f"{len(encoded):,} captions, all pairs with {num_images:,} images"


class HardRetrievalTask(RetrievalTask):
    """Trains on choosing the pair among three negatives, one of them hard (12-in-1, Lu et al. 2020)."""

    num_hard_negatives: ClassVar[int] = 99  # ViLBERT, vilbert/datasets/retreival_dataset.py
    answers_one_text: ClassVar[bool] = False

    @property
    def head(self) -> Head:
        return Head("multiple_choice", 1)

    def training_pairs(
        self, encoded: Sequence[Encoded], groups: ImageGroups | None, index: int, rng: Random
    ) -> list[Encoded]:
        """Return one row of four pairs, the positive first; then another caption, another image, and a caption of a
        similar image."""
        assert groups is not None  # of `image_groups`
        image = groups.group_of[index]
        negatives = draw_three_negatives(
            image,
            rng,
            num_captions=list(map(len, groups.members)),
            hard_negatives=groups.hard_negatives[image],
        )
        pairs = [encoded[index], *(self.negative_pair(encoded, groups, index, negative) for negative in negatives)]
        return [
            Encoded(
                texts=tuple(chain.from_iterable(pair.texts for pair in pairs)),
                image_ids=tuple(chain.from_iterable(pair.image_ids for pair in pairs)),
                label=0,
                segments=tuple(chain.from_iterable(pair.segments for pair in pairs)),
            )
        ]


class InBatchRetrievalTask(RetrievalTask):
    """Trains a dual encoder: every other image of the batch is a negative."""

    def training_pairs(
        self, encoded: Sequence[Encoded], groups: ImageGroups | None, index: int, rng: Random
    ) -> list[Encoded]:
        """Return the pair, labeled with the number of its image."""
        assert groups is not None  # of `image_groups`
        return [encoded[index]._replace(label=groups.group_of[index])]


def encode_tags(image_ids: Sequence[tuple[str, ...]], tokenizer: WordPiece, tags: TagLookup) -> dict[str, list[int]]:
    """Image id -> token ids of its tags."""
    names = [name for (name,) in dict.fromkeys(image_ids)]
    return dict(zip(names, tokenizer.token_ids([" ".join(tags(name)) for name in names]), strict=True))


def flat_scores(recalls_by_direction: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """recall_mean, and DIRECTION_recall_at_K each."""
    scores = {
        f"{direction}_recall_at_{k}": recall
        for direction, by_cutoff in recalls_by_direction.items()
        for k, recall in by_cutoff.items()
    }
    return {"recall_mean": float(np.mean(list(scores.values())))} | scores


def image_names(examples: Dataset) -> list[str]:
    """Image ids in order of first appearance."""
    return list(dict.fromkeys(image_ids[0] for image_ids in examples["image_ids"]))


def match_matrix(examples: Dataset) -> np.ndarray:
    """Which caption belongs to which image, bool [captions, images]."""
    column_of = {name: column for column, name in enumerate(image_names(examples))}
    columns = [column_of[image_ids[0]] for image_ids in examples["image_ids"]]
    matches = np.zeros((len(columns), len(column_of)), bool)
    matches[np.arange(len(columns)), columns] = True
    return matches


SPLITS = Splits("train", "val", "test")
RETRIEVAL = RetrievalTask("retrieval", SPLITS, ("apart", "together"), metric="recall_mean")
IN_BATCH_RETRIEVAL = InBatchRetrievalTask("retrieval", SPLITS, ("apart", "together"), metric="recall_mean")
HARD_RETRIEVAL = HardRetrievalTask("retrieval", SPLITS, metric="recall_mean")
