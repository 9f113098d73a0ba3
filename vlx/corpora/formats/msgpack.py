"""Reads msgpack as tensorpack wrote it: plain values, and numpy's arrays and numbers as maps with the key nd."""

import re
import struct
from io import BytesIO
from typing import Any

import numpy as np

from vlx.errors import CorpusError

LISTS = tuple(bytes([kind]) for kind in (*range(0x90, 0xA0), 0xDC, 0xDD))  # how a list begins
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
NUMBERS = dict(zip((0xCA, 0xCB, *range(0xCC, 0xD4)), "fdBHIQbhiq", strict=True))
SIZED = {  # kind of value and of its size
    **{
        0xC4: (bytes, "B"),
        0xC5: (bytes, "H"),
        0xC6: (bytes, "I"),
        0xD9: (str, "B"),
        0xDA: (str, "H"),
        0xDB: (str, "I"),
    },
    **{0xDC: (list, "H"), 0xDD: (list, "I"), 0xDE: (dict, "H"), 0xDF: (dict, "I")},
}
DTYPE = re.compile(r"[<>|][fiu][1248]")
DEEPEST = 8


def unpack(data: bytes, where: str) -> Any:
    """The one value that the bytes are."""
    file = BytesIO(data)
    try:
        value = read(file, DEEPEST)
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise CorpusError(f"{where}: not msgpack ({error}). Get the file again.") from None
    if file.read(1):
        raise CorpusError(f"{where}: found bytes after its end. Get the file again.")
    return value


def read(file: BytesIO, depth: int) -> Any:
    if not depth:
        raise ValueError("too deep")
    kind = take(file, 1)[0]
    if kind < 0x80 or kind >= 0xE0:
        return kind if kind < 0x80 else kind - 0x100
    if kind in CONSTANTS:
        return CONSTANTS[kind]
    if kind in NUMBERS:
        return number(file, NUMBERS[kind])
    if kind < 0xC0:
        type_, size = (dict, kind & 15) if kind < 0x90 else (list, kind & 15) if kind < 0xA0 else (str, kind & 31)
    else:
        type_, size = SIZED[kind][0], number(file, SIZED[kind][1])
    if type_ in (bytes, str):
        content = take(file, size)
        return content.decode() if type_ is str else content
    if type_ is list:
        return [read(file, depth - 1) for _ in range(size)]
    return numpy_or(dict((read(file, depth - 1), read(file, depth - 1)) for _ in range(size)))


def numpy_or(found: dict[Any, Any]) -> Any:
    """The array or number that msgpack_numpy wrote as this map, or the map."""
    if b"nd" not in found:
        return found
    kind = found[b"type"] if isinstance(found[b"type"], str) else found[b"type"].decode()
    if not DTYPE.fullmatch(kind):
        raise ValueError(f"an array of {ascii(kind)}")
    values = np.frombuffer(found[b"data"], kind)
    return values.reshape(found[b"shape"]) if found[b"nd"] else values.reshape(())[()]


def number(file: BytesIO, kind: str) -> Any:
    return struct.unpack(f">{kind}", take(file, struct.calcsize(f">{kind}")))[0]


def take(file: BytesIO, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("cut")
    return content
