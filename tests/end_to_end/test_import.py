"""`import` as a user runs it: an original checkpoint of each architecture becomes a registered version, or none."""

import hashlib
import importlib
import json
from pathlib import Path

import mlflow
import pytest
import torch

from tests.checkpoints import test_vle as vle_files
from tests.models import test_clip_vil, test_vle
from tests.models.helpers import VOCAB_SIZE, build
from vlx import checkpoints
from vlx.checkpoints.originals import clip_vil, lxmert, read_original, vilbert, vle
from vlx.config import ImportConfig
from vlx.errors import CheckpointError
from vlx.models.heads import Head
from vlx.models.spec import load_spec
from vlx.tokenization import WordPiece

main = importlib.import_module("entrypoints.import").main
ANSWERS = ["yes", "no", "red"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def write_original(name: str, folder: Path) -> Path:
    """A small original checkpoint, as the architecture's original code saves it."""
    folder.mkdir()
    WordPiece.train(["what color is it ?"], size=VOCAB_SIZE).save(folder)
    if name == "vle":
        model = test_vle.build(heads=["vqa"])
        vle_files.write(folder, vle.export_original(model), model)
        return folder
    if name == "clip_vil":
        model = test_clip_vil.build(hidden_size=64, heads=["qa"])
        torch.save(clip_vil.export_original(model), folder / "Epoch09_LXRT.pth")
        return folder
    model = build(name, Head("classify", len(ANSWERS)), hidden_size=64, heads=1)
    if name == "oscar":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    elif name == "lxmert":
        weights = lxmert.export_original(model)
        torch.save({f"module.{key}": value for key, value in weights.items()}, folder / "BEST.pth")
    else:
        torch.save(vilbert.export_original(model), folder / "pytorch_model_19.bin")
        heads = {"num_attention_heads": 1, "v_num_attention_heads": 1, "bi_num_attention_heads": 1}
        bridges = {key: list(getattr(model.config, key)) for key in ("v_biattention_id", "t_biattention_id")}
        (folder / "config.json").write_text(json.dumps(heads | bridges))
    return folder


@pytest.mark.parametrize("name", ["oscar", "lxmert", "vilbert", "clip_vil", "vle"])
def test_a_checkpoint_of_every_architecture_becomes_a_version(name: str, tmp_path: Path) -> None:
    folder = write_original(name, tmp_path / "original")
    assert main(ImportConfig(model=name, weights=str(folder))) == "1"
    client = mlflow.MlflowClient()
    registered = f"vlx-{name.replace('_', '-')}-original"
    version = client.get_model_version(registered, "1")
    assert version.tags["architecture"] == name and version.tags["source_sha256"] == checkpoints.digest(folder)
    assert "100.0% of the parameters restored" in version.tags["load_report"]
    artifacts = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"load_report.json", "model_card.md", "config.json"} <= artifacts
    loaded = checkpoints.load(f"models:/{registered}/1")
    source, report = read_original(load_spec(name), folder)
    weights = loaded.model.state_dict()
    expected = source.state_dict()
    assert report.share == 1.0 and weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)
    given = next(file for file in folder.iterdir() if file.suffix in (".pth", ".bin"))
    checkpoints.write_original(load_spec(name), loaded.model, tmp_path / "out.pth")
    before, after = (torch.load(file, weights_only=True) for file in (given, tmp_path / "out.pth"))
    before = {key.removeprefix("module."): value for key, value in before.items()}
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_the_answers_are_saved_with_the_model_and_must_be_as_many(tmp_path: Path) -> None:
    folder = write_original("lxmert", tmp_path / "original")
    file = tmp_path / "trainval_label2ans.json"
    file.write_text(json.dumps(ANSWERS))
    cfg = ImportConfig(model="lxmert", weights=str(folder), task="vqa", answers=str(file), name="lxmert-vqa")
    assert main(cfg) == "1"
    assert checkpoints.load("models:/lxmert-vqa/1").preprocessing.answers == tuple(ANSWERS)
    file.write_text(json.dumps([{"ans": answer, "dsets": ["vqa"]} for answer in ANSWERS]))  # as LXMERT's all_ans.json
    assert checkpoints.read_answers(file) == ANSWERS
    file.write_text(json.dumps(ANSWERS[:2]))
    with pytest.raises(CheckpointError, match="2 answers, the model has 3"):
        main(cfg)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "LAST.pth").write_bytes(b"")
    (tmp_path / "two" / "BEST.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="found BEST.pth, LAST.pth, expected one file"):
        main(ImportConfig(model="lxmert", weights=str(tmp_path / "two")))
    assert len(mlflow.MlflowClient().search_model_versions("name = 'lxmert-vqa'")) == 1


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"weights")
    assert checkpoints.digest(tmp_path / "a.pth") == hashlib.sha256(b"weights").hexdigest()
