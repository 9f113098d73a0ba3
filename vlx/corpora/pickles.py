"""Foreign pickles: containers, text, numbers and numpy arrays are read; nothing in them runs or fills the memory.

Python's own unpickler is used, not that in C, since the latter allocates as much memory as a damaged file asks for.
"""

import pickle
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from sys import getsizeof
from typing import Any

import numpy as np

from vlx.errors import CorpusError

MAX_DEPTH = 32  # of lists in lists
MAX_ITEMS_PER_BYTE = 10  # of the file, on each level of a value
MAX_GROWTH = 100  # bytes that calls may make of each byte of the file
TUPLE_OPCODES = b"t\x85\x86\x87"
PYTHON2: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}  # str of Python 2 is text, or bytes


class Dtype:
    """Stands for numpy.dtype, of numbers and text alone."""

    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"an array of dtype {name!a} is not allowed")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    """Stands for numpy.ndarray; its state must hold as many bytes as its shape needs."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode(**PYTHON2) if isinstance(data, str) else data
        super().__setstate__((1, from_buffer(data, dtype, shape).shape, dtype.dtype, fortran, data))


def from_buffer(data: bytes, dtype: Dtype, shape: tuple[int, ...] = (-1,), order: Any = "C") -> np.ndarray:
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def scalar(dtype: Dtype, data: bytes) -> Any:
    return from_buffer(data, dtype)[0]


def empty_array(*_: object) -> Array:
    return Array(0, np.int8)


def encode(text: str, _: str) -> bytes:
    """bytes, as Python 3 writes them for Python 2."""
    return text.encode("latin1")


def empty_bytes() -> bytes:
    return b""


ALLOWED: dict[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.complex": complex,
    "builtins.bytes": empty_bytes,
    "collections.OrderedDict": dict,
    "_codecs.encode": encode,
    "numpy.ndarray": empty_array,  # an argument of _reconstruct
    "numpy.dtype": Dtype,
    "numpy.core.multiarray._reconstruct": empty_array,
    "numpy.core.multiarray.scalar": scalar,
    "numpy.core.numeric._frombuffer": from_buffer,
}
RENAMED = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}  # Python 2; numpy 2
RENAMED["numpy._core.numeric"] = "numpy.core.numeric"


PythonUnpickler: Any = pickle._Unpickler


class PlainUnpickler(PythonUnpickler):
    """Calls nothing but ALLOWED, sets the state of nothing but arrays, and counts the bytes that calls make."""

    dispatch = dict(PythonUnpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        self.file = BytesIO(content)
        self.bytes_left = MAX_GROWTH * len(content)
        super().__init__(self.file, **PYTHON2)

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        function = ALLOWED.get(f"{RENAMED.get(module, module)}.{name}")
        if function is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return partial(self.counted_call, function)

    def counted_call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Of a small file, many calls with one long argument could fill the memory."""
        result = function(*arguments)
        self.count(result)
        return result

    def count(self, value: Any) -> None:
        self.bytes_left -= getsizeof(value)
        if self.bytes_left < 0:
            raise pickle.UnpicklingError("more than fits in the file")

    def set_state(self) -> None:
        if not isinstance(self.stack[-2], Array | Dtype):
            raise pickle.UnpicklingError("a state of anything but an array is not allowed")
        self.load_build()
        self.count(self.stack[-1])

    def make_tuple(self, opcode: int) -> None:
        """Tuples may be keys, and the hash of a deep one overruns the stack of the process."""
        PythonUnpickler.dispatch[opcode](self)
        members = [item for item in self.stack[-1] if isinstance(item, tuple)]
        if any(isinstance(item, tuple) for item in chain(*members)):
            raise pickle.UnpicklingError("tuples three deep")
        self.count(self.stack[-1])

    dispatch[pickle.BUILD[0]] = set_state
    dispatch |= {opcode: lambda self, opcode=opcode: self.make_tuple(opcode) for opcode in TUPLE_OPCODES}
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]  # its own allocates what the file asks for


def unpickle(content: bytes, where: Path | str) -> Any:
    """The one value in the bytes. where: they were read, for the error."""
    unpickler = PlainUnpickler(content)
    try:
        value = unpickler.load()
        check_nesting(value, MAX_ITEMS_PER_BYTE * len(content))
        if unpickler.file.read(1):
            raise pickle.UnpicklingError("more than one pickle")
    except Exception as error:  # pickle raises anything on a foreign file
        reason = ascii(f"{type(error).__name__}: {error}")[1:-1][:120]
        raise CorpusError(f"{where}: not a pickle of plain values ({reason}); nothing was run. Get it again.") from None
    return value


def check_nesting(value: Any, max_items: int) -> None:
    """Refuses what would be endless to print or to walk: a list within itself, or ten times a list of ten times a list
    of ..., which takes few bytes in the file."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = list(islice(chain.from_iterable(map(members_of, level)), max_items + 1))
        if not level:
            return
        if len(level) > max_items:
            break
    raise pickle.UnpicklingError("lists in lists without end")


def members_of(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return chain(value, value.values())
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def load_pickle(path: Path) -> Any:
    return unpickle(path.read_bytes(), path)
