"""Images as CLIP-ViL reads them: resized into a frame, normalised, batched by aspect ratio (CLIP-ViL,
CLIP-ViL-Pretrain/src/lxrt/visual_transformers.py and tasks/vqa_data.py).

A Size is (width, height); tensors are (..., height, width).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of red, green and blue in 0..1, over CLIP's training images
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class ImageProcessor:
    """Frame sides in pixels, by default those of CLIP-ViL."""

    image_min_size: int = 384
    image_max_size: int = 640

    def resized_size(self, size: Size) -> Size:
        """The size at which an image of this size fits the frame. The original rounds so that image_max_size may be
        missed by one pixel, either way."""
        low, high = min(size), max(size)
        too_long = high / low * self.image_min_size > self.image_max_size
        short_side = max(1, round(self.image_max_size * low / high)) if too_long else self.image_min_size
        if low == short_side:
            return size
        long_side = int(short_side * high / low)
        return (short_side, long_side) if size[0] < size[1] else (long_side, short_side)

    def frame_size(self, size: Size) -> Size:
        """Portrait for an image that is not wider than high, a square included."""
        portrait = size[0] <= size[1]
        return (self.image_min_size, self.image_max_size) if portrait else (self.image_max_size, self.image_min_size)

    def fit(self, image: Image.Image) -> Image.Image:
        """The RGB image resized (bilinear) into the middle of a black frame."""
        size = self.resized_size(image.size)
        resized = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        frame = Image.new("RGB", self.frame_size(size))
        frame.paste(resized.convert("RGB"), offset(size, frame.size))
        return frame

    def pixels(self, image: Image.Image) -> Tensor:
        """[3,H,W] of the frame, normalised after padding: the margin is not zero, and the model attends to it."""
        return normalized(np.array(self.fit(image)))


def offset(size: Size, frame: Size) -> Size:
    """Left upper corner of an image in the middle of a frame. An odd pixel of margin is on the left and upper side; an
    image too long by one pixel loses its last."""
    width, height = frame[0] - size[0], frame[1] - size[1]
    return (width - width // 2, height - height // 2)


def normalized(rows: np.ndarray) -> Tensor:
    """An RGB image [H,W,3] of bytes as [3,H,W], each channel of mean 0 and deviation 1 over CLIP's images."""
    values = torch.tensor(rows).permute(2, 0, 1).float() / 255  # [H,W,3] -> [3,H,W]
    return (values - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def stack(images: Sequence[Tensor]) -> Tensor:
    """Images [3,H,W] -> [B,3,H,W] of the first one's shape; a larger image is cropped on the right and below, a smaller
    one is padded with zeros. Batches of one aspect group need neither. Memory format is channels last."""
    height, width = images[0].shape[1:]
    batch = images[0].new_zeros(len(images), height, width, 3).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        part = image[:, :height, :width]
        row[:, : part.shape[1], : part.shape[2]] = part
    return batch


def aspect_groups(sizes: Iterable[Size], *, factor: int) -> list[int]:
    """An image's group by height / width: split at 1, or for factor k > 0 at 2k+1 ratios from 1/2 to 2, evenly on a
    logarithmic scale; a square counts as portrait.

    With original sizes, as in CLIP-ViL, an image of 641 x 640 is in a landscape group though its frame is portrait;
    with resized sizes every group has one frame.
    """
    edges = (2 ** np.linspace(-1, 1, 2 * factor + 1)).tolist() if factor else [1.0]
    return [bisect_right(edges, height / width) for width, height in sizes]


def grouped_batches(
    order: Sequence[int], groups: Sequence[int], *, batch_size: int, exhaustive: bool = False
) -> Iterator[list[int]]:
    """Batches of one group each, floor(n / batch_size) of them, as they fill up in the given order.

    The last ones are filled with earlier examples of their group, the fullest first; examples left over are dropped,
    or with `exhaustive` come last, each alone.
    """
    members = dict[int, list[int]]()
    pending = dict[int, list[int]]()
    full = 0
    for index in order:
        group = groups[index]
        members.setdefault(group, []).append(index)
        pending.setdefault(group, []).append(index)
        if len(pending[group]) == batch_size:
            yield pending.pop(group)
            pending[group] = []  # moves to the end: among equally full groups the longest pending comes first
            full += 1
    missing = len(order) // batch_size - full
    ranked = sorted(pending, key=lambda group: -len(pending[group]))
    for group in ranked[:missing]:
        lacking = batch_size - len(pending[group])
        repeated = members[group] * -(-lacking // len(members[group]))
        yield pending[group] + repeated[:lacking]
    dropped = {index for group in ranked[missing:] for index in pending[group]}
    yield from ([index] for index in order if exhaustive and index in dropped)
