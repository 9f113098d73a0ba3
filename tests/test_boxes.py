"""Intersection over union, worked out by hand."""

import numpy as np
import torch

from vlx.boxes import iou, pixel_iou

BOXES = np.array([[0, 0, 0.5, 0.5], [0.4, 0, 0.9, 0.5]], np.float32)
SIZE = (10, 20)  # boxes of 5 x 10 pixels, or 6 x 11 with the last of each side


def test_continuous_boxes_share_what_is_inside_both() -> None:
    """x 0..2 and 1..3 of height 1 share 1 of 3; a box without area shares nothing."""
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1], [5, 5, 5, 5]])
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]])
    assert torch.allclose(iou(boxes, boxes), expected)
    assert torch.allclose(iou(boxes[None], boxes[None, :2]), expected[None, :, :2])


def test_the_last_pixel_belongs_to_a_box() -> None:
    """x 0..5 and 4..9 share the pixels 4 and 5: 2 x 11 of them, of 6 x 11 each."""
    shared = 2 * 11 / (2 * 6 * 11 - 2 * 11)
    assert np.allclose(pixel_iou(BOXES, BOXES, SIZE), [[1, shared], [shared, 1]])


def test_boxes_apart_and_without_area_in_pixels() -> None:
    far = np.array([[0.9, 0.9, 1, 1]], np.float32)
    point = np.array([[0.2, 0.2, 0.2, 0.2]], np.float32)
    assert pixel_iou(BOXES, far, SIZE).tolist() == [[0], [0]]
    assert pixel_iou(point, point, SIZE).tolist() == [[1]], "one pixel"
    assert pixel_iou(BOXES, BOXES[:0], SIZE).shape == (2, 0)
