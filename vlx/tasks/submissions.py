"""Reading submission files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from vlx.errors import SubmissionError


def answers_by_example(examples: Dataset, entries: Sequence[tuple[Any, Any]], path: Path) -> list[Any]:
    """Return the answers of (identifier, answer) entries in the order of the examples. Raises SubmissionError unless
    every example has exactly one."""
    answers = {str(identifier): answer for identifier, answer in entries}
    identifiers = list(examples["identifier"])
    repeated = len(entries) - len(answers)
    missing = [identifier for identifier in identifiers if identifier not in answers]
    foreign = answers.keys() - set(identifiers)
    if repeated or missing or foreign:
        counts = f"{len(entries):,} answers, {repeated:,} of a repeated id, {len(foreign):,} of unknown ids"
        raise SubmissionError(
            f"{path}: {counts}, {len(missing):,} missing; expected exactly one for each of {len(identifiers):,} ids."
        )
    return [answers[identifier] for identifier in identifiers]


def read_entries(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Read a json list of objects with exactly these keys. Raises SubmissionError."""
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise SubmissionError(f"{path}: not JSON ({error}); expected a list of objects.") from None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and entry.keys() == set(keys) for entry in entries
    ):
        raise SubmissionError(f"{path}: expected a list of objects with {' and '.join(keys)}.")
    return entries
