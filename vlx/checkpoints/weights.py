"""Weight files of any origin: tensors by name, and nothing else."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlx.errors import CheckpointError


def modern_name(name: str) -> str:
    """Very old files call LayerNorm's weight and bias gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the model's weights, by its own names."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .bin, .pth or .safetensors file; no code in it is executed. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds on a damaged or hostile file
        raise CheckpointError(f"{path}: not a readable weights file ({' '.join(str(error).split())[:200]}).") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: expected a dictionary of tensors by parameter name.")
    return weights
