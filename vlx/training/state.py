"""Checkpoints: everything a resume needs, written at step boundaries, atomically, checked when read."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

log = logging.getLogger("vlx")
STATES = "states.pt"  # of optimizers and generators; read with weights_only=True
KEEP = 2  # newest checkpoints kept; an older one stands in for a damaged one


@dataclass
class Progress:
    """Where training stands. `step` counts optimizer steps done; `batch` the batches used of `epoch`."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_step: int = -1
    best_value: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)  # of the training metrics since they were last logged


def save_checkpoint(
    folder: Path, progress: Progress, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]
) -> None:
    """Write `folder`/step-N whole or not at all, then drop all but the newest."""
    final = folder / f"step-{progress.step:08d}"
    partial = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, module in modules.items():
        save_file(contiguous(module.state_dict()), partial / f"{name}.safetensors")
    states = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
    torch.save({"optimizers": states, "random": random_states()}, partial / STATES)
    record = {"progress": asdict(progress), "sha256": {file.name: digest(file) for file in sorted(partial.iterdir())}}
    (partial / "state.json").write_text(json.dumps(record), encoding="utf-8")
    for file in partial.iterdir():
        flush(file)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same step
    os.replace(partial, final)
    flush(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]) -> Progress | None:
    """Restore the newest whole checkpoint of `folder` into these objects; None if there is none."""
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale)
    for saved in sorted(folder.glob("step-*"), reverse=True):
        record = read_record(saved)
        if record is None:
            continue
        for name, module in modules.items():
            module.load_state_dict(load_file(saved / f"{name}.safetensors"))
        states = torch.load(saved / STATES, map_location="cpu", weights_only=True)
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(states["optimizers"][name])
        restore_random_states(states["random"])
        return Progress(**record["progress"])
    return None


def read_record(saved: Path) -> dict[str, Any] | None:
    """state.json of a checkpoint whose files all have their checksum; otherwise None and a warning."""
    try:
        record = json.loads((saved / "state.json").read_text(encoding="utf-8"))
        damaged = [name for name, sha in record["sha256"].items() if digest(saved / name) != sha]
        if not damaged:
            return record
        reason = f"{', '.join(damaged)} changed since it was written"
    except (OSError, ValueError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
    log.warning("%s: damaged checkpoint (%s); going back to the one before.", saved, reason)
    return None


def random_states() -> dict[str, list[Tensor]]:
    """torch's generators; vlx draws from no other (order and data come from (seed, epoch, index))."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": [torch.get_rng_state()], "cuda": gpus}


def restore_random_states(states: dict[str, list[Tensor]]) -> None:
    torch.set_rng_state(states["cpu"][0])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def save_weights(model: nn.Module, path: Path) -> None:
    """Weights alone, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(contiguous(model.state_dict()), partial, metadata={"format": "pt"})
    flush(partial)
    os.replace(partial, path)


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors takes them: whole, and each with memory of its own (tied weights are written twice)."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        found[name] = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in seen:
            found[name] = found[name].clone()
        seen.add(tensor.data_ptr())
    return found


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Push a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
