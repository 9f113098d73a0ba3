"""Files that are written whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A path in the folder of `path`, to be written as a file, folder or link; it becomes `path` in one step.

    A process killed or failing before leaves `path` as it was. A folder may replace no other folder than an empty one.
    sync: returns once the content has reached the disk.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    yield partial
    if sync:
        for content in sorted(partial.rglob("*")) if partial.is_dir() else [partial]:
            flush(content)
    os.replace(partial, path)
    if sync:
        flush(path.parent)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1))


def flush(path: Path) -> None:
    """Return once a file or folder has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
