"""Reads msgpack as tensorpack wrote it: plain values, and numpy's arrays and numbers as maps with the key nd."""

import re
import struct
from io import BytesIO
from typing import Any

import numpy as np

from vlx.errors import CorpusError

LISTS = tuple(bytes([kind]) for kind in (*range(0x90, 0xA0), 0xDC, 0xDD))  # how a list begins
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))
SIZED = dict(zip((0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF), "BHIBHIHIHI", strict=True))
DTYPE = re.compile(r"[<>|][fiu][1248]")
DEEPEST = 8


def unpack(content: bytes, where: str) -> Any:
    """The one value that the bytes are."""
    file = BytesIO(content)
    try:
        value = read(file, DEEPEST)
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise CorpusError(f"{where}: not msgpack ({error!r}). Get the file again.") from None
    if file.read(1):
        raise CorpusError(f"{where}: found bytes after its end. Get the file again.")
    return value


def read(file: BytesIO, depth: int) -> Any:
    kind = take(file, 1)[0]
    if kind < 0x80 or kind >= 0xE0:
        return kind if kind < 0x80 else kind - 0x100
    if kind in CONSTANTS or kind in NUMBERS:
        return CONSTANTS[kind] if kind in CONSTANTS else number(file, NUMBERS[kind])
    size = kind & (0x1F if kind >= 0xA0 else 0xF) if kind < 0xC0 else number(file, SIZED[kind])
    if kind in (0xC4, 0xC5, 0xC6):
        return take(file, size)
    if 0xA0 <= kind < 0xC0 or kind in (0xD9, 0xDA, 0xDB):
        return take(file, size).decode()
    if not depth:
        raise ValueError("too deep")
    if 0x90 <= kind < 0xA0 or kind in (0xDC, 0xDD):
        return [read(file, depth - 1) for _ in range(size)]
    found = {read(file, depth - 1): read(file, depth - 1) for _ in range(size)}
    return array(found) if b"nd" in found else found


def array(found: dict[Any, Any]) -> Any:
    """The array or number that msgpack_numpy wrote as this map."""
    kind = found[b"type"].decode() if isinstance(found[b"type"], bytes) else found[b"type"]
    if not isinstance(kind, str) or not DTYPE.fullmatch(kind):
        raise ValueError(f"an array of {kind!a}")
    values = np.frombuffer(found[b"data"], kind)
    return values.reshape(found[b"shape"]) if found[b"nd"] else values[0]


def number(file: BytesIO, kind: str) -> Any:
    return struct.unpack(f">{kind}", take(file, struct.calcsize(f">{kind}")))[0]


def take(file: BytesIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("cut")
    return content
