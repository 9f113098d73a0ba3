"""`prepare` as a user runs it: killed and run again, checked, and told what is wrong."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest

from entrypoints.prepare import main
from vlx import corpora, synthetic
from vlx.config import PrepareConfig
from vlx.errors import CorpusError

ENTRY = Path(__file__).parents[2] / "entrypoints" / "prepare.py"
KILLS = 5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    synthetic.write_sources(folder, task="nlvr2", seed=0, size=4_000, difficulty="normal")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


def size(folders: list[Path]) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def test_killed_at_five_moments_prepare_ends_with_the_same_fingerprint(source: Path, tmp_path: Path) -> None:
    whole = corpora.prepare("nlvr2", source, tmp_path / "whole")
    words = [f"--source={source}", "--format=nlvr2", f"--out={tmp_path / 'killed'}"]
    rng = random.Random(int(os.environ.get("VLX_KILL_SEED", "0")))
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, str(ENTRY), *words], stderr=subprocess.DEVNULL)
        until = rng.random() * 0.95 * size([whole.path])
        while process.poll() is None and size(list(tmp_path.glob(".killed.partial-*"))) <= until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was done before the kill"
        assert not (tmp_path / "killed").exists(), "a half-written corpus has a corpus's name"
    subprocess.run([sys.executable, str(ENTRY), *words], check=True)
    assert corpora.open(tmp_path / "killed").fingerprint == whole.fingerprint
    assert not list(tmp_path.glob(".killed*"))


def test_the_run_shows_counts_manifest_histograms_and_the_validation(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    fingerprint = main(PrepareConfig(source=str(source), format="nlvr2", out=str(out), check=True))
    client = mlflow.MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'vlx'") or client.search_experiments()
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["vlx.data_fingerprint"] == fingerprint
    assert run.data.metrics["corpus/nlvr2/train"] == 4_000 and run.data.metrics["corpus/region_dim"] == 68
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {"manifest.json", "validation.txt"} <= names
    assert {"figures/regions_of_an_image.png", "figures/words_of_a_text_of_nlvr2.png"} <= figures


def test_a_fault_ends_with_one_line_after_the_table(source: Path, tmp_path: Path) -> None:
    corpus = corpora.prepare("nlvr2", source, tmp_path / "corpus")
    with (corpus.path / "features.npy").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(np.float16("nan").tobytes())
    with pytest.raises(
        CorpusError, match="feature that is not a number: 1, first test1-.*. Correct the source"
    ) as error:
        main(PrepareConfig(corpus=str(corpus.path), check=True))
    assert "\n" not in str(error.value)
    with pytest.raises(CorpusError, match="already there"):
        main(PrepareConfig(source=str(source), format="nlvr2", out=str(corpus.path)))
