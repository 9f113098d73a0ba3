"""Region features as image input."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlx.batch import Batch
from vlx.corpora.writer import Detect
from vlx.inputs.sampler import epoch_batches, sorted_batches


class RegionSource(Protocol):
    """Where regions come from: a corpus, or InMemoryRegions."""

    region_dim: int

    def regions(self, image_id: str) -> tuple[np.ndarray, np.ndarray]: ...
    def num_regions(self, image_id: str) -> int: ...
    def tags(self, image_id: str) -> list[str]: ...


class InMemoryRegions:
    """Regions of a few images by id: features [R,D] and boxes [R,4]."""

    def __init__(self, regions: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self._regions = regions
        self.region_dim = next(iter(regions.values()))[0].shape[1]

    def image_ids(self) -> list[str]:
        return list(self._regions)

    def regions(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        return self._regions[image_id]

    def num_regions(self, image_id: str) -> int:
        return len(self._regions[image_id][1])

    def tags(self, image_id: str) -> list[str]:
        """None are known."""
        return []


@dataclass(frozen=True)
class RegionInput:
    """The first `max_regions` regions of each image, in the detector's order. detect: for images in no corpus."""

    source: RegionSource
    max_regions: int
    detect: Detect | None = None

    def lengths(self, image_ids: Sequence[str]) -> np.ndarray:
        counts = {name: min(self.source.num_regions(name), self.max_regions) for name in dict.fromkeys(image_ids)}
        return np.array([counts[name] for name in image_ids])

    def tensors(self, image_ids: Sequence[str], *, generators: Sequence[Random] | None = None) -> Batch:
        """regions [N,R,D], boxes [N,R,4], region_mask [N,R]."""
        arrays = {name: self.arrays(name) for name in dict.fromkeys(image_ids)}
        return region_tensors([arrays[name] for name in image_ids])

    def arrays(self, image_id: str) -> dict[str, np.ndarray]:
        """regions [R,D] and boxes [R,4] of one image."""
        features, boxes = self.source.regions(image_id)
        return {"regions": features[: self.max_regions], "boxes": boxes[: self.max_regions]}

    def from_images(self, images: Sequence[Image.Image]) -> Batch:
        if self.detect is None:
            raise RuntimeError("this input has no detector.")
        regions = {str(number): self.detect(image) for number, image in enumerate(images)}
        return RegionInput(InMemoryRegions(regions), self.max_regions).tensors(list(regions))

    def epoch_batches(
        self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        return epoch_batches(lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, image_ids: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        return sorted_batches(lengths, batch_size)


def region_tensors(rows: Sequence[dict[str, np.ndarray]]) -> Batch:
    """Arrays [R,...] by name for each image -> tensors [N,R,...], zeros at padding, and region_mask [N,R]."""
    counts = torch.tensor([len(row["boxes"]) for row in rows])
    width = int(counts.max())
    batch = {name: stacked([row[name] for row in rows], width) for name in rows[0]}
    return batch | {"region_mask": torch.arange(width) < counts[:, None]}


def stacked(rows: Sequence[np.ndarray], width: int) -> Tensor:
    """[N,width,...]; floating-point numbers become fp32 (torch converts fp16 faster than numpy)."""
    dtype = np.result_type(*{row.dtype for row in rows})
    values = np.zeros((len(rows), width, *rows[0].shape[1:]), dtype)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
    tensor = torch.from_numpy(values)
    return tensor.float() if tensor.is_floating_point() else tensor
