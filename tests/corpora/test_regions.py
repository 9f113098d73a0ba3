import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlx.corpora.regions import MAX_REGIONS, REGION_DIM, detect


def canvas(
    size: tuple[int, int] = (100, 100), colour: object = (211, 211, 211)
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, colour)
    return image, ImageDraw.Draw(image)


def test_every_drawn_shape_is_found_in_its_place_largest_first() -> None:
    image, pen = canvas()
    pen.rectangle((10, 20, 39, 49), fill="black")  # 30 x 30
    pen.ellipse((60, 60, 79, 79), fill="yellow")  # 20 x 20
    pen.rectangle((80, 5, 89, 14), fill=(0, 153, 255))  # 10 x 10
    features, boxes = detect(image)
    assert features.shape == (3, REGION_DIM) and features.dtype == boxes.dtype == np.float32
    assert np.allclose(boxes, [[0.1, 0.2, 0.4, 0.5], [0.6, 0.6, 0.8, 0.8], [0.8, 0.05, 0.9, 0.15]])
    assert np.allclose(features[:, :3], [[0, 0, 0], [1, 1, 0], [0, 0.6, 1]])
    assert np.allclose(features[[0, 2], 3], 1) and 0.7 < features[1, 3] < 0.85  # fill: squares 1, a circle pi/4
    assert features.min() >= 0 and features.max() <= 1


def test_touching_shapes_of_two_colours_are_two_regions_and_apart_of_one_colour_too() -> None:
    image, pen = canvas()
    pen.rectangle((10, 10, 29, 29), fill="black")
    pen.rectangle((10, 30, 29, 49), fill="yellow")
    pen.rectangle((60, 10, 79, 29), fill="black")
    assert len(detect(image)[0]) == 3


def test_specks_and_the_fringe_of_smoothed_edges_are_no_regions() -> None:
    large, pen = canvas((400, 400))
    pen.ellipse((40, 40, 159, 159), fill="black")
    pen.polygon(((300, 200), (360, 320), (240, 320)), fill=(0, 153, 255))
    image = large.resize((100, 100), Image.Resampling.BOX)
    ImageDraw.Draw(image).rectangle((90, 5, 91, 6), fill="yellow")
    assert len(detect(image)[0]) == 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_images_of_any_mode_are_read(mode: str) -> None:
    image, pen = canvas(colour="white")
    pen.rectangle((10, 10, 39, 39), fill="black")
    boxes = detect(image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode))[1]
    assert np.allclose(boxes, [[0.1, 0.1, 0.4, 0.4]])


def test_transparent_pixels_count_as_white() -> None:
    image = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((10, 10, 39, 39), fill=(255, 0, 0, 255))
    assert np.allclose(detect(image)[1], [[0.1, 0.1, 0.4, 0.4]])


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (64, 64)])
def test_an_image_without_shapes_is_one_whole_region(size: tuple[int, int]) -> None:
    features, boxes = detect(canvas(size)[0])
    assert features.shape == (1, REGION_DIM) and boxes.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("size", [(3000, 20), (1000, 2000)])
def test_large_images_are_shrunk_and_noise_is_bounded(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    features, boxes = detect(Image.fromarray(noise))
    assert 1 <= len(features) <= MAX_REGIONS and np.isfinite(features).all()
    assert (boxes >= 0).all() and (boxes <= 1).all() and (boxes[:, :2] < boxes[:, 2:]).all()


def test_features_tell_shapes_apart_and_not_where_they_are() -> None:
    image, pen = canvas()
    pen.rectangle((10, 10, 29, 29), fill="black")
    pen.rectangle((60, 60, 79, 79), fill="black")
    pen.ellipse((60, 10, 79, 29), fill="black")
    features, boxes = detect(image)
    circle = int(np.flatnonzero((boxes[:, 0] > 0.5) & (boxes[:, 1] < 0.5))[0])
    squares = [index for index in range(3) if index != circle]
    assert np.allclose(features[squares[0]], features[squares[1]])
    assert np.abs(features[circle] - features[squares[0]]).max() > 0.3
