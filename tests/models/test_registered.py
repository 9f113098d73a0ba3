"""After `import vlx`, transformers' own classes know every system; a model of any size serves any head."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlx import models
from vlx.models import Head, Sizes
from vlx.objectives.supervised import logits_of

SIZES = Sizes(
    vocab_size=40, positions=12, region_dim=6, hidden=16, layers=3, region_layers=1, cross_layers=2, heads=2,
    intermediate=24, initializer_range=0.1, dropout=0.1, attention_dropout=0.1, classifier="mlp",
)  # fmt: skip


def batch_of(examples: int, pairs: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape, tokens, regions = (examples, pairs), 7, 5
    return {
        "input_ids": torch.randint(1, 40, (*shape, tokens), generator=generator),
        "text_mask": torch.ones(*shape, tokens, dtype=torch.bool),
        "regions": torch.rand(*shape, regions, 6, generator=generator),
        "boxes": torch.rand(*shape, regions, 4, generator=generator).sort(-1).values,
        "region_mask": torch.ones(*shape, regions, dtype=torch.bool),
    }


@pytest.mark.parametrize("system", models.SYSTEMS)
@pytest.mark.parametrize(
    ("head", "pairs", "width"),
    [
        (Head("classify", 9), 1, 9),
        (Head("classify", 2, 2), 2, 2),
        (Head("classify", 2, 3), 3, 2),
        (Head("choose", 1), 4, 4),
        (Head("point", 1), 1, 5),
    ],
)
def test_every_system_serves_every_head(system: str, head: Head, pairs: int, width: int) -> None:
    model, batch = models.build(system, head, SIZES, seed=0).eval(), batch_of(3, pairs)
    logits = logits_of(model, batch)
    assert logits.shape == (3, width)
    first = logits_of(model, {name: values[:1] for name, values in batch.items()})
    torch.testing.assert_close(first, logits[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("system", [*models.SYSTEMS, *models.TOWERS])
def test_the_seed_decides_the_weights(system: str) -> None:
    one, same, other = (models.build(system, Head("classify", 2), SIZES, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("system", [*models.SYSTEMS, *models.TOWERS])
def test_auto_model_knows_the_folder_after_import_vlx(system: str, tmp_path: Path) -> None:
    model = models.build(system, Head("classify", 3), SIZES, seed=0)
    model.save_pretrained(tmp_path)
    code = (
        "import sys, vlx; assert 'torch' not in sys.modules, 'import vlx is not light'\n"
        "from transformers import AutoModel; import torch\n"
        f"model = AutoModel.from_pretrained({str(tmp_path)!r})\n"
        "print(type(model).__name__, sum(weight.double().sum().item() for weight in model.state_dict().values()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, total = done.stdout.split()
    assert name == type(model).__name__
    assert float(total) == sum(weight.double().sum().item() for weight in model.state_dict().values())
