import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlx.corpora.pickles import load_pickle, unpickle
from vlx.errors import CorpusError

PLAIN = {
    "yes": 0,
    "no": [1, 2.5, None, True],
    b"raw": (1, (2, 3)),
    "\U0001f600": {"x", "y"},
    7: 1 + 2j,
    "ordered": OrderedDict(a=1),
}
ARRAYS = [
    np.arange(6).reshape(2, 3).astype(dtype)
    for dtype in ("<f4", ">f8", "<i8", "|u1", "<f2", ">i2", "<U3", "|S2", "<c8")
]


class Call:
    """Pickled as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_are_read_at_every_protocol(tmp_path: Path, protocol: int) -> None:
    arrays = [*ARRAYS, np.asfortranarray(ARRAYS[0]), np.zeros((0, 4), np.float32), np.array(True), np.array(3.5)]
    same = ARRAYS[1]
    scalars = [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("word")]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([PLAIN, arrays, scalars, same, same], protocol))
    plain, found, numbers, one, other = load_pickle(tmp_path / "x.pkl")
    assert plain == PLAIN and list(plain) == list(PLAIN)
    for expected, array in zip([*arrays, same, same, *scalars], [*found, one, other, *numbers], strict=True):
        assert array.dtype in (expected.dtype, expected.dtype.newbyteorder()) and np.array_equal(array, expected)


def test_what_python_2_wrote_is_text_and_arrays() -> None:
    text = b"\x80\x02U\x05caf\xc3\xa9q\x00."
    assert unpickle(text, "x") == "caf\xe9"
    data = np.array([1.5, -2], "<f4").tobytes()
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
    array += dtype + b"\x89U" + bytes([len(data)]) + data + b"tb."
    assert unpickle(array, "x").tolist() == [1.5, -2]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch ran",)), "posix.system"),
        ((eval, ("open('ran','w')",)), "builtin.*eval"),
        ((getattr, (dict, "get")), "builtin.*getattr"),
        ((Path, ("ran",)), "pathlib.Path"),
        ((np.load, ("ran",)), "numpy.load"),
        ((bytearray, (10**12,)), "builtin.*bytearray"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_would_run_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, ...], name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps({"yes": Call(*call)}, protocol))
    with pytest.raises(CorpusError, match=rf"labels\.pkl: not a pickle of plain values .*{name} is not allowed"):
        load_pickle(tmp_path / "labels.pkl")
    assert not (tmp_path / "ran").exists()


def deep(opening: bytes, closing: bytes) -> bytes:
    return b"\x80\x04" + opening * 200_000 + closing * 199_999 + b"."


def laughs(one: bytes, levels: int = 40) -> bytes:
    """A list of ten times the same list of ten times ..."""
    return (
        b"\x80\x04]q\x00"
        + b"".join(b"(" + b"h%c" % level * 10 + one + b"q%c" % (level + 1) for level in range(levels))
        + b"."
    )


def states(value: bytes, state: bytes) -> bytes:
    return b"\x80\x04" + value + state + b"b."


ENCODE, BIG = b"c_codecs\nencode\n", b"X" + struct.pack("<I", 100_000) + b"a" * 100_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOFError"),
        (b"\x80\x04]\x94", "EOFError"),
        (b"PK\x03\x04 a zip", "not a pickle"),
        (b"\xff\xfe", "KeyError"),
        (pickle.dumps(1) + pickle.dumps(2), "more than one pickle"),
        (b"\x80\x04]r\xff\xff\xff\xff.", None),  # a memo of 4,294,967,295
        (b"\x80\x04B\xff\xff\xff\xffabc.", "EOFError"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.", "EOFError"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.", "EOFError"),
        (deep(b"]", b"a"), "lists in lists"),
        (deep(b")", b"\x85"), "three deep"),
        (b"\x80\x04)" + b"\x85" * 100_000 + b"K\x01s.", "three deep"),
        (b"\x80\x04]q\x00h\x00a.", "lists in lists without end"),
        (laughs(b"l"), "lists in lists"),
        (laughs(b"t"), "three deep"),
        (b"\x80\x04" + BIG + b"q\x00(" + (ENCODE + b"h\x00N\x86R") * 10_000 + b"l.", "more than fits in the file"),
        (states(b"cnumpy\ndtype\n", b"}"), "state of anything but an array"),
        (states(b"}", b"}X\x05\x00\x00\x00itemsK\x01s"), "state of anything but an array"),
        (pickle.dumps(np.array([{}, None])), "dtype 'O8' is not allowed"),
        (pickle.dumps(np.zeros(2, [("a", "i4"), ("b", "O")])), "dtype 'V12' is not allowed"),
        (pickle.dumps(ARRAYS[0], 2).replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"), "cannot reshape"),
    ],
)
def test_a_damaged_or_hostile_pickle_is_one_line(content: bytes, reason: str | None) -> None:
    if reason is None:
        assert unpickle(content, "x.pkl") == []
        return
    with pytest.raises(CorpusError, match=rf"^x\.pkl: .*{reason}") as refused:
        unpickle(content, "x.pkl")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


@given(at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.booleans(), protocol=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_any_byte_may_be_wrong(at: int, byte: int, cut: bool, protocol: int) -> None:
    content = pickle.dumps([PLAIN, ARRAYS[0], np.float32(2)], protocol)
    at %= len(content)
    damaged = content[:at] if cut else content[:at] + bytes([byte]) + content[at + 1 :]
    try:
        value = unpickle(damaged, "x")
    except CorpusError as error:
        assert "\n" not in str(error)
    else:
        io.StringIO().write(repr(value))
