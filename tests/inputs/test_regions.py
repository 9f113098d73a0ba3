"""Regions of an image, cut and padded; the same in training, evaluation and serving."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from vlx import corpora
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter
from vlx.inputs.regions import InMemoryRegions, RegionInput

SIZES = {"few": (40, 30), "many": (64, 64)}


def detect(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Two regions of the small image, five of the large one."""
    count = 2 if image.size == SIZES["few"] else 5
    generator = np.random.default_rng(count)
    boxes = np.sort(generator.random((count, 4), np.float32), 1)
    return generator.random((count, 3), np.float32), boxes


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    with CorpusWriter(tmp_path / "corpus", dtype="float32") as writer:
        for name, size in SIZES.items():
            writer.add_image(name, *detect(Image.new("RGB", size)), size=size)
        writer.add_examples("vqa", "train", [Example("0", "a text", ["few"])])
        writer.commit(reader="toy", detector="external", source=[])
    return corpora.open(tmp_path / "corpus")


def test_regions_are_cut_to_the_first_and_padded_with_zeros(corpus: Corpus) -> None:
    inputs = RegionInput(corpus, max_regions=3)
    assert inputs.lengths(["many", "few", "many"]).tolist() == [3, 2, 3]
    batch = inputs.tensors(["few", "many"])
    assert batch["region_mask"].tolist() == [[True, True, False], [True] * 3]
    features, boxes = detect(Image.new("RGB", SIZES["many"]))
    np.testing.assert_array_equal(batch["regions"][1], features[:3])
    np.testing.assert_array_equal(batch["boxes"][1], boxes[:3])
    assert not batch["regions"][0, 2].any() and not batch["boxes"][0, 2].any()


def test_training_evaluation_and_serving_give_the_same_tensors(corpus: Corpus) -> None:
    inputs = RegionInput(corpus, 3, detect)
    training = inputs.tensors(list(SIZES), generators=[Random(0), Random(1)])
    evaluation = inputs.tensors(list(SIZES))
    served = inputs.from_images([Image.new("RGB", size) for size in SIZES.values()])
    in_memory = RegionInput(InMemoryRegions({name: corpus.regions(name) for name in SIZES}), 3).tensors(list(SIZES))
    for batch in (evaluation, served, in_memory):
        assert batch.keys() == training.keys()
        assert all(torch.equal(batch[name], values) for name, values in training.items())


def test_an_input_without_a_detector_serves_no_images(corpus: Corpus) -> None:
    with pytest.raises(RuntimeError, match="no detector"):
        RegionInput(corpus, 3).from_images([Image.new("RGB", SIZES["few"])])
