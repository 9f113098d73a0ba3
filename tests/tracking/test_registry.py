import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from vlx import checkpoints, tracking
from vlx.checkpoints import Loaded, LoadReport
from vlx.corpora.regions import DETECTOR, REGION_DIM
from vlx.errors import RegistryError
from vlx.models.oscar import Oscar, OscarConfig
from vlx.preprocessing import Preprocessing
from vlx.tokenization import WordPiece
from vlx.tracking import registry

NAME = "vlx-nlvr2-student"
DATA = {"task": "nlvr2", "split": "dev", "data_fingerprint": "f1"}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = WordPiece.train(["a red circle", "two blue squares"], size=60)
    config = OscarConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16, img_feature_dim=REGION_DIM + 6, num_choice=2, num_labels=2, classifier="linear",
    )  # fmt: skip
    preprocessing = Preprocessing(
        architecture="oscar", task="nlvr2", answers=("False", "True"), num_images=2, max_text_tokens=16, max_regions=5,
        region_dim=REGION_DIM, detector=DETECTOR,
    )  # fmt: skip
    loaded = Loaded(Oscar(config), tokenizer, preprocessing, LoadReport("from scratch"))
    return checkpoints.save(tmp_path_factory.mktemp("trained") / "model", loaded)


def picture(colour: str) -> bytes:
    image, buffer = Image.new("RGB", (40, 30), "white"), BytesIO()
    image.paste(colour, (5, 5, 15, 15))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def publish(options: Any, folder: Path, model: Path, **tags: Any) -> tuple[str | None, str]:
    with tracking.run(options(), name="r", description="", folder=folder) as run:
        run.log_metrics({"test/accuracy": 0.75}, step=5)
        run.log_model(model, name="student", task="nlvr2", metrics={"test/accuracy": 0.75}, step=5)
        return run.register(NAME, tags=DATA | tags), run.id


def version(server: Any, accuracy: float | str | None, **tags: str) -> str:
    """A registered version without a model, for the gate."""
    if not server.client.search_registered_models(f"name = '{NAME}'"):
        server.client.create_registered_model(NAME)
    scores = {} if accuracy is None else {"val/accuracy": str(accuracy)}
    return str(server.client.create_model_version(NAME, "file:///nowhere", tags=DATA | scores | tags).version)


def champion(server: Any) -> str:
    return str(server.client.get_registered_model(NAME).aliases.get("champion"))


def test_a_model_is_logged_registered_fetched_and_predicts_from_pictures(
    server: Any, options: Any, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    number, run_id = publish(options, tmp_path / "run", model_folder, **{"val/accuracy": 0.7})
    assert number == "1" and tracking.promote(NAME).moved
    registered = server.client.get_model_version(NAME, "1")
    assert registered.run_id == run_id and registered.tags["val/accuracy"] == "0.7"
    folder = tracking.download(f"models:/{NAME}@champion")
    assert (folder / "model.safetensors").read_bytes() == (model_folder / "model.safetensors").read_bytes()
    assert tracking.resolve(f"models:/{NAME}@champion") == f"models:/{NAME}/1"
    assert server.history(run_id, "test/accuracy") == [(5, 0.75)]  # the model's metric is the run's, not a second one

    logged = folder.parents[1]
    assert not any(path.suffix in (".pkl", ".pickle") for path in logged.rglob("*"))
    description = (logged / "MLmodel").read_text()
    assert str(tmp_path) not in description and str(model_folder) not in description
    signature = yaml.safe_load(description)["signature"]["inputs"]
    assert [column["name"] for column in json.loads(signature)] == ["text", "image_0", "image_1"]

    served = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    path = tmp_path / "a.png"
    path.write_bytes(picture("red"))
    encoded = base64.b64encode(picture("red")).decode()
    rows = [["a red circle", str(path), encoded], ["a red circle", encoded, f"data:image/png;base64,{encoded}"]]
    answers = served.predict(pd.DataFrame(rows, columns=["text", "image_0", "image_1"]))
    assert list(answers.columns) == ["answer", "score"] and answers.score.nunique() == 1
    assert answers.answer[0] in ("False", "True") and answers.score[0] >= 0.5


def test_a_resumed_run_that_publishes_again_makes_no_second_version(
    server: Any, options: Any, tmp_path: Path, model_folder: Path
) -> None:
    assert [publish(options, tmp_path / "run", model_folder)[0] for _ in range(2)] == ["1", "1"]
    state = tmp_path / "run" / "journal.state"
    state.unlink()  # as if killed before it was written: all is sent again
    assert publish(options, tmp_path / "run", model_folder)[0] == "1"
    assert len(server.client.search_logged_models([server.experiment])) == 1
    assert len(server.client.search_model_versions(f"name = '{NAME}'")) == 1


def test_a_better_version_takes_the_alias_and_both_versions_are_tagged_with_the_reason(server: Any) -> None:
    version(server, 0.70)
    assert tracking.promote(NAME).moved and champion(server) == "1"
    version(server, 0.72)
    verdict = tracking.promote(NAME, margin=0.01)
    assert verdict.moved and "0.7200 of version 2, 0.7000 of champion 1" in verdict.reason
    assert champion(server) == "2"
    new, old = (server.client.get_model_version(NAME, number).tags for number in "21")
    assert new["vlx.champion_before"] == "1" and verdict.reason in new["vlx.promoted"]
    assert verdict.reason in old["vlx.demoted"]


@pytest.mark.parametrize(
    ("accuracy", "tags", "margin", "reason"),
    [
        (0.70, {}, 0.0, "0.7000 of version 2, 0.7000 of champion 1"),
        (0.71, {}, 0.01, "margin 0.01"),
        (0.90, {"split": "test1"}, 0.0, "not comparable: split test1 and dev"),
        (0.90, {"data_fingerprint": "f2"}, 0.0, "not comparable: data_fingerprint f2 and f1"),
        (0.90, {"task": "nlvr"}, 0.0, "not comparable: task"),
    ],
)
def test_a_version_that_is_not_better_on_the_same_data_is_refused(
    server: Any, accuracy: float, tags: dict[str, str], margin: float, reason: str
) -> None:
    version(server, 0.70)
    tracking.promote(NAME)
    version(server, accuracy, **tags)
    verdict = tracking.promote(NAME, margin=margin)
    assert not verdict.moved and reason in verdict.reason and champion(server) == "1"
    assert server.client.get_model_version(NAME, "2").tags["vlx.not_promoted"] == verdict.reason


def test_the_champion_itself_is_refused_and_an_older_version_may_be_named(server: Any) -> None:
    version(server, 0.70)
    version(server, 0.60)
    assert tracking.promote(NAME, "1").moved
    assert "champion already" in tracking.promote(NAME, "1").reason and champion(server) == "1"


def test_rollback_goes_back_step_by_step_to_the_first(server: Any) -> None:
    for accuracy in (0.6, 0.7, 0.8):
        version(server, accuracy)
        assert tracking.promote(NAME).moved
    assert tracking.rollback(NAME).moved and champion(server) == "2"
    assert tracking.rollback(NAME).moved and champion(server) == "1"
    with pytest.raises(RegistryError, match="no champion before version 1"):
        tracking.rollback(NAME)


@pytest.mark.parametrize("accuracy", [None, "nan", "inf", "good"])
def test_a_version_without_a_usable_metric_is_a_mistake(server: Any, accuracy: Any) -> None:
    version(server, accuracy, **{"test/accuracy": "0.5"})
    with pytest.raises(RegistryError, match=r"val/accuracy"):
        tracking.promote(NAME)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"models:/{NAME}@champion", "no alias champion; it has 1. Give it with"),
        (f"models:/{NAME}/7", "no version 7; it has 1"),
        ("models:/nobody/1", "nobody: no such registered model"),
        ("models:/m-0123", "its files are not there"),
        ("somewhere/else", "expected models:/name@alias"),
    ],
)
def test_an_error_of_the_registry_is_one_line_that_lists_what_exists(server: Any, uri: str, message: str) -> None:
    version(server, 0.7)
    with pytest.raises(RegistryError, match=message.replace("/", "/")) as caught:
        tracking.download(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a b", "x' or '1'='1"])
def test_a_name_that_the_registry_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="expected letters"):
        registry.check_name(name)
