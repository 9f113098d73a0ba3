"""What a checkpoint gave a model, tensor by tensor: nothing loads silently half."""

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
    own, report = model.state_dict(), LoadReport(source)
    given = {rename(name): name for name in weights}
    for name, tensor in own.items():
        if name not in given:
            report.missing.append(name)
        elif weights[given[name]].shape != tensor.shape:
            shapes = f"{tuple(weights[given[name]].shape)} in the file, {tuple(tensor.shape)} in the model"
            report.clashes.append(f"{name} ({shapes})")
        else:
            report.matched.append(name)
            if given[name] != name:
                report.renamed[name] = given[name]
    report.unexpected = [given[name] for name in given if name not in own]
    report.share = sum(own[name].numel() for name in report.matched) / sum(tensor.numel() for tensor in own.values())
    wrong = [name for name in report.missing if not name.startswith(may_miss)]
    wrong += [name for name in report.unexpected if not name.startswith(may_exceed)] + report.clashes
    if wrong:
        raise CheckpointError(
            f"{report.summary()}; first key at fault: {wrong[0]}. Is it a model of another size or task?"
        )
    with torch.no_grad():
        for name in report.matched:
            own[name].copy_(weights[given[name]])
    return report
