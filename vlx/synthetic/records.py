"""What the writers of official files share."""

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]
PICTURES_OF_A_PART = 10_000_000  # numbers of pictures: train from 0, validation and test from the next two of these


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_lines(path: Path, records: list[Record]) -> None:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
