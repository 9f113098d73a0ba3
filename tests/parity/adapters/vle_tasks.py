"""vle/vcr_geometry: patches of boxes and objects of texts."""

import json
from pathlib import Path

import torch

from tests.parity.adapters.numbers import close
from vlx.tasks.vcr_geometry import objects_of, patches_of


def check(case: Path) -> None:
    cases = json.loads((case / "cases.json").read_text())
    for picture in cases["patch_boxes"]:
        size, grid = (picture["width"], picture["height"]), picture["image_size"] // picture["patch_size"]
        for box, expected in zip(picture["boxes"], picture["patch_boxes"], strict=True):
            found = patches_of(box, size, grid=grid)
            assert found.numbers == expected["patch_ids"], box
            close(torch.tensor(found.box), torch.tensor(expected["box"]), f"box {box}")
    names = ("related_box_ids", "image_added_token_type_ids", "text_token_type_ids")
    for text in cases["tags"]:
        assert objects_of(text["obj_tags"]) == tuple(text[name] for name in names), text
