"""Original checkpoints of every architecture, in and out. `ModelSpec.originals` names the module, which has
load_original(path), export_original(model), input_shape(model) and IS_FOLDER, true if its checkpoints are folders."""

import hashlib
import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from transformers import PreTrainedModel

from vlx.checkpoints.report import LoadReport
from vlx.errors import CheckpointError
from vlx.models.spec import ModelSpec

log = logging.getLogger("vlx")
FILES = ("*.pth", "*.bin", "*.ckpt", "*.safetensors")  # weights in a folder


def module_of(spec: ModelSpec) -> ModuleType:
    return import_module(spec.originals)


def read_original(spec: ModelSpec, path: Path) -> tuple[PreTrainedModel, LoadReport]:
    """The model and its load report. Raises CheckpointError unless every key is accounted for."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder; expected the original weights of {spec.name}.")
    module = module_of(spec)
    if path.is_dir() and not module.IS_FOLDER:
        files = sorted(file for pattern in FILES for file in path.glob(pattern))
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            raise CheckpointError(f"{path}: found {names}, expected one file of weights. Name it with weights=FILE.")
        path = files[0]
    return module.load_original(path)


def write_original(spec: ModelSpec, model: PreTrainedModel, path: Path) -> None:
    """Save the weights as the original code loads them: its names, by torch.save."""
    torch.save(module_of(spec).export_original(model), path)


def digest(path: Path) -> str:
    """sha256 of a file, or of a folder's files by name."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as content:
                hashlib.file_digest(content, lambda: total)  # one digest over all files
    return total.hexdigest()
