"""Models that answer as one, each in its own order of answers."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vlx.models.layers import Output, by_example


class Ensemble(PreTrainedModel):
    """The mean of the members' logits, of each answer over the members that know it; -inf where none does.

    places: for each member where it keeps each answer, -1 what it does not know; None: it has all, in this order.
    """

    _supports_sdpa = True

    def __init__(self, members: Sequence[PreTrainedModel], places: Sequence[Sequence[int] | None]) -> None:
        super().__init__(members[0].config)
        self.members = nn.ModuleList(members)
        for number, place in enumerate(places):
            self.register_buffer(f"places_{number}", None if place is None else torch.tensor(place))

    @property
    def first(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.members[0])

    def forward(self, batch: dict[str, Tensor], **options: bool) -> Output:
        """The first member's output with the logits [B,A] of all."""
        outputs = [member(batch, **options) for member in self.members]
        rows = [by_example(one.logits, batch) for one in outputs]
        logits = [in_order(row, getattr(self, f"places_{number}")) for number, row in enumerate(rows)]
        return dataclasses.replace(outputs[0], logits=mean_of_known(torch.stack(logits)))


def in_order(logits: Tensor, place: Tensor | None) -> Tensor:
    """[B,own answers] -> [B,A]; -inf where place [A] is -1."""
    if place is None:
        return logits
    return logits[:, place.clamp(min=0)].masked_fill(place < 0, -torch.inf)


def mean_of_known(logits: Tensor) -> Tensor:
    """[M,B,A] -> [B,A], over those that are not -inf; divided first, since padding is the least number there is."""
    known = logits > -torch.inf
    count = known.sum(0)
    return (logits.masked_fill(~known, 0.0) / count.clamp(min=1)).sum(0).masked_fill(count == 0, -torch.inf)
