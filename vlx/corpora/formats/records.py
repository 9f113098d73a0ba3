"""Records of official JSON files: reading them, and their fields, each checked with an error that names its place."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vlx.errors import CorpusError

TEXT = re.compile(r"\s*[^\s\ud800-\udfff][^\ud800-\udfff]*")  # JSON may hold half a character, no file can
ANSWER = re.compile(r"[^\ud800-\udfff]*")  # the first answer of VQA's vocabulary is empty
Record = dict[str, Any]


def json_lines(path: Path) -> Iterator[tuple[str, Record]]:
    """(file:line, object) of JSON lines, with or without a byte order mark; at least one."""
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


def identified_lines(path: Path, pattern: re.Pattern[str], shape: str) -> Iterator[tuple[str, re.Match[str], Record]]:
    """(file:line, the matched `identifier`, object) of JSON lines with unique identifiers. shape: the pattern in
    words, for the error."""
    seen: set[str] = set()
    for where, record in json_lines(path):
        match = matched_field(record, "identifier", where, pattern, shape)
        unique(match[0], seen, where)
        yield where, match, record


def load_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, with or without a byte order mark: a list or dict, as `kind` says, and not empty."""
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not JSON ({error}). Is the download complete?") from None
    if not isinstance(content, kind) or not content:
        actual = "nothing in it" if content == kind() else type(content).__name__
        raise CorpusError(f"{path}: found {actual}, expected a JSON {kind.__name__}. Is this the official file?")
    return content


def unique_keys(pairs: list[tuple[str, Any]]) -> Record:
    """A JSON object without duplicate keys, which json.loads alone accepts."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!a} twice in one object")
    return content


def objects(values: Iterable[Any], path: Path | str, what: str = "record") -> Iterator[tuple[str, Record]]:
    """(file: record N, object) of the array that a JSON file holds; N counts from 1."""
    for number, record in enumerate(values, 1):
        where = f"{path}: {what} {number}"
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: found {type(record).__name__}, expected a JSON object. Correct the record.")
        yield where, record


def object_list(record: Any, key: str, where: Path | str) -> Iterator[tuple[str, Record]]:
    """(where: key N, object) of a field that must be a list of objects, and not empty."""
    values = record.get(key) if isinstance(record, dict) else record
    if not isinstance(values, list) or not values:
        raise CorpusError(f"{where}: {key} is {ascii(values)[:60]}, expected a list of objects. Correct the file.")
    return objects(values, where, key)


def as_object(value: Any, where: str) -> Record:
    """The value, which must be a JSON object."""
    if not isinstance(value, dict):
        raise CorpusError(f"{where}: found {ascii(value)[:60]}, expected a JSON object. Correct the file.")
    return value


def unique(identifier: str, seen: set[str], where: str, what: str = "identifier") -> str:
    """The identifier, added to `seen`, in which it must not be yet."""
    if identifier in seen:
        raise CorpusError(f"{where}: {what} {identifier} found twice, expected once. Remove one of them.")
    seen.add(identifier)
    return identifier


def official_id(record: Record, key: str, where: str) -> str:
    """An official id, which files write as a whole number or as text: 42 and "42" are equal, "042" is another."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    return text_field(record, key, where, shape="a whole number or text")


def text_field(record: Record, key: str, where: str, pattern: re.Pattern[str] = TEXT, shape: str = "text") -> str:
    """A field that must be text of a pattern. shape: the pattern in words, for the error."""
    return matched_field(record, key, where, pattern, shape)[0]


def matched_field(record: Record, key: str, where: str, pattern: re.Pattern[str], shape: str) -> re.Match[str]:
    value = record.get(key)
    match = pattern.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise CorpusError(f"{where}: {key} is {ascii(value)[:60]}, expected {shape}. Correct the line.")
    return match
