"""Loading weights with a report, tensor by tensor: a checkpoint that fits in part is an error."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vlx.errors import CheckpointError


@dataclass
class LoadReport:
    """Names are the model's, unexpected ones the file's. `share`: the part of the parameters restored, 0..1."""

    source: str
    matched: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)
    share: float = 0.0

    def summary(self) -> str:
        counts = f"{len(self.matched)} matched, {len(self.renamed)} of them renamed, {len(self.missing)} missing"
        rest = f"{len(self.unexpected)} unexpected, {len(self.clashes)} of another shape"
        return f"{self.source}: {counts}, {rest}; {self.share:.1%} of the parameters restored"


def load_weights(
    model: nn.Module,
    weights: dict[str, Tensor],
    *,
    source: str,
    rename: Callable[[str], str] = lambda name: name,
    may_miss: tuple[str, ...] = (),
    may_exceed: tuple[str, ...] = (),
) -> LoadReport:
    """Copy `weights` into `model`. Raises CheckpointError on a shape clash or on a missing or extra key not allowed."""
    report = LoadReport(source)
    target = model.state_dict()
    file_name = {rename(name): name for name in weights}
    for name, tensor in target.items():
        if name not in file_name:
            report.missing.append(name)
        elif weights[file_name[name]].shape != tensor.shape:
            shapes = f"{tuple(weights[file_name[name]].shape)} in the file, {tuple(tensor.shape)} in the model"
            report.clashes.append(f"{name} ({shapes})")
        else:
            report.matched.append(name)
            if file_name[name] != name:
                report.renamed[name] = file_name[name]
    report.unexpected = [file_name[name] for name in file_name if name not in target]
    restored = sum(target[name].numel() for name in report.matched)
    report.share = restored / sum(tensor.numel() for tensor in target.values())
    wrong = [name for name in report.missing if not name.startswith(may_miss)]
    wrong += [name for name in report.unexpected if not name.startswith(may_exceed)] + report.clashes
    if wrong:
        raise CheckpointError(
            f"{report.summary()}; first key at fault: {wrong[0]}. Is it a model of another size or task?"
        )
    with torch.no_grad():
        for name in report.matched:
            target[name].copy_(weights[file_name[name]])
    return report
