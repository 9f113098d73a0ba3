"""Regions of pre-training: masked as each architecture masks them, with the detector's labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from vlx.batch import Batch
from vlx.boxes import pixel_iou
from vlx.corpora import Corpus
from vlx.inputs.masking import mask_regions, replace_regions
from vlx.inputs.regions import RegionInput, region_tensors
from vlx.objectives.mrm import sample_nce_negatives

UNKNOWN_SIZE = (1_000, 1_000)  # of an image whose size the source does not tell
DETECTOR_LABELS = {  # objective -> region fields of the corpus (corpora.store.FIELDS): class and confidence
    "mrc_objects": ("objects_id", "objects_conf"),
    "mrc_attributes": ("attrs_id", "attrs_conf"),
}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RegionMasking:
    """probability: share of masked regions. image_ids: whose regions replace masked ones. mrm_loss: kl needs class
    distributions over num_classes, mse and nce features; nce_negatives: sampled for each region."""

    probability: float
    image_ids: Sequence[str]
    mrm_loss: str = "kl"
    num_classes: int = 0
    nce_negatives: int = 0


@dataclass(frozen=True)
class MaskedRegionInput(RegionInput):
    """Regions with their masks. mask: one of MASKINGS."""

    masking: RegionMasking = RegionMasking(0.0, ())
    mask: "Callable[[MaskedRegionInput, str, Random], Arrays] | None" = None

    def tensors(self, image_ids: Sequence[str], *, generators: Sequence[Random] | None = None) -> Batch:
        """regions [N,R,D], boxes [N,R,4], region_mask [N,R], and what `mask` adds: masked_regions [N,R], region_targets
        [N,R,D or C], labels and confidences of the detector [N,R], visible_region_mask [N,R], nce_negatives [N,R,n]."""
        if generators is None:
            raise RuntimeError("masked regions need generators.")
        mask = self.mask or unmasked
        rows = [mask(self, name, generator) for name, generator in zip(image_ids, generators, strict=True)]
        batch = region_tensors(rows)
        for objective in DETECTOR_LABELS:
            label = f"{objective}_labels"
            if label in batch:
                batch[label] = batch[label].long().masked_fill(~batch["region_mask"], -1)
        if "visible_region_mask" in batch and self.masking.mrm_loss == "nce":
            # Negatives come from the other images of this batch.
            generator = torch.Generator().manual_seed(generators[0].getrandbits(62))
            batch["nce_negatives"] = sample_nce_negatives(batch["region_mask"], self.masking.nce_negatives, generator)
        return batch

    @property
    def corpus(self) -> Corpus:
        if not isinstance(self.source, Corpus):
            raise RuntimeError("masked regions need a corpus.")
        return self.source


def unmasked(inputs: MaskedRegionInput, image_id: str, generator: Random) -> Arrays:
    """Oscar masks no regions."""
    return inputs.arrays(image_id)


def masked_by_replacement(inputs: MaskedRegionInput, image_id: str, generator: Random) -> Arrays:
    """LXMERT: cleared, or replaced by a region of any image, or left; the target is the original features."""
    row = inputs.arrays(image_id)
    fields = inputs.corpus.fields(image_id)
    masking = inputs.masking
    mask = replace_regions(len(row["boxes"]), generator, probability=masking.probability)
    features = np.array(row["regions"])
    features[mask.cleared] = 0
    for region in mask.replaced.nonzero()[0]:
        source = inputs.arrays(masking.image_ids[generator.randrange(len(masking.image_ids))])["regions"]
        features[region] = source[generator.randrange(len(source))]
    row |= {"regions": features, "region_targets": row["regions"], "masked_regions": mask.masked}
    for objective, (ids, confidences) in DETECTOR_LABELS.items():
        if ids in fields:
            row[f"{objective}_labels"] = fields[ids][: inputs.max_regions]
            row[f"{objective}_confidences"] = fields[confidences][: inputs.max_regions]
    return row


def masked_with_overlaps(inputs: MaskedRegionInput, image_id: str, generator: Random) -> Arrays:
    """ViLBERT as in its paper: masked regions are cleared together with the regions that overlap them; its code keeps
    the features of the latter and miscounts the global region's mean. Box coordinates stay."""
    row = inputs.arrays(image_id)
    width, height = inputs.corpus.image_size(image_id)
    size = (width, height) if width and height else UNKNOWN_SIZE
    ious = pixel_iou(row["boxes"], row["boxes"], size)
    mask = mask_regions(ious, generator, probability=inputs.masking.probability)
    cleared = mask.zeroed | (mask.covered & ~mask.masked)
    features = np.array(row["regions"])
    features[cleared] = 0
    targets = class_distributions(inputs, image_id) if inputs.masking.mrm_loss == "kl" else row["regions"]
    row |= {"regions": features, "region_targets": targets, "masked_regions": mask.masked}
    return row | {"visible_region_mask": ~cleared}


def class_distributions(inputs: MaskedRegionInput, image_id: str) -> np.ndarray:
    """[R,C]: the detector's class probabilities. Where it gave the best class alone, its confidence, with the rest on
    the last class, the background."""
    fields = {name: values[: inputs.max_regions] for name, values in inputs.corpus.fields(image_id).items()}
    if "class_probs" in fields:
        return fields["class_probs"]
    ids, confidences = fields["objects_id"], fields["objects_conf"]
    probabilities = np.zeros((len(ids), inputs.masking.num_classes), np.float32)
    probabilities[:, -1] = 1 - confidences
    probabilities[np.arange(len(ids)), ids] += confidences
    return probabilities


MASKINGS: dict[str, Callable[[MaskedRegionInput, str, Random], Arrays]] = {  # of ModelSpec.region_masking
    "none": unmasked,
    "replace": masked_by_replacement,
    "overlap": masked_with_overlaps,
}
