"""A student: the teacher's architecture with fewer layers, initialized from some of the teacher's
(Oscar-ReptileDistil, oscar/run_*.py; layer choices of Sun et al. 2019)."""

import copy
import dataclasses
import re
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from vlx.errors import ConfigError
from vlx.models.layers import Output
from vlx.models.spec import ModelSpec, spec_of

LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")


def layer_map(strategy: str, student_layers: int, teacher_layers: int) -> list[list[int]]:
    """For each of K student layers, its teacher layers (of L). first, last: the first or last K. mean: the L layers are
    divided among the K; skip: the last layer of each such share."""
    if student_layers > teacher_layers:
        raise ConfigError(f"student_layers={student_layers}: expected at most the teacher's layers, {teacher_layers}.")
    if strategy == "first":
        return [[layer] for layer in range(student_layers)]
    if strategy == "last":
        return [[layer] for layer in range(teacher_layers - student_layers, teacher_layers)]
    ends = depths(student_layers, teacher_layers)
    shares = [list(range(start, end)) for start, end in pairwise(ends)]
    return shares if strategy == "mean" else [share[-1:] for share in shares]


def depths(student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher depth of each student depth 0..K: the integer nearest to k L / K, a half rounded up (12 to 6 layers:
    0 2 4 .. 12; 12 to 5: 0 2 5 7 10 12)."""
    doubled = 2 * student_layers
    return [(2 * k * teacher_layers + student_layers) // doubled for k in range(student_layers + 1)]


def teacher_names(name: str, layers: list[list[int]]) -> list[str]:
    """Names in the teacher of a student's parameter; layers: of layer_map. Outside the layers the name is the same."""
    match = LAYER.fullmatch(name)
    return [f"{match[1]}{layer}{match[3]}" for layer in layers[int(match[2])]] if match else [name]


def set_dropout(model: nn.Module, hidden: float, attention: float) -> None:
    """Set every dropout probability, whatever the configuration holds."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = hidden
        elif "dropout" in vars(module):  # attention holds its dropout as a number
            vars(module)["dropout"] = attention


def has_dropout(model: nn.Module) -> bool:
    """Whether two training passes over the same batch differ."""
    probabilities = [
        module.p if isinstance(module, nn.Dropout) else vars(module).get("dropout", 0.0) for module in model.modules()
    ]
    return any(probability > 0 for probability in probabilities)


def student_from(
    teacher: PreTrainedModel, *, layers: int, init: str, seed: int, hidden_size: int = 0
) -> PreTrainedModel:
    """A copy of the teacher with `layers` layers. init: the teacher layers that they start from (first, last, skip;
    mean: of several), none (new layers, the rest copied) or random (every weight drawn from `seed`). A student of
    another width needs random. Raises ConfigError."""
    config = with_layers(teacher.config, layers, spec_of(teacher))
    if hidden_size not in (0, config.hidden_size):
        set_width(config, hidden_size, init)
    mapping = layer_map("first" if init in ("none", "random") else init, layers, teacher.config.num_hidden_layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = type(teacher)(config)
    if init == "random":
        return student
    weights = teacher.state_dict()
    initial = student.state_dict()
    for name in initial:
        if init != "none" or not LAYER.fullmatch(name):
            initial[name] = mean_weight([weights[source] for source in teacher_names(name, mapping)])
    student.load_state_dict(initial)
    return student


def with_layers(config: PretrainedConfig, layers: int, spec: ModelSpec) -> PretrainedConfig:
    """A copy of the configuration with this number of layers. Raises ConfigError."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = layers
    for name, value in (spec.student_config(config, layers) if spec.student_config else {}).items():
        setattr(config, name, value)
    return config


def mean_weight(weights: list[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 else torch.stack(weights).mean(0)


def set_width(config: PretrainedConfig, hidden_size: int, init: str) -> None:
    """Change the width, and the feed-forward width in proportion. Raises ConfigError."""
    width, heads = config.hidden_size, config.num_attention_heads
    if init != "random":
        reason = f"student_init={init}: weights of width {width} do not fit student_hidden_size={hidden_size}"
        raise ConfigError(f"{reason}; give student_init=random.")
    if hidden_size % heads:
        raise ConfigError(f"student_hidden_size={hidden_size}: expected a multiple of the teacher's {heads} heads.")
    config.intermediate_size = config.intermediate_size * hidden_size // width
    config.hidden_size = hidden_size


class HiddenProjection(nn.Module):
    """A student whose hidden states are mapped to `width` by one linear layer, shared by all layers and trained with it
    (Jiao et al. 2020, section 3.1). Checkpoints hold the map; the published student does not."""

    def __init__(self, student: PreTrainedModel, width: int, *, seed: int) -> None:
        super().__init__()
        self.student = student
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projection = nn.Linear(student.config.hidden_size, width)

    @property
    def config(self) -> PretrainedConfig:
        return self.student.config

    def forward(self, batch: dict[str, Tensor], **options: bool) -> Output:
        """The student's output; hidden_states [M,L,width]."""
        output = self.student(batch, **options)
        return dataclasses.replace(output, hidden_states=tuple(map(self.projection, output.hidden_states)))
