"""Intersection over union of boxes, in both conventions of the field."""

import numpy as np
import torch
from torch import Tensor

SMALLEST_UNION = 1e-12  # avoids 0 / 0 of two boxes without area


def iou(boxes: Tensor, other_boxes: Tensor, *, last_pixel: float = 0.0) -> Tensor:
    """Boxes [...,N,4] and [...,K,4] of x1 y1 x2 y2 -> [...,N,K]; 0 where both have no area.

    last_pixel: added to every side. 0: continuous coordinates, x2 is where the box ends. 1: coordinates in pixels, of
    which x2 is the last one inside the box.
    """
    low = torch.maximum(boxes[..., :, None, :2], other_boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], other_boxes[..., None, :, 2:])
    shared = (high - low + last_pixel).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2] + last_pixel).prod(-1)
    other_area = (other_boxes[..., 2:] - other_boxes[..., :2] + last_pixel).prod(-1)
    return shared / (area[..., :, None] + other_area[..., None, :] - shared).clamp(min=SMALLEST_UNION)


def pixel_iou(boxes: np.ndarray, other_boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [N,4] and [K,4] in 0..1 of an image of (width, height) pixels -> [N,K], with the last pixel inside the box
    (ViLBERT multi-task, vilbert/datasets/refer_expression_dataset.py and concept_cap_dataset.py)."""
    scale = torch.tensor([*size, *size], dtype=torch.float64)
    return iou(torch.tensor(boxes) * scale, torch.tensor(other_boxes) * scale, last_pixel=1.0).numpy()
