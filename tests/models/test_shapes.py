"""Full-size models have the originals' parameters, name by name."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.models.test_clip_vil import RN50X4
from vlx.checkpoints.originals import clip_vil, lxmert
from vlx.models.clip_vil import ClipVil, ClipVilConfig
from vlx.models.lxmert import LxmertConfig, LxmertForPreTraining
from vlx.models.oscar import Oscar, OscarConfig

SPECS = Path(__file__).parents[3] / "shared" / "specs"
ROW = re.compile(
    r"\| `(?P<name>bert\.[^`]+|cls[^`]+|obj[^`]+|answer[^`]+)` \| \[(?P<shape>[\d, ]+)\] \| (?P<copies>\d+)"
)


@pytest.fixture(scope="module")
def specs() -> Path:
    if not SPECS.is_dir():
        pytest.skip("no specifications beside the project")
    return SPECS


def test_lxmert_has_the_473_keys_of_its_table(specs: Path) -> None:
    with torch.device("meta"):
        model = LxmertForPreTraining(LxmertConfig())
    weights = {name: tuple(tensor.shape) for name, tensor in lxmert.export_original(model).items()}
    assert len(weights) == 473
    rows = list(ROW.finditer((specs / "lxmert.md").read_text(encoding="utf-8")))
    assert len(rows) > 80
    checked = 0
    for row in rows:
        shape = tuple(map(int, row["shape"].split(",")))
        for layer in range(int(row["copies"])) if "{i}" in row["name"] else [0]:
            assert weights[row["name"].replace("{i}", str(layer))] == shape, row["name"]
            checked += 1
    assert checked > 440, "the table names nearly all"


@pytest.mark.parametrize(("name", "options"), [("rn50", {}), ("rn50x4", RN50X4 | {"clip_text_width": 640})])
def test_clip_vil_has_the_names_and_shapes_of_its_table(specs: Path, name: str, options: dict) -> None:
    expected = json.loads((specs / f"clip-vil-shapes-{name}.json").read_text())
    with torch.device("meta"):
        model = ClipVil(ClipVilConfig(unused_weights=True, heads=["mlm", "itm", "qa"], **options))
    weights = {key: list(tensor.shape) for key, tensor in clip_vil.export_original(model).items()}
    assert weights == expected


COUNTS = [  # layers, options of the published models -> parameters
    (12, {"num_labels": 3129}, 113_466_681),
    (6, {"num_labels": 3129}, 70_939_449),
    (12, {"num_labels": 1853}, 112_485_437),
    (6, {"num_labels": 1853}, 69_958_205),
    (12, {"num_labels": 2, "num_choice": 2, "classifier": "mlp", "cls_hidden_scale": 3}, 114_606_338),
    (6, {"num_labels": 2, "num_choice": 2, "classifier": "mlp", "cls_hidden_scale": 3}, 72_079_106),
    (12, {"num_labels": 2}, 111_062_018),
]


@pytest.mark.parametrize(("layers", "options", "count"), COUNTS)
def test_oscar_has_as_many_parameters_as_published(layers: int, options: dict, count: int) -> None:
    with torch.device("meta"):
        model = Oscar(OscarConfig(num_hidden_layers=layers, **options))
    assert sum(weight.numel() for weight in model.parameters()) == count
