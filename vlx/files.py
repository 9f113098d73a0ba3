"""Files that are replaced as a whole or left untouched."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole or not at all."""
    write_text(path, json.dumps(value, indent=1))


@contextmanager
def replacing(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Yield a partial path beside `path`; on success it replaces `path`, on failure it is removed.

    The block makes a file, a folder or a link there; a folder replaces no other folder than an empty one. With fsync
    the content is on the disk before it replaces `path`, and the replacement when the block ends.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    remove(partial)  # a killed process may have had this process id
    try:
        yield partial
        if fsync:
            for item in (*partial.rglob("*"), partial):
                flush(item)
        os.replace(partial, path)
        if fsync:
            flush(path.parent)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Flush a file's content or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
