"""Files that are replaced as a whole or left untouched."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as a whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1), encoding="utf-8")


@contextmanager
def replacing(path: Path, *, fsync: bool = False) -> Iterator[Path]:
    """Yield a partial path beside `path`; on success it replaces `path`, on failure it is removed.

    The block makes a file, a folder or a link there. With fsync the content is on the disk before it replaces `path`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    remove(partial)  # a killed process may have had this process id
    try:
        yield partial
        if fsync:
            flush_to_disk(partial)
        os.replace(partial, path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Flush a file, or a folder and all below it."""
    for item in (*path.rglob("*"), path):
        handle = os.open(item, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
