"""The built-in detector, components-v1: regions of an image of flat shapes, from its pixels alone."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

DETECTOR = "components-v1"
GRID = 4  # a region's crop is averaged to GRID x GRID cells
CROSS = ndimage.generate_binary_structure(2, 1)  # pixels that share a side are connected
REGION_DIM = 4 + 4 * GRID * GRID  # mean red green blue, fill; of every cell: red green blue and share of the shape
MAX_SIDE = 256  # larger images are shrunk first
MAX_REGIONS = 64
MAX_COLORS = 12
MAX_CODES = 64  # coarse colors compared
COLOR_DISTANCE = 48  # of 255, in the channel that differs most: closer colors are merged
MIN_PIXELS = 9  # smaller components are specks
MIN_THICKNESS = 2.5  # pixels / longer side; thinner components are the fringe of an anti-aliased edge


class Component(NamedTuple):
    """A connected piece of one color. Corners in pixels; mask: the piece's pixels within these [y2-y1,x2-x1]."""

    x1: int
    y1: int
    x2: int
    y2: int
    mask: np.ndarray


def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Find the shapes of an image, largest first: features [R,REGION_DIM] float32 in 0..1, boxes [R,4] xyxy in 0..1.

    An image without shapes is one region: the whole.
    """
    pixels = to_pixels(image)
    height, width = pixels.shape[:2]
    shapes = components(pixels) or [Component(0, 0, width, height, np.ones((height, width), bool))]
    shapes = sorted(shapes, key=lambda shape: (-int(shape.mask.sum()), shape.y1, shape.x1))[:MAX_REGIONS]
    boxes = np.array([shape[:4] for shape in shapes], np.float32) / np.array([width, height] * 2, np.float32)
    crops = [pixels[shape.y1 : shape.y2, shape.x1 : shape.x2] for shape in shapes]
    features = np.stack([describe(crop, shape.mask) for crop, shape in zip(crops, shapes, strict=True)])
    return features, boxes


def to_pixels(image: Image.Image) -> np.ndarray:
    """[height, width, 3] uint8; transparency over white."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    return np.asarray(image)


def components(pixels: np.ndarray) -> list[Component]:
    """Every connected piece of one color that is not the background."""
    color_of = color_numbers(pixels)
    shapes = []
    pieces, _ = ndimage.label(color_of > 0, CROSS)  # of any colors; single colors are then searched in small crops
    for piece, (rows, columns) in enumerate(ndimage.find_objects(pieces), 1):
        crop = np.where(pieces[rows, columns] == piece, color_of[rows, columns], 0)
        for color in np.flatnonzero(np.bincount(crop.ravel())[1:] >= MIN_PIXELS) + 1:
            labels, _ = ndimage.label(crop == color, CROSS)
            for label, (down, across) in enumerate(ndimage.find_objects(labels), 1):
                mask = labels[down, across] == label
                if mask.sum() >= max(MIN_PIXELS, MIN_THICKNESS * max(mask.shape)):
                    x, y = columns.start + across.start, rows.start + down.start
                    shapes.append(Component(x, y, x + mask.shape[1], y + mask.shape[0], mask))
    return shapes


def color_numbers(pixels: np.ndarray) -> np.ndarray:
    """Number of each pixel's flat color [height, width]: 0 = background (the most frequent), then by frequency."""
    coarse = pixels >> 4
    codes = coarse[..., 0] * np.uint16(256) | coarse[..., 1] << 4 | coarse[..., 2]  # 16 levels a channel: 4,096 codes
    counts = np.bincount(codes.ravel(), minlength=4096)
    present = np.flatnonzero(counts)
    present = present[np.argsort(-counts[present], kind="stable")]
    values = np.stack([present >> 8, present >> 4 & 15, present & 15], 1) << 4  # [codes,3] in 0..240
    frequent = values[: max(1, min(MAX_CODES, int((counts >= MIN_PIXELS).sum())))]
    palette = distinct_colors(frequent)[: MAX_COLORS + 1]
    nearest = np.zeros(4096, np.int32)
    nearest[present] = ((values[:, None] - palette[None]) ** 2).sum(2).argmin(1)
    return nearest.take(codes)


def distinct_colors(values: np.ndarray) -> np.ndarray:
    """The colors [N,3] without those that are too close to an earlier chosen one."""
    is_close = (np.abs(values[:, None] - values[None]).max(2) < COLOR_DISTANCE).tolist()
    chosen: list[int] = []
    for index, row in enumerate(is_close):
        if not any(row[earlier] for earlier in chosen):
            chosen.append(index)
    return values[chosen]


def describe(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A region's feature vector [REGION_DIM] from its crop [h,w,3] and the shape's pixels [h,w]."""
    shape = mask[..., None].astype(np.float32)
    steps = np.arange(GRID)
    grid = np.concatenate([crop * shape * np.float32(1 / 255), shape], 2)  # [h,w,4] -> [GRID,GRID,4]
    for axis in (0, 1):  # average over cells; where a side is shorter than GRID, pixels repeat
        length = mask.shape[axis]
        first = steps * length // GRID
        counts = np.maximum((steps + 1) * length // GRID - first, 1).astype(np.float32)
        grid = np.add.reduceat(grid, first, axis) / (counts[:, None, None] if axis == 0 else counts[:, None])
    return np.concatenate([crop[mask].mean(0) / 255, [mask.mean()], grid.ravel()]).astype(np.float32)
