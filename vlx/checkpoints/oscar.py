"""Oscar and VinVL checkpoint folders: config.json, pytorch_model.bin, vocab.txt (specs: Oscar a.5)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.errors import CheckpointError
from vlx.models.oscar import Oscar, OscarConfig

# The model's own configuration; run-time switches and HF bookkeeping in old files are not.
KNOWN = {spec.name for spec in dataclasses.fields(OscarConfig)} & set(OscarConfig.__annotations__)
PRETRAINING_HEADS = ("cls.",)


def read_config(path: Path) -> OscarConfig:
    """An original config.json. Absent names take the original's defaults."""
    try:
        options = dict(json.loads(path.read_text(encoding="utf-8")))
        known = {name: options[name] for name in KNOWN | {"num_labels"} if name in options}
        known.setdefault("box_terms", known.get("img_feature_dim", 2054) != 2048)  # the file without box terms has 2048
        return OscarConfig(**known)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; an Oscar folder has config.json beside its weights."
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an Oscar configuration ({error}).") from error


def original_name(name: str) -> str:
    """Very old files call LayerNorm's weight and bias gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .bin or .safetensors file; nothing else in it is ever executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds on a damaged or hostile file
        raise CheckpointError(f"{path}: not a readable weights file ({' '.join(str(error).split())[:200]}).") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: expected a dictionary of tensors by parameter name.")
    return weights


def export_oscar(model: Oscar) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load_oscar(folder: Path, *, new_head: bool) -> tuple[Oscar, LoadReport]:
    """An original folder. With `new_head` a missing classifier is allowed and starts at random."""
    model = Oscar(read_config(folder / "config.json"))
    weights = read_weights(folder / "pytorch_model.bin")
    may_miss = ("classifier.",) if new_head else ()
    report = load_weights(
        model, weights, source=str(folder), rename=original_name, may_miss=may_miss, may_exceed=PRETRAINING_HEADS
    )
    return model, report
