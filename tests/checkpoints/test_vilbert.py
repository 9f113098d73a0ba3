"""The original's files load in full, with or without their configuration, and are exported unchanged."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.test_vilbert import build, example
from vlx.checkpoints.originals.vilbert import export_original, load_vilbert
from vlx.errors import CheckpointError
from vlx.models.vilbert import Vilbert

COUNTS = {
    "num_attention_heads": 4,
    "v_num_attention_heads": 5,
    "bi_num_attention_heads": 3,
}  # shapes do not give the heads
BRIDGES = {"t_biattention_id": [1, 3], "v_biattention_id": [1, 2]}  # nor the layers


def original(model: Vilbert, *, prefix: str = "") -> dict[str, Tensor]:
    """The weights as the original saves them, with those that it never uses."""
    unused = {f"bert.encoder.c_layer.{k}.biOutput.q_dense1.bias": torch.zeros(20) for k in range(2)}
    return {f"{prefix}{name}": tensor for name, tensor in (export_original(model) | unused).items()}


def write(folder: Path, weights: dict[str, Tensor], **config: object) -> Path:
    torch.save(weights, folder / "pytorch_model_9.bin")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "pytorch_model_9.bin"


@pytest.fixture
def model() -> Vilbert:
    return build()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_round_trip_is_exact(model: Vilbert, tmp_path: Path, prefix: str) -> None:
    path = write(tmp_path, original(model, prefix=prefix), **COUNTS, **BRIDGES, hidden_act="gelu", fast_mode=True)
    loaded, report = load_vilbert(path)
    assert report.share == 1.0 and len(report.unexpected) == 2 and not report.missing
    weights = export_original(model)
    exported = export_original(loaded)
    assert weights.keys() == exported.keys() and all(torch.equal(weights[name], exported[name]) for name in weights)
    batch = example(1, 5, 3)
    heads = ("vil_prediction", "vision_logit", "itm")
    for name, score in loaded.eval()(batch, heads=heads).scores.items():
        torch.testing.assert_close(score, model(batch, heads=heads).scores[name])


def test_the_shapes_give_the_configuration(model: Vilbert, tmp_path: Path) -> None:
    config = load_vilbert(write(tmp_path, original(model)), **COUNTS)[0].config
    for name in ("hidden_size", "v_hidden_size", "bi_hidden_size", "num_hidden_layers", "v_num_hidden_layers", "head"):
        assert getattr(config, name) == getattr(model.config, name)
    assert {name: tuple(head) for name, head in config.heads.items()} == dict(model.config.heads)
    assert (config.t_biattention_id, config.v_biattention_id) == ([2, 3], [0, 1])  # last of 4, first of 3
    assert config.task_specific_tokens and not config.dynamic_attention


def test_an_absent_entry_has_the_originals_default(tmp_path: Path) -> None:
    model = build(v_hidden_size=24, v_num_attention_heads=12, bi_hidden_size=32)
    path = write(tmp_path, original(model) | unused_of(24), **BRIDGES, num_attention_heads=4)
    config = load_vilbert(path)[0].config
    assert (config.v_num_attention_heads, config.bi_num_attention_heads) == (12, 16)


def unused_of(width: int) -> dict[str, Tensor]:
    return {f"bert.encoder.c_layer.{k}.biOutput.q_dense1.bias": torch.zeros(width) for k in range(2)}


def test_half_precision_is_widened(model: Vilbert, tmp_path: Path) -> None:
    weights = {name: tensor.half() for name, tensor in original(model).items()}
    loaded, report = load_vilbert(write(tmp_path, weights), **COUNTS, **BRIDGES)
    assert report.share == 1.0 and loaded.dtype == torch.float32
    name = "bert.t_pooler.dense.weight"
    assert torch.equal(loaded.state_dict()[name], weights[name].float())


def test_a_pre_training_file_gets_new_heads_and_a_multi_task_file_loads_without_its_heads(tmp_path: Path) -> None:
    plain = build(heads={}, head="itm", task_specific_tokens=False)
    path = write(tmp_path, original(plain))
    assert load_vilbert(path, **COUNTS)[0].config.head == "itm"
    options = {"heads": {"colour": ("classes", 3)}, "head": "colour", "task_specific_tokens": True, **COUNTS}
    started, report = load_vilbert(path, new_prefixes=("colour.", "bert.embeddings.task_embeddings."), **options)
    assert set(report.missing) == {"colour.weight", "colour.bias", "bert.embeddings.task_embeddings.weight"}
    with pytest.raises(CheckpointError, match="first key at fault: colour.weight"):
        load_vilbert(path, new_prefixes=("bert.embeddings.task_embeddings.",), **options)
    path = write(tmp_path, original(started))
    assert load_vilbert(path, **COUNTS)[0].config.heads["colour"] == ("classes", 3)
    headless, report = load_vilbert(path, heads={}, head="itm", **COUNTS)
    assert "colour.weight" in report.unexpected and not hasattr(headless, "colour")


def test_a_plain_bert_initializes_the_text_stream(model: Vilbert, tmp_path: Path) -> None:
    text = ("bert.embeddings.word", "bert.embeddings.pos", "bert.embeddings.tok", "bert.embeddings.Lay", "cls.pred")
    weights = {name: tensor for name, tensor in export_original(model).items() if name.startswith(text)}
    layers = {name: tensor for name, tensor in export_original(model).items() if ".encoder.layer." in name}
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in (weights | layers).items()}
    old |= {"bert.pooler.dense.weight": torch.zeros(24, 24), "cls.seq_relationship.bias": torch.zeros(2)}
    visual = ("bert.v_", "bert.t_", "bert.encoder.v_layer.", "bert.encoder.c_layer.", "cls.image", "cls.bi_", "vil")
    entries = {"v_num_hidden_layers": 2, "num_attention_heads": 4, "heads": {"vil_logit": ("match", 1)}}
    entries |= {"head": "vil_logit", "t_biattention_id": [3], "v_biattention_id": [0], "v_feature_size": 8}
    started, report = load_vilbert(write(tmp_path, old), new_prefixes=visual, **entries)
    assert torch.equal(
        started.bert.encoder.layer[3].output.dense.weight, layers["bert.encoder.layer.3.output.dense.weight"]
    )
    assert set(report.unexpected) == {"bert.pooler.dense.weight", "cls.seq_relationship.bias"}
    assert all(name.startswith(visual) for name in report.missing)


@pytest.mark.parametrize(
    ("edit", "config", "fault"),
    [
        (lambda weights: weights.update(extra=torch.zeros(1)), {}, "first key at fault: extra"),
        (lambda weights: weights.pop("vision_logit.bias"), {}, "1 missing.*first key at fault: vision_logit.bias"),
        (
            lambda weights: weights.pop("bert.t_pooler.dense.weight"),
            {},
            "no bert.t_pooler.dense.weight in it; expected",
        ),
        (lambda weights: None, {"hidden_size": 32}, r"of another shape; .*\(50, 24\) in the file, \(50, 32\) in the m"),
        (lambda weights: None, {"hidden_act": "relu"}, "config.json: {'hidden_act': 'relu'}; expected .*gelu"),
        (lambda weights: None, {"model": "roberta"}, "{'model': 'roberta'}; expected {'model': 'bert'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    model: Vilbert, tmp_path: Path, edit: object, config: dict, fault: str
) -> None:
    weights = original(model)
    edit(weights)
    with pytest.raises(CheckpointError, match=fault) as error:
        load_vilbert(write(tmp_path, weights, **COUNTS, **BRIDGES, **config))
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_refused_in_a_line(model: Vilbert, tmp_path: Path) -> None:
    path = write(tmp_path, original(model), **COUNTS, **BRIDGES)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="config.json: not a ViLBERT configuration"):
        load_vilbert(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a readable weights file") as error:
        load_vilbert(path)
    assert "\n" not in str(error.value)
