"""What every kind of image input provides; `RegionInput` and `PixelInput` implement it."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

import numpy as np
from PIL import Image

from vlx.batch import Batch


class ImageInput(Protocol):
    """The image part of a batch: N images, one for each text, become tensors [N,...] by name."""

    def lengths(self, image_ids: Sequence[str]) -> np.ndarray:
        """Sequence positions of each image, [N]: examples of similar length share a batch."""
        ...

    def tensors(self, image_ids: Sequence[str], *, generators: Sequence[Random] | None = None) -> Batch:
        """generators: one for each image, in training; None in evaluation, where nothing is sampled."""
        ...

    def from_images(self, images: Sequence[Image.Image]) -> Batch:
        """The same tensors for images that are in no corpus."""
        ...

    def epoch_batches(
        self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        """Batches of an epoch, shuffled; as many in each epoch. lengths: of text and image, [examples]."""
        ...

    def ordered_batches(self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        """Every example once."""
        ...
