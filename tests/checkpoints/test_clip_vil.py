"""The original's files load in full and are exported unchanged; CLIP's and BERT's files initialize their parts."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_clip_vil import build, example
from vlx.checkpoints.originals.clip_vil import CLIP, export_original, load_clip_and_bert, load_clip_vil
from vlx.errors import CheckpointError
from vlx.models.clip_vil import TIED, ClipVil, ClipVilConfig

Weights = dict[str, Tensor]
FOUR = {"num_attention_heads": 4}  # shapes do not give it
BOXES = "bert.encoder.visn_fc.box_"


def write(path: Path, weights: Weights) -> Path:
    torch.save(weights, path)
    return path


@pytest.fixture
def full() -> ClipVil:
    """A model with all weights of the original's files, and running statistics that are no longer new."""
    model = build(unused_weights=True)
    model.bert.encoder.visual_model.train()(example(1, 5)["pixels"])
    return model.eval()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("heads", [("mlm", "itm"), ("mlm", "itm", "qa"), ("qa",)])
def test_the_round_trip_is_exact(tmp_path: Path, heads: tuple[str, ...], prefix: str) -> None:
    model = build(unused_weights=True, heads=heads)
    weights = export_original(model)
    path = write(tmp_path / "Epoch09_LXRT.pth", {f"{prefix}{name}": tensor for name, tensor in weights.items()})
    loaded, report = load_clip_vil(path, unused_weights=True, **FOUR)
    assert report.share == 1.0 and not report.unexpected and tuple(loaded.config.heads) == heads
    exported = export_original(loaded)
    assert weights.keys() == exported.keys() and all(torch.equal(weights[name], exported[name]) for name in weights)
    for name, scores in loaded.eval()(example(1, 5), heads=heads).scores.items():
        torch.testing.assert_close(scores, model(example(1, 5), heads=heads).scores[name])


def test_a_fine_tuned_file_has_the_originals_names() -> None:
    names = export_original(build(heads=["qa"])).keys()
    assert {"logit_fc.0.weight", "logit_fc.3.bias", "lxrt_encoder.model.bert.pooler.dense.weight"} <= names
    assert all(name.startswith(("logit_fc.", "lxrt_encoder.model.bert.")) for name in names)


def test_the_shapes_give_the_configuration(full: ClipVil, tmp_path: Path) -> None:
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full))
    config = load_clip_vil(path, unused_weights=True, **FOUR)[0].config
    names = ClipVilConfig.__annotations__.keys() - {"hidden_dropout_prob", "attention_probs_dropout_prob"}
    assert {name: list_of(config, name) for name in names} == {name: list_of(full.config, name) for name in names}
    assert load_clip_vil(path)[0].config.num_attention_heads == 1  # 24 wide


def list_of(config: ClipVilConfig, name: str) -> Any:
    value = getattr(config, name)
    return list(value) if isinstance(value, tuple) else value


def test_unused_weights_are_skipped_and_reported(full: ClipVil, tmp_path: Path) -> None:
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full))
    model, report = load_clip_vil(path, **FOUR)
    assert report.share == 1.0 and len(report.unexpected) == 4 + 9 + 6 + 2 * 12  # boxes, pool, text encoder, its layers
    assert {BOXES + "fc.bias", CLIP + "visual.attnpool.q_proj.bias", CLIP + "logit_scale"} < set(report.unexpected)
    heads = tuple(model.config.heads)
    for name, scores in model.eval()(example(1, 5), heads=heads).scores.items():
        torch.testing.assert_close(scores, full(example(1, 5), heads=heads).scores[name])


def test_unused_weights_must_match_if_the_model_keeps_them(full: ClipVil, tmp_path: Path) -> None:
    extra = {f"{CLIP}visual.attnpool.extra": torch.zeros(1)}
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full) | extra)
    assert load_clip_vil(path, **FOUR)[1].share == 1.0
    with pytest.raises(CheckpointError, match="first key at fault: .*attnpool.extra"):
        load_clip_vil(path, unused_weights=True, **FOUR)


def test_half_precision_is_widened(full: ClipVil, tmp_path: Path) -> None:
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in export_original(full).items()
    }
    model, report = load_clip_vil(write(tmp_path / "half.pth", weights), **FOUR)
    name = "bert.encoder.visual_model.visual.layer4.0.bn3.running_var"
    assert report.share == 1.0 and model.dtype == torch.float32
    assert torch.equal(model.state_dict()[name], weights[name].float())


def test_weights_of_absent_heads_are_skipped_and_new_heads_are_initialized(full: ClipVil, tmp_path: Path) -> None:
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full))
    options = {"heads": ["qa"], "num_labels": 3, **FOUR}
    with pytest.raises(CheckpointError, match=r"answer_head.logit_fc.3.weight \(\(7, 48\) in the file, \(3, 48\)"):
        load_clip_vil(path, **options)
    model, report = load_clip_vil(path, new_prefixes=("answer_head.logit_fc.3.",), **options)
    assert report.missing == ["answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.bias"]
    assert "cls.seq_relationship.bias" in report.unexpected and not len(model.cls)
    name = "answer_head.logit_fc.0.weight"
    assert torch.equal(model.state_dict()[name], full.state_dict()[name])
    report = load_clip_vil(path, pos_num=0, **FOUR)[1]
    assert "bert.encoder.visual_pos.x_position_embedding.weight" in report.unexpected


def test_rows_of_pretraining_answers_are_copied_and_new_answers_get_zeros(full: ClipVil, tmp_path: Path) -> None:
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full))
    table = ["yes", "no", "2", "man", "gray", "red", "dog"]
    answers = ["A man.", "two", "zebra", "grey", "yes"]
    model = load_clip_vil(path, answers=(table, answers), heads=["qa"], **FOUR)[0]
    rows, old = (each.answer_head.logit_fc[3] for each in (model, full))
    assert torch.equal(rows.weight[[0, 1, 3, 4]], old.weight[[3, 2, 4, 0]])
    assert torch.equal(rows.bias[[0, 1, 3, 4]], old.bias[[3, 2, 4, 0]])
    assert not rows.weight[2].any() and not rows.bias[2]
    assert torch.equal(model.answer_head.logit_fc[0].weight, full.answer_head.logit_fc[0].weight)
    with pytest.raises(CheckpointError, match=r"\b2\b.*\b7\b"):
        load_clip_vil(path, answers=(table[:2], answers), **FOUR)
    first = write(tmp_path / "Epoch09_LXRT.pth", export_original(build(heads=["mlm", "itm"])))
    with pytest.raises(CheckpointError, match="Epoch09_LXRT.pth: no answer_head.logit_fc.3.weight .* stage two"):
        load_clip_vil(first, answers=(table, answers), **FOUR)


def test_a_file_without_positions_gives_a_model_without_them(tmp_path: Path) -> None:
    path = write(tmp_path / "BEST.pth", export_original(build(pos_num=0)))
    model, report = load_clip_vil(path, **FOUR)
    assert model.config.pos_num == 0 and report.share == 1.0


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path, ClipVil]:
    return write_parts(tmp_path)


def write_parts(folder: Path) -> tuple[Path, Path, ClipVil]:
    """CLIP's weights in half precision, BERT's with the oldest names, and the model that they are from."""
    model = build(unused_weights=True)
    weights = model.state_dict()
    clip = {name.removeprefix(CLIP): tensor for name, tensor in weights.items() if name.startswith(CLIP)}
    clip = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in clip.items()}
    clip |= {name: torch.tensor(64) for name in ("input_resolution", "context_length", "vocab_size")}
    visual = ("bert.encoder.vis", "answer_head.")
    bert = {name: tensor for name, tensor in weights.items() if not name.startswith(visual) and name not in TIED}
    bert = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in bert.items()}
    bert["bert.embeddings.position_ids"] = torch.arange(40)[None]
    return write(folder / "RN50.pth", clip), write(folder / "pytorch_model.bin", bert), model


def test_a_new_model_gets_clips_grid_and_berts_embeddings_layers_and_heads(parts: tuple[Path, Path, ClipVil]) -> None:
    clip, bert, source = parts
    model, report = load_clip_and_bert(clip, bert, pos_num=3, **FOUR)
    assert tuple(model.config.heads) == ("mlm", "itm")
    assert set(report.missing) == {
        name for name in model.state_dict() if name.startswith(("bert.encoder.visn_fc.", "bert.encoder.visual_pos."))
    }
    expected = source.state_dict()
    weights = model.state_dict()
    for name in set(weights) - set(report.missing):
        tensor = expected[name].half().float() if name.startswith(CLIP) else expected[name]
        assert torch.equal(weights[name], tensor), name
    assert model.cls["predictions"].decoder.weight is model.bert.embeddings.word_embeddings.weight
    unused = load_clip_and_bert(clip, bert, unused_weights=True, **FOUR)[0]
    assert unused.bert.encoder.visual_model.ln_final.weight.shape == (8,) and unused.config.clip_positions == 5


def test_a_new_model_for_a_task_skips_berts_heads(parts: tuple[Path, Path, ClipVil]) -> None:
    model, report = load_clip_and_bert(*parts[:2], heads=["qa"], num_labels=3, **FOUR)
    assert "answer_head.logit_fc.3.weight" in report.missing and "cls.seq_relationship.bias" in report.unexpected
    assert model.eval()(example(1, 5)).logits.shape == (1, 3)


def test_a_torchscript_archive_is_refused_with_the_command_that_converts_it(
    parts: tuple[Path, Path, ClipVil], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), str(tmp_path / "RN50.pt"))
    with pytest.raises(CheckpointError, match=r"RN50.pt: a TorchScript program.*torch.jit.load\(.*state_dict") as error:
        load_clip_and_bert(tmp_path / "RN50.pt", parts[1])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda weights: weights.update(extra=torch.zeros(1)), "first key at fault: extra"),
        (
            lambda weights: weights.pop("bert.pooler.dense.bias"),
            "1 missing.*first key at fault: bert.pooler.dense.bias",
        ),
        (lambda weights: weights.update({"bert.pooler.dense.bias": torch.zeros(5)}), r"\(5,\) in the file, \(24,\) in"),
        (lambda weights: weights.pop(CLIP + "visual.conv3.weight"), "no .*visual.conv3.weight in it; expected"),
        (lambda weights: weights.pop(CLIP + "visual.layer3.0.bn1.running_var"), "layer3.0.bn1.running_var"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(full: ClipVil, tmp_path: Path, edit: Any, fault: str) -> None:
    weights = export_original(full)
    edit(weights)
    with pytest.raises(CheckpointError, match=fault) as error:
        load_clip_vil(write(tmp_path / "Epoch11_LXRT.pth", weights), **FOUR)
    assert "\n" not in str(error.value)


def test_a_wrong_hidden_size_and_a_truncated_file_are_refused_in_a_line(full: ClipVil, tmp_path: Path) -> None:
    path = write(tmp_path / "Epoch11_LXRT.pth", export_original(full))
    with pytest.raises(CheckpointError, match=r"\(50, 24\) in the file, \(50, 32\) in the model") as error:
        load_clip_vil(path, hidden_size=32, **FOUR)
    assert "\n" not in str(error.value)
    path.write_bytes(path.read_bytes()[:5000])
    for load in (load_clip_vil, lambda cut: load_clip_and_bert(cut, path)):
        with pytest.raises(CheckpointError, match="not a readable weights file") as error:
            load(path)
        assert "\n" not in str(error.value)


def test_a_clip_of_another_kind_is_refused(parts: tuple[Path, Path, ClipVil], tmp_path: Path) -> None:
    vit = write(tmp_path / "ViT-B-32.pth", {"visual.conv1.weight": torch.zeros(8, 3, 32, 32)})
    with pytest.raises(CheckpointError, match="no .*visual.conv3.weight in it; expected .* kind RN50"):
        load_clip_and_bert(vit, parts[1])
