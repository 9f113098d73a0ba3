"""An original checkpoint of any system -> a model folder of vlx."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlx.checkpoints.clip_vil import export_clip_vil, load_clip_vil
from vlx.checkpoints.lxmert import export_lxmert, load_lxmert
from vlx.checkpoints.oscar import export_oscar, load_oscar
from vlx.checkpoints.report import LoadReport
from vlx.checkpoints.vilbert import export_vilbert, load_vilbert
from vlx.checkpoints.vle import export_vle, load_vle
from vlx.errors import CheckpointError

Loader = Callable[[Path], tuple[PreTrainedModel, LoadReport]]
LOADERS: dict[str, Loader] = {
    "oscar": lambda path: load_oscar(path, new_head=False),
    "lxmert": load_lxmert,
    "vilbert": load_vilbert,
    "clip_vil": load_clip_vil,
    "vle": load_vle,
}
EXPORTERS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "oscar": export_oscar,
    "lxmert": export_lxmert,
    "vilbert": export_vilbert,
    "clip_vil": export_clip_vil,
    "vle": export_vle,
}
FILES = ("*.pth", "*.bin", "*.ckpt", "*.safetensors")  # weights in a folder
FOLDERS = {"oscar", "vle"}  # systems whose checkpoints are folders


def read_original(system: str, path: Path) -> tuple[PreTrainedModel, LoadReport]:
    """The model and its load report. Raises CheckpointError unless every key is accounted for."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder; expected the original weights of {system}.")
    if path.is_dir() and system not in FOLDERS:
        found = sorted(file for pattern in FILES for file in path.glob(pattern))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise CheckpointError(f"{path}: found {names}, expected one file of weights. Name it with weights=FILE.")
        path = found[0]
    return LOADERS[system](path)


def write_original(system: str, model: PreTrainedModel, path: Path) -> None:
    """Save the weights as the system's own code loads them: its names, by torch.save."""
    torch.save(EXPORTERS[system](model), path)


def digest(path: Path) -> str:
    """sha256 of a file, or of a folder's files by name."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as content:
                hashlib.file_digest(content, lambda: total)  # continues the same one
    return total.hexdigest()


def shapes_of(model: PreTrainedModel) -> dict[str, Any]:
    """What the configuration tells of an example: its images, answers and features of a region (0: it reads pixels)."""
    config = model.config
    images = getattr(config, "num_choice", None) or getattr(config, "num_images", 1)
    names = ("img_feature_dim", "visual_feat_dim", "v_feature_size")
    features = next((getattr(config, name) for name in names if hasattr(config, name)), 0)
    return {"num_images": images, "region_dim": features - 6 * getattr(config, "box_terms", False)}


def read_answers(path: Path) -> list[str]:
    """The answer of every label: a JSON list, a dict answer -> label, or LXMERT's list of all with their data sets."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        answers = sorted(content, key=content.__getitem__) if isinstance(content, dict) else list(content)
        answers = [answer["ans"] if isinstance(answer, dict) else answer for answer in answers]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a list of answers ({error}); expected trainval_label2ans.json.") from error
    if not all(isinstance(answer, str) for answer in answers):
        raise CheckpointError(f"{path}: expected texts, the answer of each label.")
    return answers
