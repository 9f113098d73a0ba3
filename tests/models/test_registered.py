"""transformers' Auto classes know every architecture after `import vlx`; a model of any size serves any head."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.models.helpers import BUILDABLE, PAIR, REGION_ENCODERS, batch_of, build
from vlx.models.heads import Head
from vlx.objectives.supervised import logits_of

LOAD_FOLDERS = """
import sys, vlx
assert 'torch' not in sys.modules, 'import vlx is not light'
from transformers import AutoModel
for folder in sys.argv[1:]:
    model = AutoModel.from_pretrained(folder)
    print(type(model).__name__, sum(weight.double().sum().item() for weight in model.state_dict().values()))
"""


@pytest.mark.parametrize("name", REGION_ENCODERS)
@pytest.mark.parametrize(
    ("head", "pairs", "width"),
    [
        (Head("classify", 9), 1, 9),
        (Head("classify", 2, 2), 2, 2),
        (Head("classify", 2, 3), 3, 2),
        (Head("multiple_choice", 1), 4, 4),
        (Head("grounding", 1), 1, 5),
    ],
)
def test_every_cross_encoder_of_regions_serves_every_head(name: str, head: Head, pairs: int, width: int) -> None:
    model = build(name, head).eval()
    batch = batch_of(3, pairs)
    logits = logits_of(model, batch)
    assert logits.shape == (3, width)
    first = logits_of(model, {key: values[:1] for key, values in batch.items()})
    torch.testing.assert_close(first, logits[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BUILDABLE)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, second, different = (build(name, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], different[key]) for key in first)


def test_auto_model_loads_the_folder_of_every_architecture_after_import_vlx(tmp_path: Path) -> None:
    models = [build(name, PAIR._replace(labels=3)) for name in BUILDABLE]
    folders = [tmp_path / name for name in BUILDABLE]
    for model, folder in zip(models, folders, strict=True):
        model.save_pretrained(folder)
    command = [sys.executable, "-c", LOAD_FOLDERS, *map(str, folders)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, model in zip(process.stdout.splitlines(), models, strict=True):
        name, total = line.split()
        assert name == type(model).__name__
        assert float(total) == sum(weight.double().sum().item() for weight in model.state_dict().values())


def test_a_module_that_triggers_the_registration_can_be_imported_first() -> None:
    subprocess.run([sys.executable, "-c", "import vlx.models.layers"], check=True)
