"""vlx.json: what is saved is loaded, and a damaged file is one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest

from vlx.errors import CheckpointError
from vlx.preprocessing import FILE, PRETRAINED, Preprocessing

REGIONS = Preprocessing(
    architecture="oscar", task="nlvr2", answers=("False", "True"), num_images=2, max_text_tokens=55, max_regions=40,
    region_dim=2054, detector="external", object_tags=True, data_fingerprint="f1",
)  # fmt: skip
PIXELS = Preprocessing(
    architecture="clip_vil", task=PRETRAINED, answers=("yes", "größer"), soft_targets=True, max_text_tokens=20,
    image_min_size=384, image_max_size=640, aspect_groups=5, stage=2, objectives=("mlm", "itm", "qa"),
)  # fmt: skip


@pytest.mark.parametrize("preprocessing", [REGIONS, PIXELS, Preprocessing(architecture="vle", max_text_tokens=40)])
def test_what_is_saved_is_loaded(preprocessing: Preprocessing, tmp_path: Path) -> None:
    preprocessing.save(tmp_path)
    assert Preprocessing.load(tmp_path) == preprocessing
    assert preprocessing.is_pretrained == (preprocessing is PIXELS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, "missing .* argument: 'architecture'; expected the file that vlx saves with a model."),
        ({"max_text_tokens": "55"}, "max_text_tokens is '55', expected int."),
        ({"max_regions": 4.5}, "max_regions is 4.5, expected int."),
        ({"num_images": True}, "num_images is True, expected int."),
        ({"object_tags": 1}, "object_tags is 1, expected bool."),
        ({"task": ["nlvr2"]}, r"task is \['nlvr2'\], expected str."),
        ({"answers": "yes"}, "answers is 'yes', expected a list of strings."),
        ({"answers": ["yes", 1]}, r"answers is \['yes', 1\], expected a list of strings."),
        ({"objectives": {"mlm": 1}}, "objectives is .*, expected a list of strings."),
        ({"system": "oscar"}, "expected an object with some of architecture, task, .*, objectives."),
    ],
)
def test_a_missing_wrong_or_unknown_field_is_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    """None: the field is left out."""
    REGIONS.save(tmp_path)
    path = tmp_path / FILE
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    with pytest.raises(CheckpointError, match=f"vlx.json: .*{message}") as caught:
        Preprocessing.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"oscar"', "{\n 'a': 1\n}", "\xff"])
def test_a_file_that_is_not_json_of_an_object_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match="vlx.json: (not JSON|expected an object)") as caught:
        Preprocessing.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vlx.json"):
        Preprocessing.load(tmp_path)
