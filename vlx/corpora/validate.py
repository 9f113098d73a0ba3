"""Validates a corpus before any training: its faults, how frequent they are and where; and its statistics."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vlx.corpora.store import Corpus
from vlx.progress import meter

MAX_CASES = 5  # listed of each fault
MOST_FREQUENT = 20  # answers counted by name
NOTES = {"no answer is in the vocabulary", "image of no example", "region without area"}  # legal, but worth knowing
Fault = tuple[str, str]  # kind of fault, where


class Finding(NamedTuple):
    """A kind of fault. first: the first cases; serious: training on the corpus would be wrong."""

    what: str
    times: int
    first: tuple[str, ...]
    serious: bool


def validate(corpus: Corpus) -> list[Finding]:
    """Every kind of fault of a corpus, the serious ones first. Reads all of it."""
    cases: defaultdict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for what, where in chain(example_faults(corpus), image_faults(corpus)):
        counts[what] += 1
        if counts[what] <= MAX_CASES:
            cases[what].append(where)
    findings = [Finding(what, count, tuple(cases[what]), what not in NOTES) for what, count in counts.items()]
    return sorted(findings, key=lambda finding: (not finding.serious, -finding.times))


def example_faults(corpus: Corpus) -> Iterator[Fault]:
    image_ids = set(corpus.image_ids())
    mentioned: set[str] = set()
    for task, splits in corpus.manifest["examples"].items():
        vocabulary = set(corpus.answers(task))
        for split in splits:
            seen: set[str] = set()
            for row in corpus.examples(task, split):
                where = f"{task} {split} {row['identifier']}"
                mentioned.update(row["image_ids"])
                yield from ((fault, where) for fault in faults_of(row, image_ids, vocabulary))
                if row["identifier"] in seen:
                    yield "identifier found twice in its split", where
                seen.add(row["identifier"])
    yield from (("image of no example", name) for name in image_ids - mentioned)


def faults_of(row: dict[str, Any], image_ids: set[str], vocabulary: set[str]) -> Iterator[str]:
    """Faults of one example. image_ids: of the corpus. An empty vocabulary: the task has none."""
    if not row["image_ids"]:
        yield "example without an image"
    if not image_ids.issuperset(row["image_ids"]):
        yield "image is not in the corpus"
    if not row["text"].strip():
        yield "empty text"
    if row["scores"] and len(row["scores"]) != len(row["answers"]):
        yield "not one score an answer"
    if any(not 0 <= score <= 1 for score in row["scores"]):
        yield "score outside 0..1"
    if row["answers"] and vocabulary and vocabulary.isdisjoint(row["answers"]):
        yield "no answer is in the vocabulary"
    if row["choices"] and not -1 <= row["label"] < len(row["choices"]):
        yield "label outside its choices"
    if any(len(box) != 4 or not are_inside(np.array(box)) for box in row["boxes"]):
        yield "box outside its image"


def are_inside(boxes: np.ndarray) -> bool:
    """[...,4] are x1 <= x2, y1 <= y2 within 0..1."""
    return bool(((boxes >= 0) & (boxes <= 1)).all() and (boxes[..., :2] <= boxes[..., 2:]).all())


def image_faults(corpus: Corpus) -> Iterator[Fault]:
    """Faults of the regions and files of every image."""
    names = corpus.image_ids()
    with meter("images", len(names)) as progress:
        for name in names:
            features, boxes = corpus.regions(name)
            data = corpus.image_bytes(name)
            if corpus.region_dim and not len(boxes):
                yield "image without regions", name
            if not np.isfinite(features).all():
                yield "feature that is not a number", name
            if not are_inside(boxes):
                yield "region outside its image", name
            if (boxes[:, :2] == boxes[:, 2:]).any():
                yield "region without area", name
            if data is None and not corpus.region_dim:
                yield "neither regions nor an image file", name
            if data is not None and not can_be_decoded(data):
                yield "image that cannot be decoded", name
            progress.advance()


def can_be_decoded(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def histograms(corpus: Corpus) -> dict[str, Counter[Any]]:
    """Regions of an image, words of a text by task, the most frequent answers by task."""
    counts: dict[str, Counter[Any]] = {}
    if corpus.region_dim:
        counts["regions of an image"] = Counter(corpus.num_regions(name) for name in corpus.image_ids())
    for task, splits in corpus.manifest["examples"].items():
        lengths = Counter[Any]()
        answers = Counter[Any]()
        for split in splits:
            rows = corpus.examples(task, split)
            lengths.update(len(text.split()) for text in rows["text"])
            labels = rows["label"]
            answers.update(answer for row in rows["answers"] for answer in row)
            answers.update(f"label {label}" for label in labels if label >= 0)
        counts[f"words of a text of {task}"] = lengths
        if answers:
            counts[f"answers of {task}"] = Counter(dict(answers.most_common(MOST_FREQUENT)))
    return counts


def table(findings: list[Finding], corpus: Corpus) -> str:
    """The findings as text, one a line with its first cases."""
    counts = f"{corpus.manifest['images']:,} images, {corpus.manifest['regions']:,} regions"
    examples = ", ".join(
        f"{count:,} of {task} {split}"
        for task, splits in corpus.manifest["examples"].items()
        for split, count in splits.items()
    )
    lines = [f"{corpus.path}: {counts}; examples: {examples}"]
    for finding in findings:
        kind = "fault" if finding.serious else "note"
        lines.append(f"  {kind}  {finding.times:>9,}  {finding.what}: {', '.join(finding.first)}")
    return "\n".join(lines if findings else [*lines, "  no faults"])
