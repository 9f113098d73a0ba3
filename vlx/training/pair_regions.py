"""The regions of pre-training's pictures: hidden as each system hides them, with what the detector said of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from vlx.boxes import pixel_iou
from vlx.corpora import Corpus
from vlx.objectives.masking import exchange_regions, hide_regions
from vlx.objectives.vilbert import draw_negatives
from vlx.training.batching import epoch_batches, sorted_batches

Batch = dict[str, Tensor]
ANY_SIZE = (1_000, 1_000)  # of a picture of which the source does not tell
DETECTED = {"objects": ("objects_id", "objects_conf"), "attributes": ("attrs_id", "attrs_conf")}


@dataclass(frozen=True)
class Regions:
    """Of LXMERT, ViLBERT or Oscar, which hides none."""

    corpus: Corpus
    system: str
    images: list[str]  # whose regions stand in for hidden ones
    max_regions: int
    share: float = 0.0  # of regions that are to be guessed
    visual_target: int = 0  # of ViLBERT
    classes: int = 0  # of its target 0
    negatives: int = 0  # of its target 2

    def lengths(self, images: Sequence[str]) -> np.ndarray:
        counts = {image: min(self.corpus.num_regions(image), self.max_regions) for image in dict.fromkeys(images)}
        return np.array([counts[image] for image in images])

    def epoch_batches(
        self, images: Sequence[str], lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int
    ) -> list[list[int]]:
        return epoch_batches(lengths, batch_size, seed=seed, epoch=epoch)

    def ordered_batches(self, images: Sequence[str], lengths: np.ndarray, batch_size: int) -> list[list[int]]:
        return sorted_batches(lengths, batch_size)

    def batch(self, images: Sequence[str], draws: Sequence[Random]) -> Batch:
        """regions [B,R,D], boxes [B,R,4], region_mask [B,R]; where the system guesses regions, masked_regions [B,R] and
        region_targets [B,R,D or C]; and LXMERT's labels of regions, or ViLBERT's counted_mask and negatives."""
        hide = {"lxmert": self.hide_like_words, "vilbert": self.hide_overlapping}.get(self.system, self.read)
        rows = [hide(image, rng) for image, rng in zip(images, draws, strict=True)]
        counts = torch.tensor([len(row["boxes"]) for row in rows])
        batch = {name: stacked([row[name] for row in rows], int(counts.max())) for name in rows[0]}
        batch["region_mask"] = torch.arange(int(counts.max())) < counts[:, None]
        for name in DETECTED:
            label = f"{name.removesuffix('s')}_labels"
            if label in batch:
                batch[label] = batch[label].long().masked_fill(~batch["region_mask"], -1)
        if self.system == "vilbert" and self.visual_target == 2:
            drawn = torch.Generator().manual_seed(draws[0].getrandbits(62))  # they are others' of this batch
            batch["negatives"] = draw_negatives(batch["region_mask"], self.negatives, drawn)
        return batch

    def read(self, image: str, rng: Random) -> dict[str, np.ndarray]:
        features, boxes = (rows[: self.max_regions] for rows in self.corpus.regions(image))
        return {"regions": features, "boxes": boxes}

    def hide_like_words(self, image: str, rng: Random) -> dict[str, np.ndarray]:
        """LXMERT: cleared, or exchanged for a region of any picture, or left; the target is what it was."""
        row, fields = self.read(image, rng), self.corpus.fields(image)
        hidden = exchange_regions(len(row["boxes"]), rng, share=self.share)
        features = np.array(row["regions"])
        features[hidden.cleared] = 0
        for place in hidden.exchanged.nonzero()[0]:
            others = self.read(self.images[rng.randrange(len(self.images))], rng)["regions"]
            features[place] = others[rng.randrange(len(others))]
        row |= {"regions": features, "region_targets": row["regions"], "masked_regions": hidden.guessed}
        for name, (ids, confidences) in DETECTED.items():
            if ids in fields:
                kind = name.removesuffix("s")
                row[f"{kind}_labels"] = fields[ids][: self.max_regions]
                row[f"{kind}_confidences"] = fields[confidences][: self.max_regions]
        return row

    def hide_overlapping(self, image: str, rng: Random) -> dict[str, np.ndarray]:
        """ViLBERT, as its paper: cleared together with those that overlap it, which would give it away; its code leaves
        their features and miscounts the global region's mean. Box coordinates stay."""
        row = self.read(image, rng)
        width, height = self.corpus.image_size(image)
        grid = pixel_iou(row["boxes"], row["boxes"], (width, height) if width and height else ANY_SIZE)
        hidden = hide_regions(grid, rng, share=self.share)
        cleared = hidden.zeroed | (hidden.covered & ~hidden.guessed)
        features = np.array(row["regions"])
        features[cleared] = 0
        targets = row["regions"] if self.visual_target else self.distributions(image)
        row |= {"regions": features, "region_targets": targets, "masked_regions": hidden.guessed}
        return row | {"counted_mask": ~cleared}

    def distributions(self, image: str) -> np.ndarray:
        """[R,C]: the detector's classes; where it told the likeliest alone, that with its confidence and the rest on
        the last class, the background's."""
        fields = {name: values[: self.max_regions] for name, values in self.corpus.fields(image).items()}
        if "class_probs" in fields:
            return fields["class_probs"]
        ids, sure = fields["objects_id"], fields["objects_conf"]
        found = np.zeros((len(ids), self.classes), np.float32)
        found[:, -1] = 1 - sure
        found[np.arange(len(ids)), ids] += sure
        return found


def stacked(rows: Sequence[np.ndarray], width: int) -> Tensor:
    """[B,width,...]; numbers become fp32."""
    found = np.zeros((len(rows), width, *rows[0].shape[1:]), rows[0].dtype)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    tensor = torch.from_numpy(found)
    return tensor.float() if tensor.is_floating_point() else tensor
