"""vilbert/data_level: regions out of an LMDB file, what they overlap, and what pre-training hides."""

import json
import pickle
import random
import tempfile
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from tests.parity.adapters.numbers import close
from vlx.boxes import pixel_iou
from vlx.corpora.formats.boxes import unit_box
from vlx.corpora.formats.features import vilbert_lmdb
from vlx.corpora.formats.features.region_record import RegionRecord
from vlx.inputs.masking import mask_regions, mask_tokens, sample_caption
from vlx.models.vilbert import RegionEmbeddings, VilbertConfig

Arrays = dict[str, np.ndarray]
MAX_CAPTIONS = 100  # of a pool of unknown size
WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)
HALF = 0.5  # IoU from which a region is a target, in training


class Draws:
    """The original's two global generators: numpy's for words, Python's for the rest."""

    def __init__(self, seed: int) -> None:
        self.python, self.numpy, self.asked = random.Random(seed), np.random.RandomState(seed), 0

    def random(self) -> float:
        self.asked += 1
        return self.python.random()

    def randrange(self, stop: int) -> int:
        return int(self.numpy.randint(stop)) if self.asked > 1 else self.python.randrange(stop)


def check(case: Path) -> None:
    given, expected = (load_file(case / f"{name}.safetensors") for name in ("inputs", "expected"))
    names = [key.removesuffix(".wh") for key in given if key.endswith(".wh")]
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "features.lmdb", Path(folder) / "features_gt_.lmdb"
        write(paths[0], {name: item(given, name) for name in names if name != "gt"})
        write(paths[1], {"a": item(given, "gt")})
        rows = {row.image_id: row for row in vilbert_lmdb.regions(paths[0])}
        joined = vilbert_lmdb.append(paths[1], rows["a"])
    assert set(rows) | {"gt"} == set(names)
    check_reader(rows["a"], expected)
    check_referring(rows["a"], joined, given, expected)
    check_pair(rows["pair0"], rows["pair1"], expected)
    size, boxes = rows["a"].image_size, rows["a"].boxes
    same(pixel_iou(with_global(boxes, boxes)[1], boxes[:2], size), expected["iou"], "iou")
    same(pixel_iou(boxes, boxes, size), expected["iou_numpy_cc"], "iou, pre-training")
    examples = json.loads((case / "cc_preprocess.json").read_text())
    check_pretraining(examples, rows["a"], captions=pool_size(case, examples, rows["a"]))


def with_global(features: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the regions before them, its box the whole image: [R,D] and [R,4] -> [R+1,D] and [R+1,4]."""
    mean = features.mean(0, keepdims=True, dtype=np.float32).astype(features.dtype)
    return np.concatenate([mean, features]), np.concatenate([np.array([WHOLE_IMAGE], boxes.dtype), boxes])


def targets(boxes: np.ndarray, box: np.ndarray, size: tuple[int, int], *, least: float = HALF) -> np.ndarray:
    """IoU of each region [R,4] with the box [4] that is meant, [R]; 0 where less than `least`."""
    overlaps = pixel_iou(boxes, box[None], size)[:, 0]
    return np.where(overlaps < least, 0, overlaps)


def same(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    close(torch.from_numpy(np.asarray(actual, np.float64)), torch.from_numpy(np.asarray(expected, np.float64)), what)


def item(given: Arrays, name: str) -> dict[str, Any]:
    width, height = given[f"{name}.wh"].tolist()
    boxes, features = given[f"{name}.boxes"], given[f"{name}.features16"]
    size = {"image_w": width, "image_h": height, "num_boxes": len(boxes)}
    return {"image_id": name, **size, "boxes": boxes, "features": features}


def write(path: Path, items: dict[str, Any]) -> None:
    """As the original's converter."""
    with lmdb.open(str(path), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for key, value in (items | {"keys": [name.encode() for name in items]}).items():
            transaction.put(key.encode(), pickle.dumps(value))


def spatials(boxes: np.ndarray) -> np.ndarray:
    """The five numbers of a box [R,5] that the model embeds: all else in its embedding is taken out."""
    embed = RegionEmbeddings(VilbertConfig(v_feature_size=1, v_hidden_size=5))
    embed.LayerNorm, embed.dropout = nn.Identity(), nn.Identity()
    nn.init.eye_(embed.image_location_embeddings.weight)
    nn.init.zeros_(embed.image_location_embeddings.bias)
    return embed(torch.zeros(len(boxes), 1), torch.from_numpy(boxes)).sub(embed.image_embeddings.bias).detach().numpy()


def check_reader(row: RegionRecord, expected: Arrays) -> None:
    """The global region comes first; boxes are shares of the picture, and pixels again by its size."""
    features, boxes = with_global(row.features, row.boxes)
    assert len(features) == expected["reader.num_boxes_incl_global"][0]
    same(features, expected["reader.features16"], "features")
    same(spatials(boxes), expected["reader.boxes"], "boxes")
    same(boxes * [*row.image_size, *row.image_size], expected["reader.boxes_ori"][:, :4], "boxes in pixels")


def check_referring(row: RegionRecord, joined: RegionRecord, given: Arrays, expected: Arrays) -> None:
    """Training has annotated boxes too, cut off where there is no room, and no target below a half."""
    box = np.array(unit_box(given["refcoco.refbox_xywh"].tolist(), row.image_size, "the target"), np.float32)
    for key in [key for key in expected if key.startswith("refcoco.") and key.endswith(".target")]:
        _, split, most, _ = key.split(".")
        name, training = f"refcoco.{split}.{most}", split == "train"
        features, boxes = with_global(row.features, row.boxes)
        own = joined if training else row
        features, boxes = (
            np.concatenate([first, more[len(row.boxes) :]])[: int(most)]
            for first, more in ((features, own.features), (boxes, own.boxes))
        )
        count = len(boxes)
        found = targets(boxes, box, row.image_size) if training else targets(boxes, box, row.image_size, least=0)
        assert expected[f"{name}.image_mask"].tolist() == [1] * count + [0] * (int(most) - count)
        for what, value in (("features16", features), ("spatials", spatials(boxes)), ("target", found[:, None])):
            same(value, expected[f"{name}.{what}"][:count], f"{name} {what}")
            assert not expected[f"{name}.{what}"][count:].any()


def check_pair(first: RegionRecord, second: RegionRecord, expected: Arrays) -> None:
    """NLVR2's images, each with its global region. The original puts the second's right after the first's and splits
    them in the middle, so that they mix if the first has fewer regions than it may have; vlx keeps images apart."""
    both = [with_global(row.features, row.boxes) for row in (first, second)]
    features, boxes = (np.concatenate(parts) for parts in zip(*both, strict=True))
    mask = expected["nlvr2.image_mask"].tolist()
    assert mask == [1] * len(boxes) + [0] * (len(mask) - len(boxes))
    same(features, expected["nlvr2.features16"][: len(boxes)], "pair features")
    same(spatials(boxes), expected["nlvr2.spatials"][: len(boxes)], "pair boxes")


def pool_size(case: Path, examples: list[dict[str, Any]], row: RegionRecord) -> int:
    """How many captions the original's run drew from: the case's number, or the smallest that reproduces its draws."""
    path = case / "pool.json"
    if path.is_file():
        return int(json.loads(path.read_text())["captions"])
    return next(count for count in range(1, MAX_CAPTIONS) if reproduces(examples, row, count))


def reproduces(examples: list[dict[str, Any]], row: RegionRecord, captions: int) -> bool:
    try:
        check_pretraining(examples, row, captions=captions)
    except AssertionError:
        return False
    return True


def check_pretraining(drawn: list[dict[str, Any]], row: RegionRecord, *, captions: int) -> None:
    """Same seeds, same draws. The texts are what was hidden put back; [CLS] is the last id but one, [MASK] the last."""
    texts = dict[int | None, list[int]]()
    grid = pixel_iou(row.boxes, row.boxes, row.image_size)
    for one in drawn:
        rng, length, mask_id = Draws(one["seed"]), sum(one["input_mask"]), one["input_ids"][0] + 1
        shown, labels = (one[key][1 : length - 1] for key in ("input_ids", "lm_label_ids"))
        text = [label if label >= 0 else word for word, label in zip(shown, labels, strict=True)]
        other = sample_caption(captions, rng)
        assert (other is not None) == one["is_next"] and texts.setdefault(other, text) == text
        assert mask_tokens(text, rng, mask_id=mask_id, vocab_size=mask_id + 1) == (shown, labels)
        regions = mask_regions(grid, rng)
        assert np.where(regions.masked, 1, -1).tolist() == one["image_label"]
        assert np.flatnonzero(regions.zeroed).tolist() == one["zeroed_feature_rows"]
        assert regions.covered.astype(int).tolist() == one["masked_label"]
        same(spatials(row.boxes), one["image_loc"], "locations")
        assert one["image_mask"] == [1] * len(row.boxes)
