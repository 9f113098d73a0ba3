"""Files of a source folder: which of the official names exist, and what the manifest records of them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlx.errors import CorpusError

NAMES_IN_ERROR = 6


def first_existing(folder: Path, *names: str) -> Path:
    """The first of the names that exists in the folder."""
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise CorpusError(f"{folder}: found no {' or '.join(names)}. Point source at the folder of the official files.")


def existing_files(folder: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """role -> path of the names (role -> name) that exist in the folder, at least one."""
    files = {role: folder / name for role, name in names.items() if (folder / name).exists()}
    if not files:
        first = ", ".join(list(names.values())[:NAMES_IN_ERROR])
        raise CorpusError(f"{folder}: found none of {first}. Point source at the folder of the official files.")
    return files


def files_under(sources: Iterable[Path]) -> list[Path]:
    """The sources, each folder replaced by all files below it, sorted."""
    paths = (path for source in sources for path in (sorted(source.rglob("*")) if source.is_dir() else [source]))
    return [path for path in paths if path.is_file()]


def source_record(source: Path, folder: Path) -> dict[str, Any]:
    """Name relative to `folder`, number of files, bytes and sha256 of a source; of a folder, over its files by name."""
    files = files_under([source])
    sha256 = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: sha256)  # continues one digest over all files
    size = sum(path.stat().st_size for path in files)
    name = source.relative_to(folder).as_posix()
    return {"name": name, "files": len(files), "bytes": size, "sha256": sha256.hexdigest()}
