"""Pictures on their canvas, and batches of one canvas; the sizes beside their arithmetic."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlx.corpora import pixels

SIDES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (512, 384)),  # 384 * 640 / 480
        ((480, 640), (384, 512)),
        ((500, 500), (384, 384)),
        ((640, 200), (640, 200)),  # 640 * 200 / 640 = 200: as it is
        ((1000, 300), (640, 192)),  # round(640 * 300 / 1000) = 192, 192 * 1000 / 300 = 640
        ((900, 333), (640, 237)),  # round(236.8) = 237, int(237 * 900 / 333) = 640
        ((504, 228), (641, 290)),  # round(289.52) = 290, int(290 * 504 / 228) = 641: one too long
        ((501, 384), (501, 384)),  # fits already
        ((10_000, 1), (10_000, 1)),  # round(0.064) would be nothing
    ],
)
def test_a_picture_is_resized_as_the_original_rounds(size: pixels.Size, expected: pixels.Size) -> None:
    assert pixels.resized(size) == expected
    assert pixels.resized(size[::-1]) == expected[::-1]


@given(SIDES)
def test_a_resized_picture_fits_its_canvas_and_keeps_its_shape(size: pixels.Size) -> None:
    small = pixels.resized(size)
    low, high = min(size), max(size)
    if high <= 200 * low:  # a strip of a few pixels is rounded too coarsely to be
        assert min(small) <= 384 and max(small) <= 640 * (1 + low / high) + max(1, high / low / 2)
        assert abs(max(small) / min(small) - high / low) <= high / low * 1 / min(small) + 1e-9
    assert (small[0] < small[1]) <= (size[0] < size[1]) and (small[0] > small[1]) <= (size[0] > size[1])


def test_a_square_stands_upright_in_the_middle_of_black() -> None:
    picture = Image.new("RGB", (24, 24), (255, 0, 0))
    frame = np.array(pixels.fit(picture, shortest=24, longest=40))
    assert frame.shape == (40, 24, 3)
    assert (frame[8:32] == (255, 0, 0)).all() and not frame[:8].any() and not frame[32:].any()


def test_an_odd_pixel_of_margin_is_left_and_above_and_one_too_many_is_lost_below() -> None:
    assert pixels.offset((37, 24), (40, 24)) == (2, 0)
    assert pixels.offset((24, 41), (24, 40)) == (0, 0)
    strip = Image.fromarray(np.arange(41 * 19, dtype=np.uint8).reshape(19, 41))  # 19 = round(40 * 19 / 41): as it is
    assert pixels.resized(strip.size, shortest=24, longest=40) == (41, 19)
    frame = np.array(pixels.fit(strip, shortest=24, longest=40))[..., 0]
    assert np.array_equal(frame[3:22], np.array(strip)[:, :40]) and not frame[:3].any() and not frame[22:].any()


def test_black_is_minus_mean_over_deviation_also_in_the_margin() -> None:
    image = pixels.pixels(Image.new("L", (24, 24), 255), shortest=24, longest=40)
    margin = torch.tensor([-1.7923, -1.7521, -1.4802])  # -.48145466 / .26862954, ...
    torch.testing.assert_close(image[:, 0, 0], margin, atol=1e-4, rtol=0)
    white = torch.tensor([1.9303, 2.0749, 2.1459])  # (1 - .48145466) / .26862954, ...
    torch.testing.assert_close(image[:, 20, 12], white, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_kind_become_three_channels(mode: str) -> None:
    assert pixels.pixels(Image.new(mode, (30, 20)), shortest=24, longest=40).shape == (3, 24, 40)


def test_the_first_image_decides_the_shape_of_a_batch() -> None:
    wide, upright = torch.ones(3, 24, 40), torch.full((3, 40, 24), 2.0)
    batch = pixels.stack([wide, upright])
    assert batch.shape == (2, 3, 24, 40) and torch.equal(batch[0], wide)
    assert (batch[1, :, :, :24] == 2).all() and not batch[1, :, :, 24:].any()
    assert pixels.stack([upright, wide]).shape == (2, 3, 40, 24)


def test_groups_are_parted_at_these_ratios() -> None:
    sizes = [(100, 49), (100, 50), (100, 51), (100, 99), (100, 100), (100, 199), (100, 200)]
    assert pixels.aspect_groups(sizes, factor=0) == [0, 0, 0, 0, 1, 1, 1]
    assert pixels.aspect_groups(sizes, factor=1) == [0, 1, 1, 1, 2, 2, 3]  # at 1/2, 1, 2
    edges = [2 ** (step / 5) for step in range(-5, 6)]
    between = [(10_000, round(10_000 * (low * high) ** 0.5)) for low, high in pairwise(edges)]
    assert pixels.aspect_groups(between, factor=5) == list(range(1, 11))


@given(st.lists(SIDES, min_size=1), st.integers(0, 5))
def test_resized_pictures_of_one_group_have_one_canvas(sizes: list[pixels.Size], factor: int) -> None:
    small = [pixels.resized(size) for size in sizes]
    canvases: dict[int, set[pixels.Size]] = {}
    for size, group in zip(small, pixels.aspect_groups(small, factor=factor), strict=True):
        canvases.setdefault(group, set()).add(pixels.canvas(size))
    assert all(len(found) == 1 for found in canvases.values())


def test_left_over_examples_are_joined_by_earlier_ones_of_their_group_the_fullest_first() -> None:
    groups = [0, 1, 0, 1, 0, 1, 0, 0, 0]
    # group 0: 0 2 4 then 6 7 8; group 1: 1 3 5
    assert list(pixels.grouped_batches(range(9), groups, batch_size=3)) == [[0, 2, 4], [1, 3, 5], [6, 7, 8]]
    # of four: 0 2 4 6 is full; 1 3 5 waits, and 7 8; 9 // 4 = 2 batches
    assert list(pixels.grouped_batches(range(9), groups, batch_size=4)) == [[0, 2, 4, 6], [1, 3, 5, 1]]
    found = list(pixels.grouped_batches(range(9), groups, batch_size=4, exhaustive=True))
    assert found == [[0, 2, 4, 6], [1, 3, 5, 1], [7], [8]]
    # of five: 0 2 4 6 7 is full, 9 // 5 = 1 batch; of seven: the six of group 0 and its first once more
    assert list(pixels.grouped_batches(range(9), groups, batch_size=5)) == [[0, 2, 4, 6, 7]]
    assert list(pixels.grouped_batches(range(9), groups, batch_size=7)) == [[0, 2, 4, 6, 7, 8, 0]]


def test_a_group_smaller_than_what_it_lacks_is_repeated() -> None:
    assert list(pixels.grouped_batches([3, 0, 1, 2], [0, 1, 2, 0], batch_size=4)) == [[3, 0, 3, 0]]


@given(
    st.lists(st.integers(0, 4), max_size=60), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False)
)  # fmt: skip
def test_grouped_batches_hold(groups: list[int], batch_size: int, exhaustive: bool, random: object) -> None:
    order = list(range(len(groups)))
    random.shuffle(order)
    batches = list(pixels.grouped_batches(order, groups, batch_size=batch_size, exhaustive=exhaustive))
    full = len(order) // batch_size
    assert [len(batch) for batch in batches[:full]] == [batch_size] * full
    assert all(len({groups[index] for index in batch}) == 1 for batch in batches)
    assert all(len(batch) == 1 for batch in batches[full:]) and (exhaustive or len(batches) == full)
    if exhaustive:
        assert {index for batch in batches for index in batch} == set(order)
