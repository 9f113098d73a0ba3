"""Corpora: prepared once from official files, opened in milliseconds.

open(path)                     a prepared corpus
prepare(format, source, out)   official files -> corpus
fetch(task, corpus, source, work_dir)   whichever of the two is needed, kept under work_dir
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vlx import __version__, synthetic, workspace
from vlx.corpora import doctor
from vlx.corpora.formats import FORMATS, find, prepare
from vlx.corpora.formats.files import members
from vlx.corpora.store import FORMAT, Corpus, Example
from vlx.errors import CorpusError

__all__ = ["FORMATS", "Corpus", "Example", "doctor", "fetch", "open", "prepare"]

open = Corpus  # corpora.open(path)
SYNTHETIC = "synthetic"
OWN_FORMATS = {"retrieval": "coco-captions", "snli_ve": "snli-ve", "vqa_rad": "vqa-rad"}  # of tasks otherwise named


def fetch(
    task: str, corpus: str, source: str, work_dir: Path | str,
    *, format: str = "", dtype: str = "float16", detector: str = "", size: int, seed: int, difficulty: str,
) -> Corpus:  # fmt: skip
    """The corpus a user asks for, prepared first if it is not there yet.

    source: a folder of official files of a format; else corpus: "synthetic" or the path of a prepared corpus.
    task: which the corpus must hold; empty: any. size, seed, difficulty: of "synthetic".
    """
    kept = Path(work_dir) / "corpora"
    if source:
        format = format or OWN_FORMATS.get(task, task)
        files = members(find(format, source).values())
        state = {str(path.relative_to(source)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
        name = f"{format}-{key(state | {'dtype': dtype, 'detector': detector})}"
        found = open_or_make(kept / name, partial(prepare, format, source, dtype=dtype, detector=detector))
    elif corpus != SYNTHETIC:
        found = open(corpus)
    elif task not in synthetic.TASKS:
        raise CorpusError(f"task {task}: no built-in corpus. Give --source=<folder of the official {task} files>.")
    else:
        scene: dict[str, Any] = {"task": task, "seed": seed, "size": size, "difficulty": difficulty}
        found = open_or_make(kept / f"{SYNTHETIC}-{key(scene)}", partial(synthetic.build, **scene))
    if task:
        found.splits(task)  # CorpusError if it has none of this task
    return found


def key(state: dict[str, Any]) -> str:
    """Changes with what the corpus is made from, and with the version that makes it."""
    return hashlib.sha256(json.dumps([FORMAT, __version__, state]).encode()).hexdigest()[:12]


def open_or_make(out: Path, make: Callable[[Path], Corpus]) -> Corpus:
    """Of two processes that need the same corpus, one makes it and the other waits."""
    if not out.exists():
        with workspace.hold(out.parent):
            if not out.exists():
                return make(out)
    return open(out)
