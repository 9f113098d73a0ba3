"""The corpus of a run: opened, or prepared first and kept under work_dir."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vlx import __version__, corpora, synthetic, workspace
from vlx.config import DataFields, PrepareConfig
from vlx.corpora import Corpus
from vlx.corpora.formats import default_format, find
from vlx.corpora.formats.folders import files_under
from vlx.corpora.store import FORMAT
from vlx.errors import CorpusError

SYNTHETIC = "synthetic"


def open_corpus(cfg: DataFields, *, task: str | None = None) -> Corpus:
    """The corpus of the options, prepared first if need be. task: that it must hold, if not cfg.task; empty: any."""
    return fetch_corpus(
        cfg.task if task is None else task, cfg.corpus, cfg.source, cfg.work_dir,
        format=cfg.format, dtype=cfg.dtype, detector=cfg.detector,
        size=cfg.corpus_size, seed=cfg.corpus_seed, difficulty=cfg.difficulty,
    )  # fmt: skip


def prepare_corpus(cfg: PrepareConfig) -> Corpus:
    """The corpus that `prepare` makes: in `out`, or under work_dir like any other verb's."""
    if cfg.out:
        return corpora.prepare(cfg.format, cfg.source, cfg.out, dtype=cfg.dtype, detector=cfg.detector)
    return open_corpus(cfg, task="" if cfg.format else cfg.task)


def fetch_corpus(
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
        result = corpora.open(corpus)
    if task:
        result.splits(task)  # CorpusError if it has none of this task
    return result


def from_source(folder: Path, format: str, source: str, *, dtype: str, detector: str) -> Corpus:
    """Prepared again whenever a file of the source, or an argument, changes."""
    files = files_under(find(format, source).values())
    state = {str(path.relative_to(source)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    name = f"{format}-{state_hash(state | {'dtype': dtype, 'detector': detector})}"
    return open_or_make(folder / name, partial(corpora.prepare, format, source, dtype=dtype, detector=detector))


def from_generator(folder: Path, task: str, *, size: int, seed: int, difficulty: str) -> Corpus:
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
    return corpora.open(out)
