"""Corpora: prepared once from official files, opened in milliseconds.

open(path)                     a prepared corpus
prepare(format, source, out)   official files -> corpus
fetch(task, corpus, source, work_dir)   opens a corpus, prepares it first if necessary, and stores it under work_dir
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vlx import __version__, workspace
from vlx.corpora import validate
from vlx.corpora.formats import FORMATS, default_format, find, prepare
from vlx.corpora.formats.folders import files_under
from vlx.corpora.store import FORMAT, Corpus, Example
from vlx.errors import CorpusError

__all__ = ["FORMATS", "Corpus", "Example", "fetch", "open", "prepare", "validate"]

open = Corpus  # corpora.open(path)
SYNTHETIC = "scenes"


def fetch(
    task: str, corpus: str, source: str, work_dir: Path | str,
    *, format: str = "", dtype: str = "float16", detector: str = "", size: int, seed: int, difficulty: str,
) -> Corpus:  # fmt: skip
    """The corpus of a run, prepared first if it does not exist yet.

    source: a folder of official files of a format; otherwise corpus: "synthetic" or the path of a prepared corpus.
    task: which the corpus must hold; empty: any. size, seed, difficulty: of the synthetic corpus.
    """
    folder = Path(work_dir) / "corpora"
    if source:
        result = from_source(folder, format or default_format(task), source, dtype=dtype, detector=detector)
    elif corpus == SYNTHETIC:
        result = from_generator(folder, task, size=size, seed=seed, difficulty=difficulty)
    else:
        result = open(corpus)
    if task:
        result.splits(task)  # CorpusError if it has none of this task
    return result


def from_source(folder: Path, format: str, source: str, *, dtype: str, detector: str) -> Corpus:
    """Prepared again whenever a file of the source, or an argument, changes."""
    files = files_under(find(format, source).values())
    state = {str(path.relative_to(source)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    name = f"{format}-{state_hash(state | {'dtype': dtype, 'detector': detector})}"
    return open_or_make(folder / name, partial(prepare, format, source, dtype=dtype, detector=detector))


def from_generator(folder: Path, task: str, *, size: int, seed: int, difficulty: str) -> Corpus:
    from vlx.corpora import scenes as synthetic

    if task not in synthetic.TASKS:
        raise CorpusError(f"task {task}: no built-in corpus. Give --source=<folder of the official {task} files>.")
    arguments: dict[str, Any] = {"task": task, "seed": seed, "size": size, "difficulty": difficulty}
    name = f"{SYNTHETIC}-{state_hash(arguments)}"
    return open_or_make(folder / name, partial(synthetic.build, **arguments))


def state_hash(state: dict[str, Any]) -> str:
    """Changes with what the corpus is made from, and with the version that makes it."""
    return hashlib.sha256(json.dumps([FORMAT, __version__, state]).encode()).hexdigest()[:12]


def open_or_make(out: Path, make: Callable[[Path], Corpus]) -> Corpus:
    """Of two processes that need the same corpus, one makes it while the other waits."""
    if not out.exists():
        with workspace.locked_folder(out.parent):
            if not out.exists():
                return make(out)
    return open(out)
