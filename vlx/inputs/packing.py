"""Text and regions on one sequence axis, padded once."""

import torch
from torch import Tensor


def joint_packing(text_lengths: Tensor, region_lengths: Tensor, tokens: int) -> Tensor:
    """Positions [M,L] of each text and then its regions on the axis of `tokens` + R positions; -1 is padding."""
    total = text_lengths + region_lengths
    slots = torch.arange(int(total.max())).expand(len(total), -1)
    texts = text_lengths[:, None]
    positions = torch.where(slots < texts, slots, slots - texts + tokens)
    return positions.masked_fill(slots >= total[:, None], -1)
