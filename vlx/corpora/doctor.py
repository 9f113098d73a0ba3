"""Looks a corpus over before any training: what is wrong with it, how often, and where first; and its numbers."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vlx.corpora.store import Corpus
from vlx.progress import meter

FIRST = 5  # cases shown of each finding
MOST_FREQUENT = 20  # answers counted by name
NOTES = {"no answer is in the vocabulary", "image of no example", "region without area"}  # legal, but worth knowing


class Finding(NamedTuple):
    """A kind of fault: how often, the first cases, and whether training on it would be wrong."""

    what: str
    times: int
    first: tuple[str, ...]
    serious: bool


def examine(corpus: Corpus) -> list[Finding]:
    """Every fault of a corpus, the serious ones first. Reads all of it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for what, where in (fault for part in (example_faults, image_faults) for fault in part(corpus)):
        counts[what] += 1
        if counts[what] <= FIRST:
            found[what].append(where)
    findings = [Finding(what, count, tuple(found[what]), what not in NOTES) for what, count in counts.items()]
    return sorted(findings, key=lambda finding: (not finding.serious, -finding.times))


def example_faults(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """(fault, where) of every example."""
    known, named = set(corpus.image_ids()), set[str]()
    for task, splits in corpus.manifest["examples"].items():
        vocabulary = set(corpus.answers(task))
        for split in splits:
            seen: set[str] = set()
            for row in corpus.examples(task, split):
                where = f"{task} {split} {row['identifier']}"
                named.update(row["image_ids"])
                yield from ((fault, where) for fault in faults_of(row, known, vocabulary))
                if row["identifier"] in seen:
                    yield "identifier found twice in its split", where
                seen.add(row["identifier"])
    yield from (("image of no example", name) for name in known - named)


def faults_of(row: dict[str, Any], known: set[str], vocabulary: set[str]) -> Iterator[str]:
    """Of one example. An empty vocabulary: the task has none."""
    if not row["image_ids"]:
        yield "example without an image"
    if not known.issuperset(row["image_ids"]):
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
    if any(len(box) != 4 or not inside(np.array(box)) for box in row["boxes"]):
        yield "box outside its picture"


def inside(boxes: np.ndarray) -> bool:
    """[...,4] are x1 <= x2, y1 <= y2 within 0..1."""
    return bool(((boxes >= 0) & (boxes <= 1)).all() and (boxes[..., :2] <= boxes[..., 2:]).all())


def image_faults(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """(fault, image id) of every image's regions and picture."""
    names = corpus.image_ids()
    with meter("images", len(names)) as progress:
        for name in names:
            features, boxes = corpus.regions(name)
            data = corpus.picture(name)
            if corpus.region_dim and not len(boxes):
                yield "image without regions", name
            if not np.isfinite(features).all():
                yield "feature that is not a number", name
            if not inside(boxes):
                yield "region outside its picture", name
            if (boxes[:, :2] == boxes[:, 2:]).any():
                yield "region without area", name
            if data is None and not corpus.region_dim:
                yield "neither regions nor a picture", name
            if data is not None and not whole(data):
                yield "picture that cannot be decoded", name
            progress.advance()


def whole(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data)) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
    return True


def measure(corpus: Corpus) -> dict[str, Counter[Any]]:
    """Histograms: regions of an image, words of a text by task, the most frequent answers by task."""
    names = corpus.image_ids()
    found = {"regions of an image": Counter(corpus.num_regions(name) for name in names)} if corpus.region_dim else {}
    for task, splits in corpus.manifest["examples"].items():
        words, answers = Counter[Any](), Counter[Any]()
        for split in splits:
            rows = corpus.examples(task, split)
            words.update(len(text.split()) for text in rows["text"])
            labels = rows["label"]
            answers.update(answer for given in rows["answers"] for answer in given)
            answers.update(f"label {label}" for label in labels if label >= 0)
        found[f"words of a text of {task}"] = words
        if answers:
            found[f"answers of {task}"] = Counter(dict(answers.most_common(MOST_FREQUENT)))
    return found


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
    return "\n".join(lines if findings else [*lines, "  nothing is wrong"])
