"""Several models as one teacher: the mean of their logits, matched by answer."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlx.models.layers import Output, flatten_logits
from vlx.models.spec import spec_of


class Ensemble(PreTrainedModel):
    """The mean of the members' logits, for each answer over the members that know it; -inf where none does.

    answer_indices: for each member, the index of every answer of the task in its own logits, -1 if it lacks the
    answer; None: its answers are the task's, in order.
    """

    _supports_sdpa = True

    def __init__(self, members: Sequence[PreTrainedModel], answer_indices: Sequence[Sequence[int] | None]) -> None:
        super().__init__(members[0].config)
        self.members = nn.ModuleList(members)
        self.spec = dataclasses.replace(spec_of(members[0]), dual_encoder=False)  # its logits are of pairs
        for number, indices in enumerate(answer_indices):
            self.register_buffer(f"answer_indices_{number}", None if indices is None else torch.tensor(indices))

    @property
    def first(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.members[0])

    def forward(self, batch: dict[str, Tensor], **options: bool) -> Output:
        """The first member's output with the logits [B,A] of all."""
        outputs = [member(batch, **options) for member in self.members]
        logits = [
            reordered(flatten_logits(output.logits, batch), getattr(self, f"answer_indices_{number}"))
            for number, output in enumerate(outputs)
        ]
        return dataclasses.replace(outputs[0], logits=mean_of_finite(torch.stack(logits)))


def reordered(logits: Tensor, indices: Tensor | None) -> Tensor:
    """[B,answers of the member] -> [B,A]; -inf where indices [A] are -1."""
    if indices is None:
        return logits
    return logits[:, indices.clamp(min=0)].masked_fill(indices < 0, -torch.inf)


def mean_of_finite(logits: Tensor) -> Tensor:
    """[M,B,A] -> [B,A], over the entries above -inf; divided before summing, since padding is the lowest number."""
    finite = logits > -torch.inf
    count = finite.sum(0)
    return (logits.masked_fill(~finite, 0.0) / count.clamp(min=1)).sum(0).masked_fill(count == 0, -torch.inf)
