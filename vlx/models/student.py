"""A student: the teacher's architecture with fewer layers, started from some of its own (specs: Oscar c.2, c.3)."""

import copy
import re

import torch
from torch import nn
from transformers import PreTrainedModel

from vlx.errors import ConfigError

LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")


def layer_map(strategy: str, student_layers: int, teacher_layers: int) -> list[list[int]]:
    """For each of K student layers, the teacher layers (of L) it belongs to; `both` gives several."""
    k, ratio = student_layers, teacher_layers // student_layers
    if student_layers > teacher_layers:
        raise ConfigError(f"student_layers={k}: expected at most the teacher's layers, {teacher_layers}.")
    if strategy == "first":
        return [[s] for s in range(k)]
    if strategy == "last":
        return [[teacher_layers - k + s] for s in range(k)]
    if teacher_layers % student_layers:
        raise ConfigError(
            f"strategy={strategy}: expected student_layers={k} to divide the teacher's {teacher_layers} layers."
        )
    if strategy == "skip":
        return [[ratio * s + ratio - 1] for s in range(k)]
    return [list(range(ratio * s, ratio * (s + 1))) for s in range(k)]


def renamed(name: str, layers: list[list[int]]) -> list[str]:
    """A student parameter's names in the teacher; outside the layers the name is the same."""
    match = LAYER.fullmatch(name)
    return [f"{match[1]}{other}{match[3]}" for other in layers[int(match[2])]] if match else [name]


def set_dropout(model: nn.Module, hidden: float, attention: float) -> None:
    """Dropout of the model as it is trained now, whatever its configuration says."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = hidden
        elif "dropout" in vars(module):  # attention, which holds its dropout as a number
            vars(module)["dropout"] = attention


def has_dropout(model: nn.Module) -> bool:
    """Whether two passes over one batch differ in training."""
    chances = [
        module.p if isinstance(module, nn.Dropout) else vars(module).get("dropout", 0.0) for module in model.modules()
    ]
    return any(chance > 0 for chance in chances)


def student_from(teacher: PreTrainedModel, *, layers: int, init: str, seed: int) -> PreTrainedModel:
    """A new model with `layers` layers: everything copied from the teacher, its layers chosen by `init`
    (first | last | skip), or all weights drawn from `seed` (random)."""
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    mapping = layer_map("first" if init == "random" else init, layers, teacher.config.num_hidden_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(teacher)(config)
    if init != "random":
        weights = teacher.state_dict()
        student.load_state_dict({name: weights[renamed(name, mapping)[0]] for name in student.state_dict()})
    return student
