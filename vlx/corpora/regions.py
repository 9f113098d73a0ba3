"""The built-in detector, components-v1: regions of a picture of flat shapes, from its pixels and nothing else."""

import numpy as np
from PIL import Image
from scipy import ndimage

DETECTOR = "components-v1"
GRID = 4  # a region's crop is averaged to GRID x GRID cells
CROSS = ndimage.generate_binary_structure(2, 1)  # pixels that share a side are connected
REGION_DIM = 4 + 4 * GRID * GRID  # mean red green blue, fill; of every cell: red green blue and share of the shape
MAX_SIDE = 256  # larger pictures are shrunk first
MAX_REGIONS = 64
MAX_COLOURS = 12
MAX_CODES = 64  # coarse colours looked at
COLOUR_DISTANCE = 48  # of 255, in the channel that differs most: closer ones are one colour
MIN_PIXELS = 9  # smaller components are specks
MIN_THICKNESS = 2.5  # pixels / longer side; thinner ones are the fringe of an anti-aliased edge


def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Find the shapes of a picture, largest first: features [R,REGION_DIM] float32 in 0..1, boxes [R,4] xyxy in 0..1.

    A picture without any is one region: the whole.
    """
    pixels = to_pixels(image)
    height, width = pixels.shape[:2]
    found = components(pixels)
    if not found:
        found = [(0, 0, width, height, np.ones((height, width), bool))]
    found = sorted(found, key=lambda region: (-int(region[4].sum()), region[1], region[0]))[:MAX_REGIONS]
    boxes = np.array([region[:4] for region in found], np.float32) / np.array([width, height] * 2, np.float32)
    features = np.stack([describe(pixels[y1:y2, x1:x2], mask) for x1, y1, x2, y2, mask in found])
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


def components(pixels: np.ndarray) -> list[tuple[int, int, int, int, np.ndarray]]:
    """(x1, y1, x2, y2, mask of the crop) of every connected piece of one colour that is not the background."""
    nearest = colours(pixels)
    found = []
    pieces, _ = ndimage.label(nearest > 0, CROSS)  # of any colours; one colour is then sought in small crops
    for piece, (rows, columns) in enumerate(ndimage.find_objects(pieces), 1):
        inside = np.where(pieces[rows, columns] == piece, nearest[rows, columns], 0)
        for colour in np.flatnonzero(np.bincount(inside.ravel())[1:] >= MIN_PIXELS) + 1:
            labels, _ = ndimage.label(inside == colour, CROSS)
            for label, (down, across) in enumerate(ndimage.find_objects(labels), 1):
                mask = labels[down, across] == label
                if mask.sum() >= max(MIN_PIXELS, MIN_THICKNESS * max(mask.shape)):
                    x, y = columns.start + across.start, rows.start + down.start
                    found.append((x, y, x + mask.shape[1], y + mask.shape[0], mask))
    return found


def colours(pixels: np.ndarray) -> np.ndarray:
    """Number of each pixel's flat colour [height, width]: 0 = background (the most frequent), then by frequency."""
    coarse = pixels >> 4
    codes = coarse[..., 0] * np.uint16(256) | coarse[..., 1] << 4 | coarse[..., 2]  # 16 levels a channel -> 4,096 codes
    counts = np.bincount(codes.ravel(), minlength=4096)
    present = np.flatnonzero(counts)
    present = present[np.argsort(-counts[present], kind="stable")]
    values = np.stack([present >> 8, present >> 4 & 15, present & 15], 1) << 4  # [codes,3] in 0..240
    frequent = values[: max(1, min(MAX_CODES, int((counts >= MIN_PIXELS).sum())))]
    alike = (np.abs(frequent[:, None] - frequent[None]).max(2) < COLOUR_DISTANCE).tolist()
    chosen: list[int] = []
    for code, row in enumerate(alike):
        if not any(row[other] for other in chosen):
            chosen.append(code)
    palette = frequent[chosen[: MAX_COLOURS + 1]]
    nearest = np.zeros(4096, np.int32)
    nearest[present] = ((values[:, None] - palette[None]) ** 2).sum(2).argmin(1)
    return nearest.take(codes)


def describe(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A region's feature vector [REGION_DIM] from its crop [h,w,3] and the shape's pixels [h,w]."""
    shape, steps = mask[..., None].astype(np.float32), np.arange(GRID)
    grid = np.concatenate([crop * shape * np.float32(1 / 255), shape], 2)  # [h,w,4] -> [GRID,GRID,4]
    for axis in (0, 1):  # average over cells; where a side is shorter than GRID, pixels repeat
        side = mask.shape[axis]
        starts = steps * side // GRID
        counts = np.maximum((steps + 1) * side // GRID - starts, 1).astype(np.float32)
        grid = np.add.reduceat(grid, starts, axis) / (counts[:, None, None] if axis == 0 else counts[:, None])
    return np.concatenate([crop[mask].mean(0) / 255, [mask.mean()], grid.ravel()]).astype(np.float32)
