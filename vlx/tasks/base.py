"""What a task is: how an example becomes token ids, what is learned, and the official score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NamedTuple

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.batch import Batch
from vlx.errors import ConfigError
from vlx.models.heads import Head
from vlx.objectives.supervised import TaskLoss, cross_entropy, mean_bce, soft_target_bce
from vlx.tasks.texts import TagLookup
from vlx.tokenization import WordPiece

Box = tuple[float, float, float, float]  # x1 y1 x2 y2 in 0..1


class Encoded(NamedTuple):
    """An example before its regions are read. Texts and images pair up; a single text or image serves every pair."""

    texts: tuple[list[int], ...]  # one, or one per choice
    image_ids: tuple[str, ...]  # one, or one per image of the statement
    label: int = -1  # -1: unknown
    segments: tuple[list[int], ...] = ()  # per text: 0, and 1 in the second part; empty: all 0
    scores: Mapping[int, float] | None = None  # label -> soft target; None: the task has no soft targets
    box: Box | None = None  # the box that the text refers to
    candidates: tuple[Box, ...] = ()  # the boxes to choose from; empty: any region
    tags: tuple[int, ...] = ()  # uncut object tags of the image, where the text is paired with other images too
    tag_budget: int = 0  # tokens left for tags after the text


class Splits(NamedTuple):
    """Split names of a corpus. The test split is only reported, it selects nothing."""

    train: str
    validation: str
    test: str


class ImageGroups(NamedTuple):
    """Examples grouped by image. hard_negatives: for each group the groups whose images are most similar to its own."""

    group_of: list[int]
    members: list[list[int]]
    hard_negatives: Sequence[Sequence[int]] = ()


class PredictionColumns(NamedTuple):
    """Columns of the predictions table. drawn_boxes: per row the label's box and the prediction's, x1 y1 x2 y2."""

    label: list[str]
    prediction: list[str]
    score: np.ndarray
    correct: Sequence[bool] | np.ndarray
    drawn_boxes: list[list[list[float]]] | None = None


@dataclass(frozen=True)
class Task(ABC):
    """A task of a corpus. `probabilities` are [examples, labels or choices], in the order of the examples.

    answers: the text of each label; empty where the model points at a box or picks one of an example's own choices.
    metric: the official score by which steps and versions are chosen.
    """

    name: str
    splits: Splits
    answers: tuple[str, ...] = ()
    loss: TaskLoss = cross_entropy
    metric: str = "accuracy"

    alternative_losses: ClassVar[Mapping[str, TaskLoss]] = {}
    examples_vary: ClassVar[bool] = False  # training_pairs draws: a cached teacher output does not fit
    num_hard_negatives: ClassVar[int] = 0  # similar images that give each image its hard negatives
    scores_all_pairs: ClassVar[bool] = False  # probabilities are [texts, images]; the task has pair and candidate_mask
    answers_one_text: ClassVar[bool] = True  # a text and images alone can be answered, without choices of the example

    @property
    @abstractmethod
    def head(self) -> Head:
        """The output that a model needs for the task."""

    @property
    def soft_targets(self) -> bool:
        """Whether every answer is a yes or no of its own, learned by binary cross-entropy."""
        return self.loss in (soft_target_bce, mean_bce)

    def with_answers(self, answers: Sequence[str]) -> "Task":
        """Return the task with this vocabulary, if it takes one."""
        return self

    def with_loss(self, name: str) -> "Task":
        """Return the task with another loss; empty: its own. bce: as in ViLBERT 12-in-1 (Lu et al. 2020)."""
        if not name:
            return self
        if name not in self.alternative_losses:
            raise ConfigError(
                f"loss={name}: task {self.name} chooses one of several; expected a task with named answers."
            )
        return replace(self, loss=self.alternative_losses[name])

    def with_itm_negatives(self, name: str) -> "Task":
        """Return the task with one or three negative pairs per positive pair."""
        if name == "one":
            return self
        raise ConfigError(
            f"itm_negatives={name}: task {self.name} has no pairs to choose from; expected task=retrieval."
        )

    def for_dual_encoder(self) -> "Task":
        """Return the task as a dual encoder trains it."""
        raise ConfigError(f"task={self.name}: a dual encoder only matches texts and images; expected task=retrieval.")

    @abstractmethod
    def encode(
        self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None = None
    ) -> list[Encoded]:
        """Encode every example in at most `limit` tokens. tags: object tags by image id, read after the text."""

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """[B,...] of logits [B,A]."""
        return logits.sigmoid() if self.soft_targets else logits.softmax(-1)

    @abstractmethod
    def is_labeled(self, examples: Dataset) -> bool:
        """Whether the split's labels are published, so that it can be scored here."""

    @abstractmethod
    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]:
        """Return the official scores."""

    @abstractmethod
    def labels_and_predictions(self, examples: Dataset, probabilities: np.ndarray) -> PredictionColumns:
        """Return the columns of the predictions table that depend on the task."""

    def prediction_rows(self, examples: Dataset, columns: PredictionColumns) -> dict[str, Sequence[Any]]:
        """Return identifier, text, category and image_ids of every row of the predictions table."""
        return {name: examples[name] for name in ("identifier", "text", "category", "image_ids")}

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        """Return the predictions table: identifier text category image_ids label prediction score correct, and
        drawn_boxes where the task has boxes."""
        columns = self.labels_and_predictions(examples, probabilities)
        table = self.prediction_rows(examples, columns)
        table["label"] = columns.label
        table["prediction"] = columns.prediction
        table["score"] = columns.score.round(4).tolist()
        table["correct"] = np.asarray(columns.correct).tolist()
        if columns.drawn_boxes is not None:
            table["drawn_boxes"] = columns.drawn_boxes
        return table

    @abstractmethod
    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write the official file, named `stem` and the official suffix."""

    @abstractmethod
    def score_submission(self, examples: Dataset, path: Path) -> dict[str, float]:
        """Return the official scores of a submission. Raises SubmissionError unless it has every example once."""

    @abstractmethod
    def majority_baseline(self, examples: Dataset) -> float:
        """Return the metric of the best prediction that reads neither text nor image."""

    def select(self, examples: Dataset, *, num_images: int, candidates_only: bool) -> Dataset:
        """Return the examples of a split to use; both options are for tasks that score all pairs."""
        return examples

    def image_groups(self, encoded: Sequence[Encoded]) -> ImageGroups | None:
        """Group the examples by image; None: the task does not need the groups."""
        return None

    def training_pairs(
        self, encoded: Sequence[Encoded], groups: ImageGroups | None, index: int, rng: Random
    ) -> list[Encoded]:
        """Return the rows learned from example `index`, as many for every example."""
        return [encoded[index]]

    def pair(self, text: Encoded, image: Encoded) -> Encoded:
        """Return the text of one example with the image of another; of tasks that score all pairs."""
        raise NotImplementedError(f"task {self.name} does not score all pairs")

    def candidate_mask(self, examples: Dataset) -> np.ndarray | None:
        """Return which pairs [texts, images] a split lists for scoring; None: all."""
        return None

    def evaluation_protocol(self, examples: Dataset, encoded: Sequence[Encoded]) -> str:
        """Describe what a score of these examples is over."""
        return f"{len(encoded):,} examples"

    def describe_answers(self, scores: list[float], top_k: int) -> list[tuple[str, float]]:
        """Return the top-k answers of one example with their probabilities."""
        return sorted(zip(self.answers, scores, strict=True), key=lambda pair: -pair[1])[:top_k]
