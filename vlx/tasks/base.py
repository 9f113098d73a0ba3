"""What a task is: how an example becomes tensors, what is learnt, and the official score."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from datasets import Dataset
from torch import Tensor

from vlx.errors import SubmissionError
from vlx.models import Head
from vlx.objectives.supervised import Batch, TaskLoss
from vlx.tokenization import WordPiece

Box = tuple[float, float, float, float]  # x1 y1 x2 y2 in 0..1


Tags = Callable[[str], list[str]]  # image id -> names of the objects in it


class Encoded(NamedTuple):
    """An example before its regions are read. Texts and images pair up; one text or one image serves all the others."""

    texts: tuple[list[int], ...]  # one; or one a choice
    image_ids: tuple[str, ...]  # one; or as many as the statement is about
    label: int = -1  # -1: not known
    segments: tuple[list[int], ...] = ()  # of the texts' tokens: 0, and 1 in a second part; empty: all 0
    scores: Mapping[int, float] | None = None  # soft target of the labels that have one; None: the task has none
    box: Box | None = None  # what the text points at
    candidates: tuple[Box, ...] = ()  # where it may point, if not at any region
    tags: tuple[int, ...] = ()  # the picture's, uncut, where texts meet other pictures too
    room: int = 0  # tokens that tags may take after the text


class Splits(NamedTuple):
    """Names of a corpus's splits: learn from, choose by, report on. The test split chooses nothing."""

    train: str
    validation: str
    test: str


class Task(Protocol):
    """The contract. `probabilities` are [examples, labels or choices], in the order of the examples."""

    @property
    def name(self) -> str: ...
    @property
    def head(self) -> Head: ...
    @property
    def splits(self) -> Splits: ...
    @property
    def loss(self) -> TaskLoss: ...
    @property
    def metric(self) -> str:
        """Of the official scores the one by which steps and versions are chosen."""
        ...

    @property
    def answers(self) -> tuple[str, ...]:
        """What each label says; empty where the model points."""
        ...

    def encode(self, examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None = None) -> list[Encoded]:
        """tags: the object tags of a picture, for systems that read them after the text; None: without."""
        ...

    def probabilities(self, logits: Tensor, batch: Batch) -> Tensor:
        """[B,...] of the model's logits [B,A], as `score` and the others take them."""
        ...

    def labelled(self, examples: Dataset) -> bool:
        """Whether the split's labels are published, so that it can be scored here."""
        ...

    def score(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, float]: ...

    def predictions(self, examples: Dataset, probabilities: np.ndarray) -> dict[str, Sequence[Any]]:
        """Columns of the predictions table: identifier text category image_ids label prediction score right; and
        perhaps drawn, the box of the label and that of the prediction, x1 y1 x2 y2 in 0..1."""
        ...

    def write_submission(self, examples: Dataset, probabilities: np.ndarray, stem: Path) -> Path:
        """Write the official file, named `stem` and the official suffix."""
        ...

    def rescore(self, examples: Dataset, path: Path) -> dict[str, float]:
        """The official scores from a submission file. Raises SubmissionError unless every example is in it once."""
        ...

    def chance_level(self, examples: Dataset) -> float: ...


def encode_texts(
    examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: Tags | None
) -> list[tuple[tuple[list[int], ...], tuple[list[int], ...]]]:
    """(texts, segments) of every example: [CLS] text [SEP], the same for all its images; or, where any picture has
    tags, [CLS] text [SEP] tags [SEP] for each (specs: Oscar b.1, b.4)."""
    texts, about = examples["text"], ("image_ids", "extra")
    rows = zip(*(examples[name] for name in about), strict=True) if tags else ()
    named = [tags_of(images, extra, tags) for images, extra in rows] if tags else []
    if not any(any(found) for found in named):
        return [((ids,), ()) for ids in tokenizer.encode(texts, limit=limit)]
    flat = [(text, tag) for text, found in zip(texts, named, strict=True) for tag in found]
    pairs = iter(tokenizer.encode_pairs([text for text, _ in flat], [tag for _, tag in flat], limit=limit))
    return [tuple(zip(*(next(pairs) for _ in found), strict=True)) for found in named]  # type: ignore[misc]


def tags_of(images: Sequence[str], extra: str, tags: Tags) -> list[str]:
    """A line of tags for each image: the example's own, or what a detector said of the picture."""
    own = json.loads(extra).get("tags") if extra else None
    return list(own) if own else [" ".join(tags(image)) for image in images]


def in_order(examples: Dataset, given: Sequence[tuple[Any, Any]], path: Path) -> list[Any]:
    """The answers of a file, (id, answer) each, in the order of the examples."""
    answers, known = {str(number): answer for number, answer in given}, list(examples["identifier"])
    twice = len(given) - len(answers)
    missing, foreign = [one for one in known if one not in answers], answers.keys() - set(known)
    if twice or missing or foreign:
        counts = f"{len(given):,} answers, {twice:,} of an id again, {len(foreign):,} of unknown ids"
        raise SubmissionError(f"{path}: {counts}, {len(missing):,} missing; expected one of each of {len(known):,}.")
    return [answers[one] for one in known]


def entries_of(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Of an official json list, objects with just these keys. Raises SubmissionError."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise SubmissionError(f"{path}: not JSON ({error}); expected a list of objects.") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) and one.keys() == {*keys} for one in found):
        raise SubmissionError(f"{path}: expected a list of objects with {' and '.join(keys)}.")
    return found


class Groups(NamedTuple):
    """Examples of one picture: the number of each example's group, every group's examples, and the groups whose
    pictures look most like it, where a task asks for them."""

    own: list[int]
    members: list[list[int]]
    near: Sequence[Sequence[int]] = ()


@runtime_checkable
class Varying(Protocol):
    """A task whose examples may be shown in several ways that are all as true."""

    def varied(self, row: Encoded, rng: Random) -> Encoded:
        """One of these ways, for training."""
        ...


@runtime_checkable
class Contrasting(Protocol):
    """A task that also learns from pairs that do not belong together, and that is scored over all pairs."""

    @property
    def alike(self) -> int:
        """How many of the pictures that look most like one give it hard negatives."""
        ...

    def groups(self, encoded: Sequence[Encoded]) -> Groups: ...

    def learnt(self, encoded: Sequence[Encoded], groups: Groups, index: int, rng: Random) -> list[Encoded]:
        """What is learnt from example `index`, always as many rows."""
        ...

    def pair(self, text: Encoded, picture: Encoded) -> Encoded:
        """The text of one example with the picture of another."""
        ...

    def asked(self, examples: Dataset) -> np.ndarray | None:
        """Which pairs [captions, images] are scored, where the split lists them; None: all."""
        ...
