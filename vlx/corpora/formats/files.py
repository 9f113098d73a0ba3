"""What the official formats share: json lines, pictures in a folder or a tar, and what is noted about both."""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from vlx.errors import CorpusError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}
BLOCK = 1 << 20  # bytes hashed at a time
LABELS = {"true": 1, "false": 0}


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of a json lines file."""
    empty = True
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}:{number}: not JSON ({error}). Expected one object a line; is it cut?") from None
        if not isinstance(record, dict):
            raise CorpusError(f"{path}:{number}: found {type(record).__name__}, expected one JSON object a line.")
        empty = False
        yield f"{path}:{number}", record
    if empty:
        raise CorpusError(f"{path}: found no lines, expected one JSON object a line. Is the download complete?")


def identified(path: Path, pattern: re.Pattern[str], shape: str) -> Iterator[tuple[str, re.Match[str], dict[str, Any]]]:
    """(file:line, the matched identifier, object); no identifier twice. `shape`: the pattern in words."""
    seen: set[str] = set()
    for where, record in records(path):
        identifier = text(record, "identifier", where)
        match = pattern.fullmatch(identifier)
        if not match:
            raise CorpusError(f"{where}: identifier {ascii(identifier)[:60]}, expected {shape}. Correct the line.")
        if identifier in seen:
            raise CorpusError(f"{where}: identifier {identifier} found twice, expected once. Remove one of the lines.")
        seen.add(identifier)
        yield where, match, record


def text(record: dict[str, Any], key: str, where: str) -> str:
    """A field that must be text with something in it."""
    value = record.get(key)
    if not isinstance(value, str) or not value.strip() or not value.isprintable() and "\\ud" in ascii(value):
        raise CorpusError(f"{where}: {key} is {ascii(value)[:60]}, expected text. Correct the line.")
    return value


def label(record: dict[str, Any], where: str) -> int:
    """1 for true, 0 for false, in any case."""
    value = record.get("label")
    if str(value).lower() not in LABELS:
        raise CorpusError(f"{where}: label is {ascii(value)[:60]}, expected true or false. Correct the line.")
    return LABELS[str(value).lower()]


class Pictures:
    """Pictures by file name without suffix, from a folder (read with all its sub-folders) or an uncompressed tar."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.places: dict[str, tuple[Path, int, int]] = {}  # name -> file, offset, bytes
        found = walk_folder(source) if source.is_dir() else walk_tar(source)
        for name, place in found:
            if Path(name).suffix.lower() in PICTURE_SUFFIXES:
                stem = Path(name).stem
                if stem in self.places:
                    raise CorpusError(f"{source}: two pictures are named {stem}, expected one. Remove one of them.")
                self.places[stem] = place

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str, where: str) -> tuple[bytes, Image.Image]:
        """The file's bytes and the decoded RGB picture. `where`: who asks, for the error."""
        if name not in self.places:
            raise CorpusError(f"{where}: picture {name} is not in {self.source} ({len(self.places):,} pictures).")
        path, offset, size = self.places[name]
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        try:
            return data, Image.open(BytesIO(data)).convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise CorpusError(f"{self.source}: picture {name} cannot be decoded ({error}). Get it again.") from None


def walk_folder(folder: Path) -> Iterator[tuple[str, tuple[Path, int, int]]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, (path, 0, path.stat().st_size)


def walk_tar(path: Path) -> Iterator[tuple[str, tuple[Path, int, int]]]:
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg():
                    yield member.name, (path, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CorpusError(f"{path}: not a whole uncompressed tar ({error}). Get it again.") from None


def pictures_of(folder: Path) -> Path | None:
    """Where a folder's pictures are: images/ or images.tar."""
    return next((path for path in (folder / "images", folder / "images.tar") if path.exists()), None)


def require(*candidates: Path) -> Path:
    """The first of the paths that exists."""
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        names = " or ".join(path.name for path in candidates)
        raise CorpusError(
            f"{candidates[0].parent}: found no {names}. Point source at the folder of the official files."
        )
    return found


def members(sources: Sequence[Path]) -> list[Path]:
    """The sources, each folder replaced by its files."""
    return [
        path
        for source in sources
        for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
        if path.is_file()
    ]


def describe(source: Path, folder: Path) -> dict[str, Any]:
    """Name within `folder`, files, bytes and sha256 of a source; a folder's is over its files' names and bytes."""
    files, sha256 = members([source]), hashlib.sha256()
    for path in files:
        sha256.update(path.relative_to(source).as_posix().encode() if source.is_dir() else b"")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                sha256.update(block)
    size = sum(path.stat().st_size for path in files)
    return {
        "name": source.relative_to(folder).as_posix(),
        "files": len(files),
        "bytes": size,
        "sha256": sha256.hexdigest(),
    }
