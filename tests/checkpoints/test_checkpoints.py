"""What loads, loads whole; what does not is refused in one line, and nothing is ever executed."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from tests.models.test_oscar import config, example
from vlx import checkpoints
from vlx.errors import CheckpointError
from vlx.models.oscar import Oscar
from vlx.tokenization import SPECIAL, WordPiece


@pytest.fixture
def original(tmp_path: Path) -> tuple[Path, Oscar]:
    """A folder as the original saves it, gamma and beta and the pre-training head included."""
    model = Oscar(config(num_choice=2, cls_hidden_scale=3)).eval()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, tensor in model.state_dict().items():
        for new, gone in old.items():
            name = name.replace(new, gone)
        weights[name] = tensor
    torch.save(weights | {"cls.predictions.bias": torch.zeros(50)}, tmp_path / "pytorch_model.bin")
    own = {
        name: getattr(model.config, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_choice")
    }
    own |= {name: getattr(model.config, name) for name in ("num_attention_heads", "intermediate_size", "classifier")}
    own |= {
        "img_feature_dim": 14,
        "cls_hidden_scale": 3,
        "max_position_embeddings": 40,
        "num_labels": 2,
        "torchscript": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *map(str, range(45))]) + "\n")
    return tmp_path, model


def test_an_original_folder_gives_its_logits_and_a_report(original: tuple[Path, Oscar]) -> None:
    folder, model = original
    loaded = checkpoints.load(folder)
    batch = example(1, 6, (3, 4))
    assert torch.equal(loaded.model.eval()(batch).logits, model(batch).logits)
    assert loaded.report.share == 1.0
    assert loaded.report.unexpected == ["cls.predictions.bias"]
    assert len(loaded.report.renamed) == 14  # two of each of seven LayerNorms
    assert (loaded.meta["task"], loaded.meta["region_dim"]) == ("nlvr2", 8)


def test_own_folder_round_trip_is_exact(original: tuple[Path, Oscar], tmp_path: Path) -> None:
    _, model = original
    meta = {"system": "oscar", "task": "nlvr2"}
    checkpoints.save(tmp_path / "own", model, WordPiece.train(["a b"], size=50), meta)
    loaded = checkpoints.load(tmp_path / "own")
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert loaded.meta["task"] == "nlvr2" and not loaded.report.renamed


def change(folder: Path, edit: object) -> None:
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    edit(weights)
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda weights: weights.pop("bert.pooler.dense.weight"), "1 missing.*bert.pooler.dense.weight"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "first key at fault: extra"),
        (lambda weights: weights.update({"bert.pooler.dense.bias": torch.zeros(5)}), r"\(5,\) in the file, \(32,\) in"),
    ],
)
def test_nothing_loads_half(original: tuple[Path, Oscar], edit: object, fault: str) -> None:
    change(original[0], edit)
    with pytest.raises(CheckpointError, match=fault):
        checkpoints.load(original[0])


def test_a_missing_head_is_an_error_unless_a_new_one_is_wanted(original: tuple[Path, Oscar]) -> None:
    def behead(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("classifier.")]:
            del weights[name]

    change(original[0], behead)
    with pytest.raises(CheckpointError, match="classifier"):
        checkpoints.load(original[0])
    assert checkpoints.load(original[0], new_head=True).report.share < 1


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"PK\x03\x04 not a zip", pickle.dumps({"a": 1})])
def test_a_hostile_or_broken_file_is_refused_and_not_executed(original: tuple[Path, Oscar], content: bytes) -> None:
    (original[0] / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        checkpoints.load(original[0])
    assert "\n" not in str(error.value)
    assert not Path("exploded").exists()


def test_a_configuration_that_is_none(original: tuple[Path, Oscar]) -> None:
    (original[0] / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="not an Oscar configuration"):
        checkpoints.load(original[0])
    (original[0] / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json"):
        checkpoints.load(original[0])
