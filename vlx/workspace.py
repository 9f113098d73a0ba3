"""Folders of runs under work_dir: the same options on the same data find the folder of the run that stopped."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULT = "result.json"  # written last: a run with it is finished
NOT_IDENTITY = {"description", "resume", "work_dir", "preset"}  # options that do not change what a run computes


def key(options: dict[str, Any], *more: str) -> str:
    """Twelve hex digits that change with any option that changes the result."""
    kept = {name: value for name, value in options.items() if name not in NOT_IDENTITY}
    return hashlib.sha256(json.dumps([kept, *more], sort_keys=True).encode()).hexdigest()[:12]


def origin(weights: str) -> str:
    """Where a run starts, for its name: `from NAME/VERSION`, or of a folder the last two parts."""
    return f"from {'/'.join(Path(weights).parts[-2:])}"


@contextmanager
def claim(root: Path, stem: str, *, resume: bool) -> Iterator[Path]:
    """`root`/`stem`-N of the newest unfinished run that no process works in, or a new one; held until the end."""
    root.mkdir(parents=True, exist_ok=True)
    used = sorted(int(path.name.removeprefix(f"{stem}-")) for path in root.glob(f"{stem}-*"))
    newest = used[-1:] if resume else []
    for number in [*newest, (used[-1] if used else 0) + 1]:
        folder = root / f"{stem}-{number}"
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            if (folder / RESULT).is_file() or not locked(lock.fileno()):
                continue
            yield folder
            return
    raise RuntimeError(f"{root}: two processes began the same run at the same moment; start one of them again.")


@contextmanager
def hold(folder: Path) -> Iterator[Path]:
    """Wait until no other process works in `folder`, then hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def give_up(folder: Path) -> None:
    """No later run goes on from this one: its weights and checkpoints go, its journal stays."""
    shutil.rmtree(folder / "training", ignore_errors=True)
    write_json(folder / RESULT, {})


def write_json(path: Path, value: Any) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(partial, path)


def locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
