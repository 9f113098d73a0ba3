"""LMDB databases of one plain table, read by the lmdb library once a process of its own has read them unharmed."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import lmdb

from vlx.corpora.formats.features import lmdb_probe
from vlx.errors import CorpusError

PAGE_HEADER = 16  # bytes before the metadata of page 0
META = struct.Struct("<II16xI")  # magic, version of the format, bytes of a page (lmdb.h, MDB_meta)
MAGIC, VERSION = 0xBEEFC0DE, 1


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in the order of the keys. Raises CorpusError for a cut or damaged file."""
    with reading(path) as transaction:
        for key, value in transaction.cursor():
            yield bytes(key), bytes(value)


def look_up(path: Path, key: bytes) -> bytes | None:
    """The value of a key, or None."""
    with reading(path) as transaction:
        value = transaction.get(key)
        return None if value is None else bytes(value)


@contextmanager
def reading(path: Path) -> Iterator[lmdb.Transaction]:
    status = path.stat()
    check(path, status.st_size, status.st_mtime_ns)
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as database, database.begin() as transaction:
        yield transaction


@cache
def check(path: Path, size: int, mtime_ns: int) -> None:
    """Raises CorpusError unless the file, of this size and time, is a whole database that lmdb can read."""
    with path.open("rb") as file:
        head = file.read(PAGE_HEADER + META.size).ljust(PAGE_HEADER + META.size, b"\0")
    magic, version, page_size = META.unpack_from(head, PAGE_HEADER)
    if (magic, version) != (MAGIC, VERSION):
        raise CorpusError(f"{path}: not an LMDB database of version 1. Is the download complete? Get it again.")
    if not page_size or size % page_size:
        problem = f"{size:,} bytes are no whole number of pages of {page_size:,}"
        raise CorpusError(f"{path}: {problem}. Is the download complete? Get it again.")
    probe = subprocess.run([sys.executable, "-I", lmdb_probe.__file__, path], capture_output=True, text=True)
    if probe.returncode:
        lines = probe.stderr.strip().splitlines()
        problem = ascii(lines[-1])[1:-1][:120] if lines else "lmdb cannot read it"
        raise CorpusError(f"{path}: cut or damaged ({problem}). Is the download complete? Get it again.")
