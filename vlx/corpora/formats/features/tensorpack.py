"""Datapoints of tensorpack: msgpack, with numpy's arrays and numbers as maps with the key nd (msgpack_numpy)."""

import re
from typing import Any, NoReturn

import msgpack
import numpy as np

from vlx.errors import CorpusError

LIST_BYTES = tuple(bytes([first]) for first in (*range(0x90, 0xA0), 0xDC, 0xDD))  # first byte of a list
DTYPE = re.compile(r"[<>|][fiu][1248]")


def unpack(content: bytes, where: str) -> Any:
    """The one value in the bytes. where: they were read, for the error."""
    try:
        return msgpack.unpackb(content, strict_map_key=False, object_hook=as_array, ext_hook=refuse_extension)
    except msgpack.ExtraData:
        raise CorpusError(f"{where}: found bytes after its end. Get the file again.") from None
    except (ValueError, LookupError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise CorpusError(f"{where}: not msgpack ({error!r}). Get the file again.") from None


def as_array(content: dict[Any, Any]) -> Any:
    """The array or number that msgpack_numpy wrote as this map; any other map unchanged."""
    if b"nd" not in content:
        return content
    dtype = content[b"type"].decode() if isinstance(content[b"type"], bytes) else content[b"type"]
    if not isinstance(dtype, str) or not DTYPE.fullmatch(dtype):
        raise ValueError(f"an array of {dtype!a}")
    values = np.frombuffer(content[b"data"], dtype)
    return values.reshape(content[b"shape"]) if content[b"nd"] else values[0]


def refuse_extension(code: int, _: bytes) -> NoReturn:
    raise ValueError(f"extension {code}")
