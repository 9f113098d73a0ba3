"""Pictures as pixel models read them: one canvas a batch, batches of pictures of like shape (specs: CLIP-ViL c).

A picture's shape is (width, height), a tensor's (..., height, width).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SHORTEST, LONGEST = 384, 640  # sides of CLIP-ViL's canvas
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of red, green and blue in 0..1, for CLIP's own training pictures
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
Size = tuple[int, int]  # width, height


class Canvas(NamedTuple):
    """How a model sees pictures; by default as published for VQA (specs: CLIP-ViL c.2, d.1)."""

    shortest: int = SHORTEST
    longest: int = LONGEST
    aspect_groups: int = 0


def canvas_of(told: Mapping[str, Any]) -> Canvas:
    """What options, or a model's meta, tell of it."""
    return Canvas(**{name: told[name] for name in Canvas._fields if name in told})


def resized(size: Size, *, shortest: int = SHORTEST, longest: int = LONGEST) -> Size:
    """The size at which a picture of this size fits the canvas. Rounding as the original's: `longest` may be missed by
    one, either way."""
    low, high = min(size), max(size)
    side = max(1, round(longest * low / high)) if high / low * shortest > longest else shortest
    if low == side:
        return size
    other = int(side * high / low)
    return (side, other) if size[0] < size[1] else (other, side)


def canvas(size: Size, *, shortest: int = SHORTEST, longest: int = LONGEST) -> Size:
    """Upright for a picture that is not wider than high, a square included."""
    return (shortest, longest) if size[0] <= size[1] else (longest, shortest)


def offset(size: Size, frame: Size) -> Size:
    """Where a picture's left upper corner lies in the middle of a frame. An odd pixel of margin is on the left and
    upper side; what is too long by one loses its last pixel."""
    room = (frame[0] - size[0], frame[1] - size[1])
    return (room[0] - room[0] // 2, room[1] - room[1] // 2)


def fit(picture: Image.Image, *, shortest: int = SHORTEST, longest: int = LONGEST) -> Image.Image:
    """The RGB picture resized (bilinear) into the middle of a black canvas."""
    size = resized(picture.size, shortest=shortest, longest=longest)
    small = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
    frame = Image.new("RGB", canvas(size, shortest=shortest, longest=longest))
    frame.paste(small.convert("RGB"), offset(size, frame.size))
    return frame


def normalized(rows: np.ndarray) -> Tensor:
    """An RGB picture [H,W,3] of bytes as [3,H,W], each channel of mean 0 and deviation 1 over CLIP's pictures."""
    values = torch.tensor(rows).permute(2, 0, 1).float() / 255  # [H,W,3] -> [3,H,W]
    return (values - torch.tensor(CLIP_MEAN)[:, None, None]) / torch.tensor(CLIP_STD)[:, None, None]


def pixels(picture: Image.Image, *, shortest: int = SHORTEST, longest: int = LONGEST) -> Tensor:
    """[3,H,W] of the canvas, normalised after padding: black margins are not zero. The model sees them as picture."""
    return normalized(np.array(fit(picture, shortest=shortest, longest=longest)))


def stack(images: Sequence[Tensor]) -> Tensor:
    """Images [3,H,W] -> [B,3,H,W] of the first one's shape; others lose what lies outside on the right and below, and
    are filled with zeros. Group by `aspect_groups` so that none does. The channels of a pixel lie side by side, as in
    the decoded picture."""
    height, width = images[0].shape[1:]
    batch = images[0].new_zeros(len(images), height, width, 3).permute(0, 3, 1, 2)
    for row, image in zip(batch, images, strict=True):
        part = image[:, :height, :width]
        row[:, : part.shape[1], : part.shape[2]] = part
    return batch


def aspect_groups(sizes: Iterable[Size], *, factor: int) -> list[int]:
    """A picture's group by height / width: parted at 1, or for factor k > 0 at 2k+1 ratios from 1/2 to 2, evenly on a
    logarithmic scale; a square is among the upright.

    Of the original sizes, as CLIP-ViL does, a picture like 641 x 640 is among the wide, though its canvas is upright;
    of `resized` sizes every group has one canvas.
    """
    edges = (2 ** np.linspace(-1, 1, 2 * factor + 1)).tolist() if factor else [1.0]
    return [bisect_right(edges, height / width) for width, height in sizes]


def grouped_batches(
    order: Sequence[int], groups: Sequence[int], *, batch_size: int, exhaustive: bool = False
) -> Iterator[list[int]]:
    """Batches each of one group, floor(n / batch_size) of them, as they fill up in the given order.

    The last ones are filled with their group's earlier examples, the fullest first; examples still left over are
    dropped, or with `exhaustive` come last, each alone.
    """
    seen, waiting = dict[int, list[int]](), dict[int, list[int]]()
    full = 0
    for index in order:
        group = groups[index]
        seen.setdefault(group, []).append(index)
        waiting.setdefault(group, []).append(index)
        if len(waiting[group]) == batch_size:
            yield waiting.pop(group)
            waiting[group] = []  # behind the others: of equally full ones, who waits longest comes first
            full += 1
    short = len(order) // batch_size - full
    ranked = sorted(waiting, key=lambda group: -len(waiting[group]))
    for group in ranked[:short]:
        lacking = batch_size - len(waiting[group])
        repeated = seen[group] * -(-lacking // len(seen[group]))
        yield waiting[group] + repeated[:lacking]
    left = {index for group in ranked[short:] for index in waiting[group]}
    yield from ([index] for index in order if exhaustive and index in left)
