"""Folders of runs under work_dir: equal options on equal data find the folder of the run that was interrupted."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlx.files import write_json

RESULT_FILE = "result.json"  # written last: a run with it is finished
UNHASHED_OPTIONS = {"description", "resume", "work_dir", "preset"}  # options that do not change what a run computes


def options_hash(options: dict[str, Any], *parts: str) -> str:
    """Twelve hex digits that change with every option that changes the result, and with the parts."""
    hashed = {name: value for name, value in options.items() if name not in UNHASHED_OPTIONS}
    return hashlib.sha256(json.dumps([hashed, *parts], sort_keys=True).encode()).hexdigest()[:12]


def weights_label(weights: str) -> str:
    """Part of a run's name: `from NAME/VERSION`, or the last two parts of a folder."""
    return f"from {'/'.join(Path(weights).parts[-2:])}"


@contextmanager
def run_folder(root: Path, stem: str, *, resume: bool) -> Iterator[Path]:
    """`root`/`stem`-N of the newest unfinished run that no process works in, or a new one; locked until the end."""
    root.mkdir(parents=True, exist_ok=True)
    numbers = sorted(int(path.name.removeprefix(f"{stem}-")) for path in root.glob(f"{stem}-*"))
    newest = numbers[-1:] if resume else []
    for number in [*newest, (numbers[-1] if numbers else 0) + 1]:
        folder = root / f"{stem}-{number}"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            if (folder / RESULT_FILE).is_file() or not try_lock(lock.fileno()):
                continue
            yield folder
            return
    raise RuntimeError(f"{root}: two processes began the same run at the same moment; start one of them again.")


@contextmanager
def locked_folder(folder: Path) -> Iterator[Path]:
    """Wait until no other process works in `folder`, then lock it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def abandon(folder: Path) -> None:
    """Ensure that no later run resumes this one: its weights and checkpoints are removed, its journal stays."""
    shutil.rmtree(folder / "training", ignore_errors=True)
    write_json(folder / RESULT_FILE, {})


def try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
