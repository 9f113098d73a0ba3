"""Batches of pictures: of one canvas, decoded once, and in training a part of each picture's grid."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import torch
from vlx.training.pair_pixels import Canvases, Pixels

from tests.training.pixel_toy import jpg, write_corpus
from vlx.corpora import Corpus
from vlx.corpora.store import Example
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError


@pytest.fixture
def canvases(tmp_path: Path) -> Canvases:
    return Canvases(write_corpus(tmp_path / "corpus"), shortest=32, longest=64)


def toy_images(canvases: Canvases) -> list[str]:
    return list(canvases.corpus.examples("pretrain", "mscoco_train")["image_ids"][index][0] for index in range(36))


def test_a_batch_has_one_canvas_and_an_epoch_its_own_order(canvases: Canvases) -> None:
    images, side = toy_images(canvases), Pixels(canvases, factor=2)
    epochs = [side.epoch_batches(images, None, 5, seed=3, epoch=epoch) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [5] * 7, "36 examples; one is left out"
        for batch in batches:
            widths = {
                width > height for width, height in (canvases.corpus.image_size(images[index]) for index in batch)
            }
            assert len(widths) == 1
            shape = (5, 3, 32, 64) if widths.pop() else (5, 3, 64, 32)
            assert side.batch([images[index] for index in batch], [])["pixels"].shape == shape


def test_for_validation_every_example_comes_once_among_its_like(canvases: Canvases) -> None:
    images, side = toy_images(canvases), Pixels(canvases, factor=0)
    batches = side.ordered_batches(images, None, 10)
    assert Counter(index for batch in batches for index in batch) == Counter(range(36))
    for batch in batches:
        assert (
            len({width > height for width, height in (canvases.corpus.image_size(images[index]) for index in batch)})
            == 1
        )


def test_a_picture_that_becomes_a_square_is_not_cropped(tmp_path: Path) -> None:
    """65 x 64 is wide, and 32 x 32 on the canvas, which is upright: the original groups it with the wide."""
    with CorpusWriter(tmp_path / "corpus") as writer:
        for name, size in (("almost", (65, 64)), ("square", (64, 64)), ("wide", (64, 32))):
            writer.add_image(name, size=size, data=jpg(size, (250, 250, 250)))
        writer.add_examples("pretrain", "mscoco_train", [Example("0", "a picture", ["wide"])])
        writer.commit(reader="toy", detector="none", source=[])
    side = Pixels(Canvases(Corpus(tmp_path / "corpus"), shortest=32, longest=64), factor=0)
    almost, square, wide = side.groups(["almost", "square", "wide"])
    assert almost == square != wide
    picture = side.batch(["square", "almost"], [])["pixels"][1]
    assert (picture[:, 16:48] > 1.5).all() and (picture[:, :16] < 0).all() and (picture[:, 48:] < 0).all()


def test_kept_places_are_different_ones_of_the_examples_own_draw_and_all_equally_likely(canvases: Canvases) -> None:
    images, side = toy_images(canvases)[:1], Pixels(canvases, factor=0, kept=1)
    drawn = torch.cat([side.batch(images, [Random(number)])["kept_places"] for number in range(400)])
    assert drawn.shape == (400, 1) and abs(int(drawn.sum()) - 200) < 50  # of places 0 and 1; deviation 10
    both = Pixels(canvases, factor=0, kept=2).batch(images * 3, [Random(number) for number in range(3)])
    assert both["kept_places"].sort(1).values.tolist() == [[0, 1]] * 3
    assert "kept_places" not in Pixels(canvases, factor=0).batch(images, [Random(0)])


def test_a_picture_is_decoded_once(canvases: Canvases) -> None:
    images, side = toy_images(canvases)[:1] * 3, Pixels(canvases, factor=0)
    first = side.batch(images, [])["pixels"]
    canvases.corpus.image_bytes = None  # asked again, it would fail
    assert torch.equal(side.batch(images, [])["pixels"], first)


def test_what_cannot_be_read_is_one_line(tmp_path: Path, canvases: Canvases) -> None:
    with pytest.raises(CorpusError, match="36 examples, fewer than batch_size=37"):
        Pixels(canvases, factor=0).epoch_batches(toy_images(canvases), None, 37, seed=0, epoch=0)
    with CorpusWriter(tmp_path / "bare") as writer:
        writer.add_image("0")
        writer.add_examples("pretrain", "mscoco_train", [Example("0", "a picture", ["0"])])
        writer.commit(reader="toy", detector="none", source=[])
    bare = Pixels(Canvases(Corpus(tmp_path / "bare"), shortest=32, longest=64), factor=0)
    with pytest.raises(CorpusError, match="image 0 has no picture, which this model reads"):
        bare.batch(["0"], [])
