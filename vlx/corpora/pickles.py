"""Foreign pickles: containers, text, numbers and numpy arrays are read; nothing in them runs or fills the memory."""

import pickle
from collections.abc import Callable, Iterable
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from sys import getsizeof
from typing import Any

import numpy as np

from vlx.errors import CorpusError

DEEPEST, WIDEST, GROWTH = 32, 10, 100  # levels; for each byte of the file: items on a level, bytes that calls make
PYTHON2: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}  # its str is text, or bytes
OPEN: Any = pickle._Unpickler  # Python's own: that in C makes the memo as large as a file says


class Dtype:
    def __init__(self, name: str, *_: object) -> None:
        self.dtype = np.dtype(name)
        if self.dtype.kind not in "biufcSU":
            raise pickle.UnpicklingError(f"an array of dtype {name!a} is not allowed")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode(**PYTHON2) if isinstance(data, str) else data
        super().__setstate__((1, from_buffer(data, dtype, shape).shape, dtype.dtype, fortran, data))


def from_buffer(data: bytes, dtype: Dtype, shape: tuple[int, ...] = (-1,), order: Any = "C") -> np.ndarray:
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": lambda *_: Array(0, np.int8),
    "multiarray.scalar": lambda dtype, data: from_buffer(data, dtype)[0],
    "numeric._frombuffer": from_buffer,
}
ALLOWED: dict[str, Any] = {f"{core}.{name}": NUMPY[name] for core in ("numpy.core", "numpy._core") for name in NUMPY}
PLAIN: dict[str, Callable[..., Any]] = {"set": set, "complex": complex, "bytes": lambda: b""}
ALLOWED |= {f"{home}.{name}": PLAIN[name] for home in ("builtins", "__builtin__") for name in PLAIN}
ALLOWED |= {"numpy.ndarray": None, "numpy.dtype": Dtype, "collections.OrderedDict": dict}
ALLOWED["_codecs.encode"] = lambda text, _: text.encode("latin1")  # bytes, as Python 3 writes them for Python 2


class Unpickler(OPEN):
    left: int  # bytes

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return ALLOWED[f"{module}.{name}"]

    def make(self, code: int) -> None:
        """A tuple, or what a call or a state gives. Tuples may be keys: the hash of deep ones overruns the stack."""
        if code == pickle.BUILD[0] and not isinstance(self.stack[-2], Array | Dtype):
            raise pickle.UnpicklingError("a state of anything but an array is not allowed")
        OPEN.dispatch[code](self)
        self.left -= getsizeof(self.stack[-1])
        tuples = [item for item in inner(self.stack[-1]) if isinstance(item, tuple)] if code in b"t\x85\x86\x87" else []
        if self.left < 0 or any(isinstance(item, tuple) for item in chain(*tuples)):
            raise pickle.UnpicklingError("tuples three deep, or more than fits in the file")

    dispatch = OPEN.dispatch | {code: lambda self, code=code: self.make(code) for code in b"t\x85\x86\x87R\x81\x92oib"}
    dispatch[pickle.BYTEARRAY8[0]] = OPEN.dispatch[pickle.BINBYTES8[0]]  # its own makes as many bytes as a file says


def inner(value: Any) -> Iterable[Any]:
    pairs = chain(value, value.values()) if isinstance(value, dict) else ()
    return value if isinstance(value, list | tuple | set | frozenset) else pairs


def unpickle(content: bytes, where: Path | str) -> Any:
    """The one value that the bytes hold. `where`: they were read, for the error."""
    reader = Unpickler(file := BytesIO(content), **PYTHON2)
    reader.left = GROWTH * len(content)
    try:
        level, depth = [value := reader.load()], 0
        while level and (depth := depth + 1) <= DEEPEST and len(level) <= WIDEST * len(content):
            level = list(islice(chain.from_iterable(map(inner, level)), WIDEST * len(content) + 1))
        if level or file.read(1):
            raise pickle.UnpicklingError("lists in lists without end, or more than one pickle")
    except Exception as error:  # pickle raises anything on a foreign file
        found = ascii(f"{type(error).__name__}: {error}")[1:-1][:120]
        raise CorpusError(f"{where}: not a pickle of plain values ({found}); nothing was run. Get it again.") from None
    return value


def load_pickle(path: Path) -> Any:
    return unpickle(path.read_bytes(), path)
