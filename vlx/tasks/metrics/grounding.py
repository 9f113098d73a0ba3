"""Overlap of boxes, x1 y1 x2 y2."""

import torch
from torch import Tensor

IOU_THRESHOLD = 0.5  # a predicted box above it is correct; a region below it is no target


def box_iou(boxes: Tensor, regions: Tensor) -> Tensor:
    """Intersection over union of every box [B,C,4] with every region [B,R,4] -> [B,C,R]; 0 where both are empty."""
    low = torch.maximum(boxes[:, :, None, :2], regions[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], regions[:, None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = box_area(boxes)[:, :, None] + box_area(regions)[:, None] - intersection
    return intersection / union.clamp(min=1e-12)


def box_area(boxes: Tensor) -> Tensor:
    """[...,4] -> [...]."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
