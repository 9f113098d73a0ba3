"""The records of an LMDB database, read page by page with nothing trusted.

The lmdb library maps the file, so that a cut one kills the process (SIGBUS) instead of raising; this reader says what
is wrong. Format: data version 1 of 64 bits, one database without sorted duplicates.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

from vlx.errors import CorpusError

PAGE = struct.Struct("<QHHHH")  # number, padding, kind, and end of the table of nodes, or pages of a long value
META = struct.Struct("<II16x I48x HH24x QQ8xQ")  # magic, version, page size, flags, depth, entries, root, transaction
NODE = struct.Struct("<HHHH")  # size or child in three parts, flags among them, and size of the key
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, KINDS = 1, 2, 4, 0x2F
HERE, ELSEWHERE = 0, 1  # flags of a leaf's node: where its value is
EMPTY = 2**64 - 1  # root of a database without entries
DEEPEST = 32  # the library's own limit
Node = tuple[bytes, bytes, int, int]  # key, the page after it, flags, size; a child's number is in the last two


class File(NamedTuple):
    path: Path
    file: BinaryIO
    size: int
    page_size: int = 0

    def read(self, page: int, size: int) -> bytes:
        """`size` bytes from the beginning of a page."""
        if page * self.page_size + size > self.size:
            self.damaged(page, "the file ends before it does")
        self.file.seek(page * self.page_size)
        return self.file.read(size)

    def damaged(self, page: int, what: str) -> NoReturn:
        raise CorpusError(f"{self.path}: page {page}: {what}. Is the download complete? Get it again.")


def entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in the order of the keys; raises CorpusError if there are not as many as the file says."""
    with path.open("rb") as raw:
        file, depth, count, root = newest(File(path, raw, path.stat().st_size))
        previous, found = b"", 0
        for key, value in walk(file, root, depth) if root != EMPTY else ():
            if key <= previous:
                raise CorpusError(f"{path}: key {ascii(key)} is out of order. Get the file again.")
            previous, found = key, found + 1
            yield key, value
    if found != count:
        raise CorpusError(f"{path}: found {found:,} entries, expected {count:,}. Get the file again.")


def look_up(path: Path, wanted: bytes) -> bytes | None:
    """The value of one key, or None."""
    with path.open("rb") as raw:
        file, depth, _, page = newest(File(path, raw, path.stat().st_size))
        for _ in range(depth - 1):
            below = nodes(file, page, BRANCH)  # the first one's key is not kept
            *_, flags, size = below[bisect_right([key for key, *_ in below[1:]], wanted)]
            page = size | flags << 32
        for key, rest, flags, size in nodes(file, page, LEAF) if page != EMPTY else ():
            if key == wanted:
                return value_of(file, page, rest, flags, size)
    return None


def newest(file: File) -> tuple[File, int, int, int]:
    """The file with its page size, and depth, entries and root of the tree that the last transaction left."""
    metas = []
    for page in (0, 1):
        content = file.read(page, PAGE.size + META.size)
        magic, version, page_size, flags, depth, count, root, transaction = META.unpack_from(content, PAGE.size)
        if (magic, version) != (MAGIC, VERSION) or not 256 <= page_size <= 65536:
            file.damaged(page, "not an LMDB database of version 1")
        file = file._replace(page_size=page_size)
        metas.append((transaction, flags, depth, count, root))
    _, flags, depth, count, root = max(metas)
    if flags or (root != EMPTY and not 1 <= depth <= DEEPEST):
        file.damaged(0, "not one plain database")
    return file, depth, count, root


def walk(file: File, page: int, depth: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries under a page. Leaves are `depth` pages down; there are no cycles, since keys must rise."""
    for key, rest, flags, size in nodes(file, page, LEAF if depth == 1 else BRANCH):
        if depth > 1:
            yield from walk(file, size | flags << 32, depth - 1)
        else:
            yield key, value_of(file, page, rest, flags, size)


def nodes(file: File, page: int, kind: int) -> list[Node]:
    """Those of a page; there is one at least."""
    content, found = file.read(page, file.page_size), []
    number, _, flags, end, _ = PAGE.unpack_from(content)
    if (number, flags & KINDS) != (page, kind) or end not in range(PAGE.size + 2, len(content), 2):
        file.damaged(page, "not the page expected here")
    for (at,) in struct.iter_unpack("<H", content[PAGE.size : end]):
        if at + NODE.size > len(content):
            file.damaged(page, "a node is outside of its page")
        low, high, flags, key_size = NODE.unpack_from(content, at)
        key_end = at + NODE.size + key_size
        found.append((content[at + NODE.size : key_end], content[key_end:], flags, low | high << 16))
    return found


def value_of(file: File, page: int, rest: bytes, flags: int, size: int) -> bytes:
    """A leaf's value: what follows its key, or is on the pages that this names."""
    if flags == HERE and size <= len(rest):
        return rest[:size]
    if flags != ELSEWHERE or len(rest) < 8:
        file.damaged(page, "a node is neither a value nor where to find it")
    (page,) = struct.unpack_from("<Q", rest)
    number, _, kind, low, high = PAGE.unpack(file.read(page, PAGE.size))
    if (number, kind & KINDS) != (page, OVERFLOW) or size + PAGE.size > (low | high << 16) * file.page_size:
        file.damaged(page, "not the page expected here")
    return file.read(page, PAGE.size + size)[PAGE.size :]
