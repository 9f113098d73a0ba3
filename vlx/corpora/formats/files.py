"""What the official formats share: json lines, their fields, and what is noted about the files."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlx.corpora.store import NO_SIZE, Size
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

TEXT = re.compile(r"\s*[^\s\ud800-\udfff][^\ud800-\udfff]*")  # json may hold half a character, no file can
ANSWER = re.compile(r"[^\ud800-\udfff]*")  # the first of VQA's is empty
ROUNDING = 1e-3  # how far a box may be beyond its picture; it is clipped
TENTH = 10
FEW = 6  # names that an error lists
LABEL = re.compile("true|false", re.IGNORECASE)


class Format(NamedTuple):
    """An official format. find(folder): its files by role; read(files, writer): into a corpus -> detector's name."""

    find: Callable[[Path], dict[str, Path]]
    read: Callable[[dict[str, Path], CorpusWriter], str]


class Regions(NamedTuple):
    """The regions of one image, as a region file holds them. `where`: file and line or record, for errors."""

    image_id: str
    features: np.ndarray  # [R,D]
    boxes: np.ndarray  # [R,4] xyxy in 0..1
    where: str
    size: Size = NO_SIZE
    fields: Mapping[str, np.ndarray] = {}  # of store.FIELDS
    tags: tuple[str, ...] = ()


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of json lines, with or without a byte order mark; there is at least one."""
    lines = path.read_bytes().rstrip().splitlines()
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error}). Expected one object a line; is it cut?") from None
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: found {type(record).__name__}, expected one JSON object a line.")
        yield where, record
    if not lines:
        raise CorpusError(f"{path}: found no lines, expected one JSON object a line. Is the download complete?")


def records(path: Path, pattern: re.Pattern[str], shape: str) -> Iterator[tuple[str, re.Match[str], dict[str, Any]]]:
    """(file:line, the matched identifier, object) of json lines; no identifier twice. `shape`: the pattern in words."""
    seen: set[str] = set()
    for where, record in json_lines(path):
        match = field(record, "identifier", where, pattern, shape)
        unique(match[0], seen, where)
        yield where, match, record


def load_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, with or without a byte order mark: a list or dict, as `kind` says, and not empty."""
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not JSON ({error}). Is the download complete?") from None
    if not isinstance(content, kind) or not content:
        found = "nothing in it" if content == kind() else type(content).__name__
        raise CorpusError(f"{path}: found {found}, expected a JSON {kind.__name__}. Is this the official file?")
    return content


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that has no key twice, which json.loads alone would let pass."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!a} twice in one object")
    return found


def objects(values: Iterable[Any], path: Path | str, what: str = "record") -> Iterator[tuple[str, dict[str, Any]]]:
    """(file: record N, object) of the array a JSON file holds; N counts from 1."""
    for number, record in enumerate(values, 1):
        where = f"{path}: {what} {number}"
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: found {type(record).__name__}, expected a JSON object. Correct the record.")
        yield where, record


def mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorpusError(f"{where}: found {ascii(value)[:60]}, expected a JSON object. Correct the file.")
    return value


def listed(record: Any, key: str, where: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where: key N, object) of a field that must be a list of objects, and not empty."""
    values = record.get(key) if isinstance(record, dict) else record
    if not isinstance(values, list) or not values:
        raise CorpusError(f"{where}: {key} is {ascii(values)[:60]}, expected a list of objects. Correct the file.")
    return objects(values, where, key)


def unique(identifier: str, seen: set[str], where: str, what: str = "identifier") -> str:
    """The identifier, noted in `seen`, where it must not be yet."""
    if identifier in seen:
        raise CorpusError(f"{where}: {what} {identifier} found twice, expected once. Remove one of them.")
    seen.add(identifier)
    return identifier


def whole_or_text(record: dict[str, Any], key: str, where: str) -> str:
    """An official id, which files write as a whole number or as text: 42 and "42" are one, "042" is another."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    return field(record, key, where, shape="a whole number or text")[0]


def field(
    record: dict[str, Any], key: str, where: str, pattern: re.Pattern[str] = TEXT, shape: str = "text"
) -> re.Match[str]:
    """A field that must be text of a pattern. `shape`: the pattern in words."""
    value = record.get(key)
    match = pattern.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise CorpusError(f"{where}: {key} is {ascii(value)[:60]}, expected {shape}. Correct the line.")
    return match


def answer_table(answers: Sequence[Any], where: str, inverse: Mapping[str, Any] | None = None) -> list[str]:
    """The answers by label, each once; the official table of labels by answer, if there is one, must say the same."""
    seen: set[str] = set()
    for label, answer in enumerate(answers):
        found = f"{where}: label {label}"
        unique(field({"answer": answer}, "answer", found, ANSWER)[0], seen, found, "answer")
    labels = {answer: label for label, answer in enumerate(answers)}
    given = labels if inverse is None else inverse
    for answer in labels | dict(given):
        if labels.get(answer) != given.get(answer):
            found = f"{where}: label of {answer!a} is {labels.get(answer)}, in its inverse {given.get(answer)}"
            raise CorpusError(f"{found}. Take both files from one download.")
    return list(answers)


def soft_labels(labels: Any, where: str) -> dict[str, float]:
    """The score of every right answer; there may be none."""
    if not isinstance(labels, dict):
        raise CorpusError(f"{where}: label is {ascii(labels)[:60]}, expected an object, answer: score. Correct it.")
    for answer, score in labels.items():
        if type(score) not in (int, float) or not 0 <= score <= 1 or not ANSWER.fullmatch(answer):
            raise CorpusError(f"{where}: {answer!a} has score {ascii(score)[:60]}, expected one in 0..1. Correct it.")
    return labels


def sentence_and_label(record: dict[str, Any], where: str) -> tuple[str, int]:
    """label: 1 for true, 0 for false."""
    label = field(record, "label", where, LABEL, "true or false")[0]
    return field(record, "sentence", where)[0], int(label.lower() == "true")


def unit_boxes(boxes: np.ndarray, size: tuple[int, int], where: str) -> np.ndarray:
    """[R,4] x1 y1 x2 y2 in pixels of a picture of this width and height -> in 0..1."""
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        scaled = boxes / np.array([*size, *size], np.float32)
    right = ((scaled >= -ROUNDING) & (scaled <= 1 + ROUNDING)).all(1)  # False of NaN
    if not right.all():
        found = f"box {boxes[~right][0].tolist()} in a picture of {size[0]} x {size[1]}"
        raise CorpusError(f"{where}: {found}, expected x1 y1 x2 y2 within it. Check the source.")
    return scaled.clip(0, 1)


def require(folder: Path, *names: str) -> Path:
    """The first of the names that is in the folder."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise CorpusError(f"{folder}: found no {' or '.join(names)}. Point source at the folder of the official files.")


def some_of(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Role -> file of those that are in the folder, of names by role; at least one must be."""
    found = {role: folder / name for role, name in names.items() if (folder / name).exists()}
    if not found:
        first = ", ".join(list(names.values())[:FEW])
        raise CorpusError(f"{folder}: found none of {first}. Point source at the folder of the official files.")
    return found


def held_out(pictures: Iterable[str], splits: Sequence[str], where: Path | str) -> dict[str, str]:
    """Picture -> its split: a tenth of the pictures, and at least one, for each of `splits`, the others for train; in
    an order that depends on their names alone. For sources that name no split: what is said of a picture stays
    together."""
    order = sorted(set(pictures), key=lambda name: hashlib.sha256(name.encode()).digest())
    count = max(1, len(order) // TENTH)
    if len(order) <= count * len(splits):
        raise CorpusError(f"{where}: {len(order)} pictures, expected {len(splits) + 1} or more, to hold some out.")
    return {name: (*splits, "train")[min(at // count, len(splits))] for at, name in enumerate(order)}


def members(sources: Iterable[Path]) -> list[Path]:
    """The sources, each folder replaced by its files."""
    found = (path for source in sources for path in (sorted(source.rglob("*")) if source.is_dir() else [source]))
    return [path for path in found if path.is_file()]


def describe(source: Path, folder: Path) -> dict[str, Any]:
    """Name within `folder`, files, bytes and sha256 of a source; a folder's is of its files' bytes, by name."""
    files, sha256 = members([source]), hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: sha256)  # continues the same one
    size = sum(path.stat().st_size for path in files)
    name = source.relative_to(folder).as_posix()
    return {"name": name, "files": len(files), "bytes": size, "sha256": sha256.hexdigest()}
