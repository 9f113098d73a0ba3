"""vle/vcr_geometry: patches of boxes and objects of texts."""

import json
from pathlib import Path

import torch

from tests.parity.adapters.numbers import close
from vlx.tasks.vcr_geometry import box_patches, text_objects


def check(case: Path) -> None:
    cases = json.loads((case / "cases.json").read_text())
    for image in cases["patch_boxes"]:
        size = (image["width"], image["height"])
        grid = image["image_size"] // image["patch_size"]
        for box, expected in zip(image["boxes"], image["patch_boxes"], strict=True):
            patches = box_patches(box, size, grid=grid)
            assert patches.indices == expected["patch_ids"], box
            close(torch.tensor(patches.box), torch.tensor(expected["box"]), f"box {box}")
    names = ("related_box_ids", "image_added_token_type_ids", "text_token_type_ids")
    for text in cases["tags"]:
        assert text_objects(text["obj_tags"]) == tuple(text[name] for name in names), text
