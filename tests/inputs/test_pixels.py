"""Batches of images: of one frame, decoded once, and in training a part of each image's grid."""

from collections import Counter
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inputs.pixel_toy import jpg, write_pretraining_corpus
from vlx.corpora import Corpus
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError
from vlx.inputs.image_processor import ImageProcessor
from vlx.inputs.pixels import DecodedImages, PixelInput

PROCESSOR = ImageProcessor(image_min_size=32, image_max_size=64)
LENGTHS = np.zeros(36)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_pretraining_corpus(tmp_path / "corpus")


@pytest.fixture
def image_ids(corpus: Corpus) -> list[str]:
    return [row[0] for row in corpus.examples("pretrain", "mscoco_train")["image_ids"]]


def pixel_input(corpus: Corpus, *, factor: int = 0, sampled_grid_features: int = 0) -> PixelInput:
    return PixelInput(DecodedImages(corpus, PROCESSOR), factor, sampled_grid_features)


def is_wide(corpus: Corpus, image_id: str) -> bool:
    width, height = corpus.image_size(image_id)
    return width > height


def test_a_batch_has_one_frame_and_an_epoch_its_own_order(corpus: Corpus, image_ids: list[str]) -> None:
    inputs = pixel_input(corpus, factor=2)
    epochs = [inputs.epoch_batches(image_ids, LENGTHS, 5, seed=3, epoch=epoch) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [5] * 7, "36 examples; one is left out"
        for batch in batches:
            names = [image_ids[index] for index in batch]
            (wide,) = {is_wide(corpus, name) for name in names}
            assert inputs.tensors(names)["pixels"].shape == ((5, 3, 32, 64) if wide else (5, 3, 64, 32))


def test_in_evaluation_every_example_comes_once_in_a_batch_of_one_frame(corpus: Corpus, image_ids: list[str]) -> None:
    batches = pixel_input(corpus).ordered_batches(image_ids, LENGTHS, 10)
    assert Counter(index for batch in batches for index in batch) == Counter(range(36))
    for batch in batches:
        assert len({is_wide(corpus, image_ids[index]) for index in batch}) == 1


def test_an_image_that_becomes_a_square_is_not_cropped(tmp_path: Path) -> None:
    """65 x 64 is wide, and 32 x 32 in the frame, which is portrait: the original groups it with the wide."""
    with CorpusWriter(tmp_path / "corpus") as writer:
        for name, size in (("almost", (65, 64)), ("square", (64, 64)), ("wide", (64, 32))):
            writer.add_image(name, size=size, data=jpg(size, (250, 250, 250)))
        writer.add_examples("pretrain", "mscoco_train", [Example("0", "an image", ["wide"])])
        writer.commit(reader="toy", detector="none", source=[])
    inputs = pixel_input(Corpus(tmp_path / "corpus"))
    almost, square, wide = inputs.groups(["almost", "square", "wide"])
    assert almost == square != wide
    pixels = inputs.tensors(["square", "almost"])["pixels"][1]
    assert (pixels[:, 16:48] > 1.5).all() and (pixels[:, :16] < 0).all() and (pixels[:, 48:] < 0).all()


def test_sampled_grid_features_are_distinct_drawn_for_each_example_and_uniform(
    corpus: Corpus, image_ids: list[str]
) -> None:
    first = image_ids[:1]
    single = pixel_input(corpus, sampled_grid_features=1)
    cells = torch.cat(
        [single.tensors(first, generators=[Random(seed)])["sampled_grid_features"] for seed in range(400)]
    )
    assert cells.shape == (400, 1) and abs(int(cells.sum()) - 200) < 50  # of cells 0 and 1; deviation 10
    generators = [Random(seed) for seed in range(3)]
    both = pixel_input(corpus, sampled_grid_features=2).tensors(first * 3, generators=generators)
    assert both["sampled_grid_features"].sort(1).values.tolist() == [[0, 1]] * 3
    assert "sampled_grid_features" not in pixel_input(corpus).tensors(first, generators=[Random(0)])
    assert "sampled_grid_features" not in single.tensors(first), "evaluation sees all"


def test_an_image_is_decoded_once(corpus: Corpus, image_ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = pixel_input(corpus)
    names = image_ids[:1] * 3
    first = inputs.tensors(names)["pixels"]
    monkeypatch.setattr(corpus, "image_bytes", None)  # another read would fail
    assert torch.equal(inputs.tensors(names)["pixels"], first)


def test_training_evaluation_and_serving_give_the_same_pixels(corpus: Corpus, image_ids: list[str]) -> None:
    inputs = pixel_input(corpus, sampled_grid_features=1)
    for name in image_ids[:7:3]:  # wide, tall, square
        training = inputs.tensors([name], generators=[Random(0)])["pixels"]
        served = inputs.from_images([Image.open(BytesIO(corpus.image_bytes(name) or b""))])
        assert torch.equal(training, inputs.tensors([name])["pixels"])
        assert served.keys() == {"pixels"} and torch.equal(training, served["pixels"])


def test_what_cannot_be_read_is_one_line(corpus: Corpus, image_ids: list[str], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="36 examples, fewer than batch_size=37"):
        pixel_input(corpus).epoch_batches(image_ids, LENGTHS, 37, seed=0, epoch=0)
    with CorpusWriter(tmp_path / "bare") as writer:
        writer.add_image("0")
        writer.add_examples("pretrain", "mscoco_train", [Example("0", "an image", ["0"])])
        writer.commit(reader="toy", detector="none", source=[])
    with pytest.raises(CorpusError, match="image 0 has no pixels, which this model reads"):
        pixel_input(Corpus(tmp_path / "bare")).tensors(["0"])
