import numpy as np
import pytest

from vlx.corpora.detections import overlaps, targets, with_global

FEATURES = np.array([[1, 2], [3, 6]], np.float16)
BOXES = np.array([[0, 0, 0.5, 0.5], [0.4, 0, 0.9, 0.5]], np.float32)
SIZE = (10, 20)  # boxes of 5 x 10 pixels, or 6 x 11 with the last of each side


def test_the_global_region_is_the_mean_and_the_whole_picture() -> None:
    features, boxes = with_global(FEATURES, BOXES)
    assert features.tolist() == [[2, 4], [1, 2], [3, 6]] and features.dtype == np.float16
    assert boxes[0].tolist() == [0, 0, 1, 1] and np.array_equal(boxes[1:], BOXES) and boxes.dtype == np.float32


def test_the_last_pixel_belongs_to_a_box() -> None:
    """x 0..5 and 4..9 share the pixels 4 and 5: 2 x 11 of them, of 6 x 11 each."""
    shared = 2 * 11 / (2 * 6 * 11 - 2 * 11)
    assert np.allclose(overlaps(BOXES, BOXES, SIZE), [[1, shared], [shared, 1]])


def test_boxes_apart_and_without_area() -> None:
    far, point = [[0.9, 0.9, 1, 1]], np.array([[0.2, 0.2, 0.2, 0.2]], np.float32)
    assert overlaps(BOXES, np.array(far, np.float32), SIZE).tolist() == [[0], [0]]
    assert overlaps(point, point, SIZE).tolist() == [[1]], "one pixel"
    assert overlaps(BOXES, BOXES[:0], SIZE).shape == (2, 0)


@pytest.mark.parametrize(("least", "expected"), [(0.5, [1, 0]), (0, [1, 0.2])])
def test_a_region_that_covers_little_is_no_target(least: float, expected: list[float]) -> None:
    assert np.allclose(targets(BOXES, BOXES[0], SIZE, least=least), expected)
