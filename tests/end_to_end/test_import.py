"""`import` as a user runs it: an original checkpoint of each system becomes a registered version, or nothing does."""

import hashlib
import importlib
import json
from pathlib import Path

import mlflow
import pytest
import torch
from vlx.checkpoints.clip_vil import export_clip_vil
from vlx.checkpoints.lxmert import export_lxmert
from vlx.checkpoints.vilbert import export_vilbert

from tests.checkpoints import test_vle as vle_files
from tests.models import test_clip_vil, test_vle
from tests.models.test_registered import SIZES
from vlx import checkpoints, models
from vlx.config import ImportConfig
from vlx.errors import CheckpointError
from vlx.models import Head
from vlx.tokenization import WordPiece

main = importlib.import_module("entrypoints.import").main
ANSWERS = ["yes", "no", "red"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def original(system: str, folder: Path) -> Path:
    """A small original checkpoint, as the system's own code saves it."""
    folder.mkdir()
    WordPiece.train(["what color is it ?"], size=SIZES.vocab_size).save(folder)
    if system in models.SYSTEMS:
        model = models.build(system, Head("classify", len(ANSWERS)), SIZES._replace(hidden=64, heads=1), seed=0)
    if system == "oscar":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
        return folder
    if system == "lxmert":
        torch.save({f"module.{name}": value for name, value in export_lxmert(model).items()}, folder / "BEST.pth")
    elif system == "vilbert":
        torch.save(export_vilbert(model), folder / "pytorch_model_19.bin")
        (folder / "config.json").write_text(json.dumps({"num_attention_heads": 1, "v_num_attention_heads": 1,
                                                       "bi_num_attention_heads": 1, **biattention(model)}))  # fmt: skip
    elif system == "clip_vil":
        torch.save(export_clip_vil(test_clip_vil.build(hidden_size=64, heads=["answers"])), folder / "Epoch09_LXRT.pth")
    else:
        model = test_vle.build(heads=["vqa"])
        vle_files.write(folder, vle_files.export_vle(model), model)
    return folder


def biattention(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(getattr(model.config, name)) for name in ("v_biattention_id", "t_biattention_id")}


@pytest.mark.parametrize("system", ["oscar", "lxmert", "vilbert", "clip_vil", "vle"])
def test_a_checkpoint_of_every_system_becomes_a_version(system: str, tmp_path: Path) -> None:
    folder = original(system, tmp_path / "original")
    assert main(ImportConfig(system=system, weights=str(folder))) == "1"
    client, name = mlflow.MlflowClient(), f"vlx-{system.replace('_', '-')}-original"
    version = client.get_model_version(name, "1")
    assert version.tags["system"] == system and version.tags["source_sha256"] == checkpoints.digest(folder)
    assert "100.0% of the parameters restored" in version.tags["load_report"]
    artifacts = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"load_report.json", "model_card.md", "config.json"} <= artifacts
    loaded = checkpoints.load(f"models:/{name}/1")
    again, report = checkpoints.originals.read_original(system, folder)
    ours, theirs = loaded.model.state_dict(), again.state_dict()
    assert report.share == 1.0 and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    given = next(file for file in folder.iterdir() if file.suffix in (".pth", ".bin"))
    checkpoints.write_original(system, loaded.model, tmp_path / "out.pth")
    before, after = (torch.load(file, weights_only=True) for file in (given, tmp_path / "out.pth"))
    before = {name.removeprefix("module."): value for name, value in before.items()}
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_the_answers_go_with_the_model_and_must_be_as_many(tmp_path: Path) -> None:
    folder, file = original("lxmert", tmp_path / "original"), tmp_path / "trainval_label2ans.json"
    file.write_text(json.dumps(ANSWERS))
    cfg = ImportConfig(system="lxmert", weights=str(folder), task="vqa", answers=str(file), name="lxmert-vqa")
    assert main(cfg) == "1"
    assert checkpoints.load("models:/lxmert-vqa/1").meta["answers"] == ANSWERS
    file.write_text(json.dumps([{"ans": answer, "dsets": ["vqa"]} for answer in ANSWERS]))  # as LXMERT's all_ans.json
    assert checkpoints.originals.read_answers(file) == ANSWERS
    file.write_text(json.dumps(ANSWERS[:2]))
    with pytest.raises(CheckpointError, match="2 answers, the model has 3"):
        main(cfg)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "LAST.pth").write_bytes(b"")
    (tmp_path / "more" / "BEST.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="found BEST.pth, LAST.pth, expected one file"):
        main(ImportConfig(system="lxmert", weights=str(tmp_path / "more")))
    assert len(mlflow.MlflowClient().search_model_versions("name = 'lxmert-vqa'")) == 1


def test_the_digest_is_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    assert checkpoints.digest(tmp_path / "a.pth") == hashlib.sha256(b"weights").hexdigest()
