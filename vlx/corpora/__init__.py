"""Corpora: prepared once from official files, opened in milliseconds.

open(path)                     a prepared corpus
prepare(format, source, out)   official files -> corpus
fetch(task, corpus, source, work_dir)   whichever of the two is needed, kept under work_dir
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from vlx import __version__
from vlx.corpora import scenes
from vlx.corpora.formats import FORMATS, format_of, prepare
from vlx.corpora.formats.files import members
from vlx.corpora.store import FORMAT, Corpus, Statement
from vlx.errors import CorpusError

__all__ = ["FORMATS", "Corpus", "Statement", "fetch", "open", "prepare", "scenes"]

open = Corpus  # corpora.open(path)
SCENES = "scenes"
SCENES_TASK = "nlvr2"


def fetch(
    task: str,
    corpus: str,
    source: str,
    work_dir: Path | str,
    *,
    size: int = 20_000,
    seed: int = 0,
    difficulty: str = "normal",
) -> Corpus:
    """The corpus a user asks for, prepared first if it is not there yet.

    source: a folder of the task's official files; else corpus: "scenes" or the path of a prepared corpus.
    size, seed, difficulty: of "scenes".
    """
    kept = Path(work_dir) / "corpora"
    if source:
        out = kept / f"{task}-{key(source_state(task, Path(source)))}"
        found = open(out) if out.exists() else prepare(task, source, out)
    elif corpus != SCENES:
        found = open(corpus)
    elif task != SCENES_TASK:
        raise CorpusError(f"task {task}: no built-in corpus. Give --source=<folder of the official {task} files>.")
    else:
        out = kept / f"{SCENES}-{key({'seed': seed, 'size': size, 'difficulty': difficulty})}"
        found = open(out) if out.exists() else scenes.build(out, seed=seed, size=size, difficulty=difficulty)
    found.splits(task)  # CorpusError if it has none of this task
    return found


def key(state: dict[str, Any]) -> str:
    """Changes with what the corpus is made from, and with the version that makes it."""
    return hashlib.sha256(json.dumps([FORMAT, __version__, state]).encode()).hexdigest()[:12]


def source_state(task: str, folder: Path) -> dict[str, Any]:
    """Name, bytes and time of every official file."""
    files = members(format_of(task).sources(folder))
    return {str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
