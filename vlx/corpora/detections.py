"""ViLBERT's regions: the whole picture as one of them, and what they overlap (specs: ViLBERT 1.3, 3.3, 4.1)."""

import numpy as np

WHOLE = (0.0, 0.0, 1.0, 1.0)
HALF = 0.5  # overlap from which a region is what an expression means, in training


def with_global(features: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First the mean of the regions, its box the whole picture: [R,D] and [R,4] -> [R+1,D] and [R+1,4]."""
    mean = features.mean(0, keepdims=True, dtype=np.float32).astype(features.dtype)
    return np.concatenate([mean, features]), np.concatenate([np.array([WHOLE], boxes.dtype), boxes])


def overlaps(boxes: np.ndarray, others: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Intersection over union [N,K] of boxes [N,4] and [K,4] in 0..1 of a picture of width and height `size`.

    As the originals count: in pixels, the last of which belongs to the box.
    """
    pixels = np.array([*size, *size], np.float64)
    one, other = (boxes * pixels)[:, None], (others * pixels)[None]
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    common = (high - low + 1).clip(0).prod(-1)
    first, second = ((each[..., 2:] - each[..., :2] + 1).prod(-1) for each in (one, other))
    return common / (first + second - common)


def targets(boxes: np.ndarray, box: np.ndarray, size: tuple[int, int], *, least: float = HALF) -> np.ndarray:
    """How far each region [R,4] covers the box [4] that is meant, [R]; 0 where less than `least`."""
    found = overlaps(boxes, box[None], size)[:, 0]
    return np.where(found < least, 0, found)
