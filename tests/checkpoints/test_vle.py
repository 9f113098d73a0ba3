"""The original's folders, Lightning's files and DeepSpeed's shards load in full and are exported unchanged."""

import json
import pickle
import sys
from enum import IntEnum
from itertools import accumulate
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.models.test_vle import PATCHES, build, example
from vlx.checkpoints.originals.vle import BUFFERS, export_original, load_vle, merge_zero
from vlx.errors import CheckpointError
from vlx.models.vle import HEADS, Vle

Weights = dict[str, Tensor]
SCALER = "deepspeed.runtime.fp16.loss_scaler"  # an object of this module is in every shard


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def write_config(folder: Path, model: Vle, **changes: object) -> Path:
    """An original config.json: sizes of encoders and fusion, and the bookkeeping of transformers 4.26."""
    entries = model.config.to_dict()
    labels = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}
    (folder / "config.json").write_text(json.dumps(entries | labels | {"model_type": "vle", "top_k": 50} | changes))
    return folder / "config.json"


def write(folder: Path, weights: Weights, model: Vle, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "pytorch_model.bin")
    write_config(folder, model, **changes)
    return folder


@pytest.fixture(scope="module")
def model() -> Vle:
    return build(heads=["vqa", "mlm"])


@pytest.fixture
def folder(model: Vle, tmp_path: Path) -> Path:
    return write(tmp_path / "original", export_original(model), model)


def same(first: Vle, second: Vle) -> bool:
    weights = [export_original(model) for model in (first, second)]
    return weights[0].keys() == weights[1].keys() and all(map(torch.equal, weights[0].values(), weights[1].values()))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_the_round_trip_is_exact(model: Vle, tmp_path: Path, prefix: str) -> None:
    loaded, report = load_vle(write(tmp_path, prefixed(export_original(model), prefix), model))
    assert same(model, loaded) and report.share == 1.0 and not report.missing
    assert report.unexpected == [f"{prefix}{name}" for name in BUFFERS]
    assert len(report.renamed) == (len(report.matched) if prefix else 0)
    batch = example(1, 6)
    torch.testing.assert_close(loaded.eval()(batch).logits, model(batch).logits)


def test_the_export_has_the_buffers_of_transformers_4_26(model: Vle) -> None:
    exported = export_original(model)
    assert [exported[name].shape for name in BUFFERS] == [(1, 1 + PATCHES), (1, 32)]
    assert exported[BUFFERS[0]].tolist() == [[*range(1 + PATCHES)]]


def test_heads_and_number_of_answers_come_from_the_file(folder: Path) -> None:
    config = load_vle(folder)[0].config
    assert (config.heads, config.num_labels) == (["vqa", "mlm"], 7)
    assert config.vision_config.image_size == 24 and not hasattr(config, "top_k")
    config = load_vle(folder, heads=("mlm",))[0].config
    assert config.heads == ["mlm"]


def test_named_answers_are_loaded_and_must_match_the_size_of_the_head(model: Vle, tmp_path: Path) -> None:
    answers = {str(label): f"answer {label}" for label in range(7)}
    config = load_vle(write(tmp_path, export_original(model), model, id2label=answers))[0].config
    assert config.id2label == {label: f"answer {label}" for label in range(7)}
    with pytest.raises(CheckpointError, match=r"vqa_classifier.3.weight \(\(7, 32\) in the file, \(2, 32\) in the"):
        load_vle(write(tmp_path, export_original(model), model, id2label={"0": "yes", "1": "no"}))


def test_a_trunk_alone_gets_a_new_head_with_new_head(model: Vle, tmp_path: Path) -> None:
    trunk = {
        name.removeprefix("vle."): value for name, value in export_original(model).items() if name.startswith("vle.")
    }
    path = write(tmp_path, trunk, model)
    with pytest.raises(CheckpointError, match="it has no head. Name those that shall start at random, of vqa, itm"):
        load_vle(path)
    with pytest.raises(CheckpointError, match="vqa_classifier"):
        load_vle(path, heads=("vqa",))
    loaded, report = load_vle(path, heads=("vqa",), new_head=True, num_labels=3)
    assert {name.split(".")[0] for name in report.missing} == {"vqa_classifier"} and loaded.config.num_labels == 3
    assert torch.equal(loaded.vle.token_type_embeddings.weight, model.vle.token_type_embeddings.weight)


def test_a_clip_configuration_may_be_nested(model: Vle, tmp_path: Path) -> None:
    nested = {"model_type": "clip", "vision_config": model.config.vision_config.to_dict(), "projection_dim": 3}
    assert same(load_vle(write(tmp_path, export_original(model), model, vision_config=nested))[0], model)


def test_the_mlm_decoder_is_tied_to_the_embeddings_even_if_the_file_holds_another(model: Vle, tmp_path: Path) -> None:
    """As the original does when it loads: its file may hold an untied decoder."""
    weights = export_original(model)
    weights["mlm_score.1.predictions.decoder.weight"] = torch.zeros(50, 24)
    assert same(load_vle(write(tmp_path / "untied", weights, model))[0], model)
    del weights["mlm_score.1.predictions.decoder.weight"]  # as in safetensors
    assert same(load_vle(write(tmp_path / "once", weights, model))[0], model)


def test_half_precision_is_widened(model: Vle, tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in export_original(model).items()}
    loaded, report = load_vle(write(tmp_path, halves, model))
    assert report.share == 1.0 and loaded.dtype == torch.float32
    assert torch.equal(loaded.vle.token_type_embeddings.weight, halves["vle.token_type_embeddings.weight"].float())


def test_positions_and_the_configuration_are_resized(folder: Path, model: Vle, tmp_path: Path) -> None:
    larger = load_vle(folder, image_size=32)[0]
    assert larger.config.vision_config.image_size == 32
    batch = example(2, 6) | {"pixels": torch.randn(1, 3, 32, 32)}
    assert larger.eval()(batch).region_hidden.shape == (1, 1 + 16, 16)
    stale = write(tmp_path / "stale", export_original(larger), model)  # as the original leaves it: config.json says 24
    loaded = load_vle(stale)[0]
    assert loaded.config.vision_config.image_size == 32 and same(loaded, larger)


def test_a_lightning_file_uses_the_configuration_in_its_folder(model: Vle, tmp_path: Path) -> None:
    states = {"state_dict": prefixed(export_original(model), "model."), "epoch": 3, "hyper_parameters": {"seed": 0}}
    torch.save(states, tmp_path / "step=0.ckpt")
    with pytest.raises(CheckpointError, match="config.json: No such file"):
        load_vle(tmp_path / "step=0.ckpt")
    write_config(tmp_path, model)
    assert same(load_vle(tmp_path / "step=0.ckpt")[0], model)
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "config.json").rename(tmp_path / "elsewhere" / "config.json")
    assert same(load_vle(tmp_path / "step=0.ckpt", config=moved)[0], model)


def shard(folder: Path, weights: Weights, *, ranks: int, stage: int) -> Path:
    """DeepSpeed's files of two parameter groups: fp16 weights and fp32 shards."""
    tag = folder / "global_step12"
    tag.mkdir(parents=True)
    (folder / "latest").write_text("global_step12")
    names = [name for name in weights if not name.endswith("position_ids")]
    groups = [[name for name in names if "bias" not in name], [name for name in names if "bias" in name]]
    shapes = [{name: weights[name].shape for name in group} for group in groups]
    states = {name: value if value.dtype == torch.long else value.half() for name, value in weights.items()}
    buffers = [name for name in weights if name not in names]
    model = {"module": states, "buffer_names": buffers, "param_shapes": shapes, "ds_version": "0.7.7"}
    first = "zero_pp_rank_0_mp_rank_00" if stage == 3 else "mp_rank_00"
    torch.save(model, tag / f"{first}_model_states.pt")
    for rank in range(ranks):
        if stage == 3:
            parts = [[part(weights[name].flatten(), ranks, 1)[rank] for name in group] for group in groups]
            state = {"fp32_flat_groups": [torch.cat(group) for group in parts]}
        else:
            flats = [torch.cat([weights[name].flatten() for name in group]) for group in groups]
            state = {"single_partition_of_fp32_groups": [part(flat, ranks, 2)[rank] for flat in flats]}
        module = sys.modules[SCALER]
        scaler = module.LossScaler()
        scaler.cur_scale = 1
        state |= {"partition_count": [ranks, ranks], "zero_stage": module.Stage(stage), "loss_scaler": scaler}
        torch.save({"optimizer_state_dict": state}, tag / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    return folder


def part(flat: Tensor, ranks: int, align: int) -> list[Tensor]:
    """Equal parts, zeros at the end."""
    padding = flat.new_zeros(-len(flat) % (align * ranks))
    return list(torch.cat([flat, padding]).chunk(ranks))


@pytest.fixture
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes in place of DeepSpeed's, so that they can be saved."""
    modules = {name: ModuleType(name) for name in accumulate(SCALER.split("."), "{}.{}".format)}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules[SCALER].LossScaler = type("LossScaler", (), {"__module__": SCALER})
    modules[SCALER].Stage = IntEnum("Stage", ["one", "two", "three"], module=SCALER)


@pytest.mark.parametrize(("stage", "ranks"), [(2, 1), (2, 3), (3, 3)])
def test_shards_of_deepspeed_are_merged_without_it(
    model: Vle, tmp_path: Path, deepspeed: None, monkeypatch: pytest.MonkeyPatch, stage: int, ranks: int
) -> None:
    folder = shard(tmp_path / "step", prefixed(export_original(model), "module.model."), ranks=ranks, stage=stage)
    monkeypatch.undo()
    write_config(tmp_path, model)
    assert same(load_vle(folder)[0], model)
    assert merge_zero(folder / "global_step12").keys() == prefixed(export_original(model), "module.model.").keys()


def test_a_missing_or_short_shard_is_refused_in_one_line(model: Vle, tmp_path: Path, deepspeed: None) -> None:
    write_config(tmp_path, model)
    for number, (edit, fault) in enumerate(
        [
            (
                lambda tag: (tag / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink(),
                r"ranks \[0, 2\], expected 0 to 2",
            ),
            (lambda tag: (tag / "mp_rank_00_model_states.pt").unlink(), "no \\*_model_states.pt"),
            (lambda tag: replace_last(tag, 5), "expected [0-9]+. Are all shards of one step"),
            (lambda tag: replace_last(tag, 99_999), "expected [0-9]+. Are all shards of one step"),
            (lambda tag: torch.save({}, tag / "mp_rank_00_model_states.pt"), "no module in it"),
            (lambda tag: (tag / "mp_rank_00_model_states.pt").write_bytes(b"PK"), "not a readable checkpoint"),
        ]
    ):
        folder = shard(tmp_path / str(number), export_original(model), ranks=3, stage=2)
        edit(folder / "global_step12")
        with pytest.raises(CheckpointError, match=fault) as error:
            load_vle(folder)
        assert "\n" not in str(error.value)


def replace_last(tag: Path, numbers: int) -> None:
    """Replace the last shard with one of another size."""
    path = tag / "zero_pp_rank_2_mp_rank_00_optim_states.pt"
    state = {"single_partition_of_fp32_groups": [torch.zeros(numbers)] * 2, "partition_count": 3}
    torch.save({"optimizer_state_dict": state}, path)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (
            lambda weights: weights.pop("vle.text_projection_layer.weight"),
            "1 missing.*vle.text_projection_layer.weight",
        ),
        (lambda weights: weights.update(extra=torch.zeros(1)), "first key at fault: extra"),
        (
            lambda weights: weights.update({"vle.text_projection_layer.bias": torch.zeros(5)}),
            r"\(5,\) in the file, \(16,\) in",
        ),
        (
            lambda weights: weights.update(dict.fromkeys(["vle.vision_vision_pre"], torch.zeros(1))),
            "vle.vision_vision_pre",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(model: Vle, tmp_path: Path, edit: object, fault: str) -> None:
    weights = export_original(model)
    edit(weights)
    with pytest.raises(CheckpointError, match=fault) as error:
        load_vle(write(tmp_path, weights, model))
    assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"PK\x03\x04 not a zip", pickle.dumps({"a": 1})])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "last.ckpt"])
def test_a_hostile_or_broken_file_is_refused_and_not_executed(
    model: Vle, tmp_path: Path, content: bytes, name: str
) -> None:
    write_config(tmp_path, model)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        load_vle(tmp_path / name)
    assert "\n" not in str(error.value) and not Path("exploded").exists()


def test_a_hostile_object_in_a_valid_file_is_refused_and_not_executed(model: Vle, tmp_path: Path) -> None:
    write_config(tmp_path, model)
    torch.save({"state_dict": {}, "callbacks": Bomb()}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_vle(tmp_path / "last.ckpt")
    assert not Path("exploded").exists()


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="not a readable weights file"):
        load_vle(folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"vision_config": None}, "not a VLE configuration"),
        ({"text_config": {"model_type": "bert"}}, "towers bert and clip_vision_model, expected deberta-v2 and"),
        ({"hidden_size": 20}, r"in the file, .* in the model"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    model: Vle, tmp_path: Path, changes: dict[str, object], fault: str
) -> None:
    with pytest.raises(CheckpointError, match=fault):
        load_vle(write(tmp_path, export_original(model), model, **changes))


def test_every_head_is_recognized_by_its_names_in_the_file(tmp_path: Path) -> None:
    model = build()
    assert load_vle(write(tmp_path, export_original(model), model))[0].config.heads == list(HEADS)
