"""The pictures of pre-training as pixels: decoded by threads, in batches of one canvas (specs: CLIP-ViL b.3, c.2, c.3).

Otherwise than in the original: a picture that becomes a square is not cropped, since groups are of the sizes on the
canvas; every epoch has an order of its own; places are dropped in training alone; and a step's micro-batches are of one
epoch, where the original lets those that an epoch's end cuts off leak into the next.
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

from vlx.corpora import Corpus
from vlx.corpora.pixels import Size, aspect_groups, fit, grouped_batches, normalized, resized, stack
from vlx.errors import CorpusError
from vlx.models.clip_resnet import STRIDE

KEPT_BYTES = 1 << 30  # of decoded pictures, those last asked for
THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes outside Python's lock


class Canvases:
    """A corpus's pictures, each in the middle of a canvas."""

    def __init__(self, corpus: Corpus, *, shortest: int, longest: int) -> None:
        self.corpus, self.shortest, self.longest = corpus, shortest, longest
        self.pool = ThreadPoolExecutor(THREADS)
        self.canvas = lru_cache(max(1, KEPT_BYTES // (3 * shortest * longest)))(self.decode)

    def picture(self, image: str) -> Image.Image:
        """In its own mode, not decoded yet."""
        data = self.corpus.image_bytes(image)
        if data is None:
            raise CorpusError(
                f"{self.corpus.path}: image {image} has no picture, which this model reads. Prepare with pictures."
            )
        return Image.open(BytesIO(data))

    def decode(self, image: str) -> np.ndarray:
        return np.asarray(fit(self.picture(image), shortest=self.shortest, longest=self.longest))

    def pixels(self, images: Sequence[str]) -> Tensor:
        """[B,3,H,W] of pictures of one canvas."""
        return stack(list(self.pool.map(lambda image: normalized(self.canvas(image)), images)))

    def size(self, image: str) -> Size:
        """On the canvas."""
        width, height = self.corpus.image_size(image)
        size = (width, height) if width and height else self.picture(image).size
        return resized(size, shortest=self.shortest, longest=self.longest)


@dataclass(frozen=True)
class Pixels:
    """Pictures whose grid shows `kept` places; 0: all, as validation does. factor: of aspect_groups."""

    canvases: Canvases
    factor: int
    kept: int = 0

    @property
    def places(self) -> int:
        return self.canvases.shortest * self.canvases.longest // STRIDE**2

    def lengths(self, images: Sequence[str]) -> np.ndarray:
        return np.full(len(images), self.kept or self.places)

    def batch(self, images: Sequence[str], draws: Sequence[Random]) -> dict[str, Tensor]:
        """pixels [B,3,H,W], kept_places [B,kept]."""
        return {"pixels": self.canvases.pixels(images)} | self.places_kept(draws)

    def places_kept(self, draws: Sequence[Random]) -> dict[str, Tensor]:
        """kept_places [B,kept], or nothing where all are shown."""
        found = [rng.sample(range(self.places), self.kept) for rng in draws if self.kept]
        return {"kept_places": torch.tensor(found)} if found else {}

    def epoch_batches(
        self, images: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        """As many as there are full ones; what is left over, another in each epoch, is left out."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        batches = list(grouped_batches(order.tolist(), self.groups(images), batch_size=batch_size))
        if not batches:
            raise CorpusError(f"{self.canvases.corpus.path}: {len(images):,} examples, fewer than {batch_size=}.")
        return batches

    def ordered_batches(self, images: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        members = defaultdict[int, list[int]](list)
        for index, group in enumerate(self.groups(images)):
            members[group].append(index)
        return [
            rows[start : start + batch_size] for rows in members.values() for start in range(0, len(rows), batch_size)
        ]

    def groups(self, images: Sequence[str]) -> list[int]:
        names = list(dict.fromkeys(images))
        group = dict(zip(names, aspect_groups(map(self.canvases.size, names), factor=self.factor), strict=True))
        return [group[image] for image in images]
