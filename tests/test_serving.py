"""A served model reads what it was trained on, and answers or says in one line why it cannot."""

import base64
import json
import shutil
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vlx import checkpoints, serving, synthetic, tasks
from vlx.checkpoints import Loaded
from vlx.config import FinetuneConfig
from vlx.corpora import Corpus
from vlx.errors import UserError
from vlx.inputs.dataset import TaskDatasets
from vlx.inputs.regions import InMemoryRegions, RegionInput
from vlx.preprocessing import Preprocessing
from vlx.recipes.build import new_task_model
from vlx.recipes.data import open_datasets

SMALL = {
    "task": "vqa", "hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vocab_size": 200,
    "max_text_tokens": 12, "max_regions": 3, "vision_width": 2, "image_min_size": 32, "image_max_size": 64,
    "sampled_grid_features": 1, "aspect_groups": 0,
}  # fmt: skip


def png(color: str) -> bytes:
    image = Image.new("RGB", (40, 30), "white")
    image.paste(color, (5, 5, 15, 15))
    image.save(buffer := BytesIO(), "PNG")
    return buffer.getvalue()


class RegionCounter:
    """A loaded model whose answer is more probable the more regions it sees."""

    preprocessing = Preprocessing(
        architecture="oscar", task="nlvr2", answers=("False", "True"), num_images=2, detector="d", max_text_tokens=8,
        max_regions=3,
    )  # fmt: skip

    def __init__(self) -> None:
        self.model = self
        self.wordpiece = self
        self.batch: dict[str, torch.Tensor] = {}

    def eval(self) -> None:
        pass

    def encode(self, texts: list[str], *, limit: int) -> list[list[int]]:
        return [[2, 7, 3]]

    def __call__(self, batch: dict[str, torch.Tensor]) -> Any:
        self.batch = batch
        self.logits = torch.tensor([[0.0, float(batch["region_mask"].sum())]])
        return self


def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Five regions of an image wider than 40 pixels, otherwise one."""
    count = 5 if image.size[0] > 40 else 1
    return np.ones((count, 4), np.float32), np.zeros((count, 4), np.float32)


@pytest.fixture
def loaded() -> RegionCounter:
    return RegionCounter()


@pytest.fixture
def served(loaded: RegionCounter) -> serving.AnswerModel:
    return serving.AnswerModel(loaded, RegionInput(InMemoryRegions({"": detect(Image.new("1", (1, 1)))}), 3, detect))


def test_regions_are_cut_and_padded_as_in_training(
    served: serving.AnswerModel, loaded: RegionCounter, tmp_path: Path
) -> None:
    Image.new("RGB", (50, 50)).save(tmp_path / "wide.png")
    (tmp_path / "small.png").write_bytes(png("red"))
    frame = pd.DataFrame(
        {"image_1": [str(tmp_path / "small.png")], "image_0": [str(tmp_path / "wide.png")], "text": ["x"]}
    )
    answers = served.predict(frame)
    assert loaded.batch["region_mask"].tolist() == [[[True] * 3, [True, False, False]]]
    assert loaded.batch["input_ids"].tolist() == [[[2, 7, 3]] * 2]
    assert answers.to_dict("records") == [{"answer": "True", "score": pytest.approx(0.98201379)}]  # sigmoid(4)


def test_a_missing_column_is_named(served: serving.AnswerModel) -> None:
    with pytest.raises(UserError, match="missing column image_1; expected text, image_0, image_1"):
        served.predict(pd.DataFrame({"text": ["x"], "image_0": ["y"]}))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return synthetic.build(tmp_path_factory.mktemp("vqa") / "corpus", task="vqa", size=20)


def saved(corpus: Corpus, folder: Path, model: str) -> tuple[Loaded, TaskDatasets]:
    cfg = FinetuneConfig(model=model, **(SMALL if model == "clip_vil" else regions_only()))
    task = tasks.load("vqa", corpus.answers("vqa"))
    loaded = new_task_model(cfg, task, corpus)
    checkpoints.save(folder, loaded)
    return loaded, open_datasets(corpus, task, loaded.wordpiece, loaded.preprocessing, cfg)


def regions_only() -> dict[str, Any]:
    pixel_options = {"vision_width", "image_min_size", "image_max_size", "sampled_grid_features", "aspect_groups"}
    return {name: value for name, value in SMALL.items() if name not in pixel_options}


@pytest.mark.parametrize("model", ["oscar", "clip_vil"])
def test_training_evaluation_and_serving_give_the_same_inputs_and_answers(
    corpus: Corpus, tmp_path: Path, model: str
) -> None:
    loaded, datasets = saved(corpus, tmp_path / "model", model)
    training = datasets.train.training_batch([0], seed=0, epoch=0)
    evaluation = datasets.train.batch([0])
    answer_model = serving._load_pyfunc(str(tmp_path / "model"))
    batches: list[dict[str, torch.Tensor]] = []
    answer_model.model.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]))
    example = datasets.train.examples[0]
    data = base64.b64encode(corpus.image_bytes(example["image_ids"][0]) or b"").decode()
    (row,) = answer_model.predict(pd.DataFrame({"text": [example["text"]], "image_0": [data]})).to_dict("records")
    names = {"input_ids", "text_mask", *({"pixels"} if model == "clip_vil" else {"regions", "boxes", "region_mask"})}
    assert batches[0].keys() == names
    for name in names:
        torch.testing.assert_close(training[name], evaluation[name], atol=0, rtol=0)
        tolerance = 1e-3 if name in ("regions", "boxes") else 0  # half precision in the corpus
        torch.testing.assert_close(batches[0][name], evaluation[name], atol=tolerance, rtol=0)
    with torch.no_grad():
        scores = loaded.model.eval()(evaluation).logits[0].sigmoid()
    assert row["score"] == pytest.approx(float(scores.max()), rel=1e-3)
    assert row["answer"] == datasets.train.task.answers[int(scores.argmax())]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": "external"}, "a detector that is not part of vlx"),
        ({"answers": []}, "selects a region: score it with the entry point"),
    ],
)
def test_a_model_that_cannot_be_served_is_one_line(
    corpus: Corpus, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    saved(corpus, tmp_path / "model", "oscar")
    folder = shutil.copytree(tmp_path / "model", tmp_path / "changed")
    content = json.loads((folder / "vlx.json").read_text()) | changes
    (folder / "vlx.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        serving._load_pyfunc(str(folder))
    assert "\n" not in str(caught.value)


def bomb() -> str:
    """A PNG whose header names 20,000 x 20,000 pixels."""
    data = bytearray(png("red"))
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no/such/file.png", "neither a file nor base64"),
        (base64.b64encode(b"not an image").decode(), "cannot identify image"),
        (base64.b64encode(png("red")[:60]).decode(), "image_0 "),
        ("data:image/png;base64,@@", "neither a file nor base64"),
        ("", "found str"),
        (None, "found NoneType"),
        (bomb(), "decompression bomb"),
    ],
)
def test_what_is_not_an_image_is_one_clear_line(text: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        serving.open_image(text, "image_0")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
