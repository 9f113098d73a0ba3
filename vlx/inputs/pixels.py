"""Pixels as image input: images decoded by threads, in batches of one frame (CLIP-ViL,
CLIP-ViL-Pretrain/src/pretrain/lxmert_data.py).

Unlike the original: an image that becomes a square is not cropped, since groups are made of resized sizes; every epoch
has its own order; grid features are sampled in training alone; the micro-batches of a step are of one epoch, where the
original lets those that an epoch's end cuts off leak into the next.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlx.batch import Batch
from vlx.corpora import Corpus
from vlx.errors import CorpusError
from vlx.inputs.image_processor import ImageProcessor, Size, aspect_groups, grouped_batches, normalized, stack
from vlx.inputs.sampler import shuffled
from vlx.models.clip_resnet import STRIDE

CACHE_BYTES = 1 << 30  # of decoded images, the most recently used
THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes outside Python's lock


class DecodedImages:
    """A corpus's images as framed RGB arrays."""

    def __init__(self, corpus: Corpus, processor: ImageProcessor) -> None:
        self.corpus, self.processor = corpus, processor
        self.pool = ThreadPoolExecutor(THREADS)
        frame_bytes = 3 * processor.image_min_size * processor.image_max_size
        self.frame = lru_cache(max(1, CACHE_BYTES // frame_bytes))(self.decode)

    def open(self, image_id: str) -> Image.Image:
        """In the file's own mode, not decoded yet. Raises CorpusError."""
        data = self.corpus.image_bytes(image_id)
        if data is None:
            raise CorpusError(
                f"{self.corpus.path}: image {image_id} has no pixels, which this model reads. Prepare with images."
            )
        return Image.open(BytesIO(data))

    def decode(self, image_id: str) -> np.ndarray:
        return np.asarray(self.processor.fit(self.open(image_id)))

    def pixels(self, image_ids: Sequence[str]) -> Tensor:
        """[N,3,H,W] of images of one frame."""
        return stack(list(self.pool.map(lambda name: normalized(self.frame(name)), image_ids)))

    def resized_size(self, image_id: str) -> Size:
        width, height = self.corpus.image_size(image_id)
        size = (width, height) if width and height else self.open(image_id).size
        return self.processor.resized_size(size)


@dataclass(frozen=True)
class PixelInput:
    """sampled_grid_features: grid cells that training sees, sampled for each example; 0: all. factor: of
    image_processor.aspect_groups."""

    images: DecodedImages
    factor: int
    sampled_grid_features: int = 0

    @property
    def grid_features(self) -> int:
        """Cells of an image's grid."""
        processor = self.images.processor
        return processor.image_min_size * processor.image_max_size // STRIDE**2

    def lengths(self, image_ids: Sequence[str]) -> np.ndarray:
        return np.full(len(image_ids), self.sampled_grid_features or self.grid_features)

    def tensors(self, image_ids: Sequence[str], *, generators: Sequence[Random] | None = None) -> Batch:
        """pixels [N,3,H,W]; in training, sampled_grid_features [N,K] if not all are seen."""
        batch = {"pixels": self.images.pixels(image_ids)}
        if generators and self.sampled_grid_features:
            cells = range(self.grid_features)
            rows = [generator.sample(cells, self.sampled_grid_features) for generator in generators]
            batch["sampled_grid_features"] = torch.tensor(rows)
        return batch

    def from_images(self, images: Sequence[Image.Image]) -> Batch:
        return {"pixels": torch.stack([self.images.processor.pixels(image) for image in images])}

    def epoch_batches(
        self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        """floor(n / batch_size) batches; the examples left over, different in each epoch, are dropped."""
        order, _ = shuffled(len(image_ids), seed=seed, epoch=epoch)
        batches = list(grouped_batches(order, self.groups(image_ids), batch_size=batch_size))
        if not batches:
            raise CorpusError(f"{self.images.corpus.path}: {len(image_ids):,} examples, fewer than {batch_size=}.")
        return batches

    def ordered_batches(self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        members = defaultdict[int, list[int]](list)
        for index, group in enumerate(self.groups(image_ids)):
            members[group].append(index)
        return [
            rows[start : start + batch_size] for rows in members.values() for start in range(0, len(rows), batch_size)
        ]

    def groups(self, image_ids: Sequence[str]) -> list[int]:
        """The aspect group of each image."""
        names = list(dict.fromkeys(image_ids))
        sizes = map(self.images.resized_size, names)
        group = dict(zip(names, aspect_groups(sizes, factor=self.factor), strict=True))
        return [group[name] for name in image_ids]
