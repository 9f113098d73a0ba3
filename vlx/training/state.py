"""Checkpoints: everything a resume needs, written atomically at step boundaries, with checksums."""

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

from vlx.files import remove, replacing

log = logging.getLogger("vlx")
STATES = "states.pt"  # of optimizers and generators; read with weights_only=True
KEEP = 2  # newest checkpoints kept; an older one stands in for a damaged one


@dataclass
class Progress:
    """The position in training. `step` counts optimizer steps done; `batch` the batches used of `epoch`."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_step: int = -1
    best_value: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)  # of the training metrics since they were last logged

    def add(self, metrics: dict[str, float]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in metrics.items()}


def save_checkpoint(
    folder: Path, progress: Progress, *, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]
) -> None:
    """Write `folder`/step-N as a whole or not at all, then remove all but the newest checkpoints."""
    final = folder / f"step-{progress.step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(final, fsync=True) as partial:
        partial.mkdir()
        write_checkpoint(partial, progress, modules=modules, optimizers=optimizers)
        remove(final)  # a damaged checkpoint of the same step
    flush_entries(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def write_checkpoint(
    folder: Path, progress: Progress, *, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]
) -> None:
    """Write the weights of every module, the states of optimizers and generators, and state.json with checksums."""
    for name, module in modules.items():
        save_file(tensors_to_save(module), folder / f"{name}.safetensors")
    states = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
    torch.save({"optimizers": states, "random": random_states()}, folder / STATES)
    checksums = {file.name: digest(file) for file in sorted(folder.iterdir())}
    record = {"progress": asdict(progress), "sha256": checksums}
    (folder / "state.json").write_text(json.dumps(record), encoding="utf-8")


def load_checkpoint(
    folder: Path, *, modules: dict[str, nn.Module], optimizers: dict[str, Optimizer]
) -> Progress | None:
    """Restore modules, optimizers and generators from the newest undamaged checkpoint; None if there is none."""
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
    """Return state.json of a checkpoint whose files all match their checksums; otherwise warn and return None."""
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
    """Return the states of torch's generators, the only ones in use: order and data depend on (seed, epoch, index)."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": [torch.get_rng_state()], "cuda": gpus}


def restore_random_states(states: dict[str, list[Tensor]]) -> None:
    torch.set_rng_state(states["cpu"][0])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights alone, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, fsync=True) as partial:
        save_file(tensors_to_save(model), partial, metadata={"format": "pt"})


def tensors_to_save(module: nn.Module) -> dict[str, Tensor]:
    """Return the state as safetensors takes it: contiguous, and tied weights as separate copies."""
    addresses: set[int] = set()
    tensors = {}
    for name, tensor in module.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous()
        if tensor.data_ptr() in addresses:
            tensors[name] = tensors[name].clone()
        addresses.add(tensor.data_ptr())
    return tensors


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_entries(folder: Path) -> None:
    """Flush the entries of a folder to the disk, not its files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
