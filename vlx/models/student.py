"""A student: the teacher's architecture with fewer layers, started from some of its own (specs: Oscar c.2, c.3)."""

import copy
import dataclasses
import re
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from vlx.errors import ConfigError
from vlx.models.layers import Output

LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")


def layer_map(strategy: str, student_layers: int, teacher_layers: int) -> list[list[int]]:
    """For each of K student layers, the teacher layers (of L) it belongs to: the first or last K; or it stands for all
    of its share (mean), or for the last of them (skip)."""
    k = student_layers
    if student_layers > teacher_layers:
        raise ConfigError(f"student_layers={k}: expected at most the teacher's layers, {teacher_layers}.")
    if strategy == "first":
        return [[s] for s in range(k)]
    if strategy == "last":
        return [[teacher_layers - k + s] for s in range(k)]
    ends = depths(student_layers, teacher_layers)
    shares = [list(range(start, end)) for start, end in pairwise(ends)]
    return shares if strategy == "mean" else [share[-1:] for share in shares]


def depths(student_layers: int, teacher_layers: int) -> list[int]:
    """For 0..K layers of the student, how many of the teacher's L do as much: the nearest to k L / K, a half rounded up
    (12 to 6: 0 2 4 .. 12; 12 to 5: 0 2 5 7 10 12)."""
    k, total = student_layers, teacher_layers
    return [(2 * done * total + k) // (2 * k) for done in range(k + 1)]


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


def student_from(
    teacher: PreTrainedModel, *, layers: int, init: str, seed: int, hidden_size: int = 0
) -> PreTrainedModel:
    """A new model with `layers` layers: everything copied from the teacher, its layers chosen by `init` (first | last |
    skip; mean: of several; none: new ones), or all weights drawn from `seed` (random), as is all of a student
    of another width. Raises ConfigError."""
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = layers
    if hidden_size not in (0, config.hidden_size):
        narrow(config, hidden_size, init)
    drawn = init in ("none", "random")
    mapping = layer_map("first" if drawn else init, layers, teacher.config.num_hidden_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(teacher)(config)
    if init != "random":
        weights, own = teacher.state_dict(), student.state_dict()
        taken = [name for name in own if init != "none" or not LAYER.fullmatch(name)]
        found = {name: mean_of([weights[other] for other in renamed(name, mapping)]) for name in taken}
        student.load_state_dict(own | found)
    return student


def mean_of(weights: list[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 else torch.stack(weights).mean(0)


def narrow(config: PretrainedConfig, hidden_size: int, init: str) -> None:
    """Another width for the configuration, its feed-forward part in proportion. Raises ConfigError."""
    width, heads = config.hidden_size, config.num_attention_heads
    if init != "random":
        start = f"student_init={init}: weights of width {width} do not fit student_hidden_size={hidden_size}"
        raise ConfigError(f"{start}; give student_init=random.")
    if hidden_size % heads:
        raise ConfigError(f"student_hidden_size={hidden_size}: expected a multiple of the teacher's {heads} heads.")
    config.intermediate_size = config.intermediate_size * hidden_size // width
    config.hidden_size = hidden_size


class Projected(nn.Module):
    """A student whose hidden states are shown `width` wide by one linear map, which learns with it: TinyBERT's, for all
    layers. Checkpoints hold the map; the student itself does not."""

    def __init__(self, student: PreTrainedModel, width: int, *, seed: int) -> None:
        super().__init__()
        self.student = student
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(student.config.hidden_size, width)

    def forward(self, batch: dict[str, Tensor], **options: bool) -> Output:
        """The student's output; hidden_states [M,L,width]."""
        output = self.student(batch, **options)
        return dataclasses.replace(output, hidden_states=tuple(map(self.projection, output.hidden_states)))
