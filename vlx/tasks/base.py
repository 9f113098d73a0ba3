"""What a task is: how an example becomes tensors, what is learnt, and the official score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from datasets import Dataset

from vlx.objectives.supervised import TaskLoss
from vlx.tokenization import WordPiece


class Encoded(NamedTuple):
    """An example before its regions are read."""

    input_ids: list[int]
    image_ids: tuple[str, ...]
    label: int


class Splits(NamedTuple):
    """Names of a corpus's splits: learn from, choose by, report on. The test split chooses nothing."""

    train: str
    validation: str
    test: str


class Task(Protocol):
    """The contract. `probabilities` are [examples, num_labels], in the order of the examples."""

    @property
    def name(self) -> str: ...
    @property
    def num_images(self) -> int: ...
    @property
    def num_labels(self) -> int: ...
    @property
    def splits(self) -> Splits: ...
    @property
    def loss(self) -> TaskLoss: ...

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int) -> list[Encoded]: ...

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]: ...

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]: ...

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, path: Path) -> None: ...

    def chance_level(self, examples: Dataset) -> float: ...
