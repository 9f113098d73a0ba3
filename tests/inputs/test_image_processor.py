"""Images in their frame, and batches of one frame; the sizes beside their arithmetic."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlx.inputs.image_processor import (
    ImageProcessor,
    Size,
    aspect_groups,
    grouped_batches,
    offset,
    stack,
)

PROCESSOR = ImageProcessor()
SMALL = ImageProcessor(24, 40)
SIDES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (512, 384)),  # 384 * 640 / 480
        ((480, 640), (384, 512)),
        ((500, 500), (384, 384)),
        ((640, 200), (640, 200)),  # 640 * 200 / 640 = 200: unchanged
        ((1000, 300), (640, 192)),  # round(640 * 300 / 1000) = 192, 192 * 1000 / 300 = 640
        ((900, 333), (640, 237)),  # round(236.8) = 237, int(237 * 900 / 333) = 640
        ((504, 228), (641, 290)),  # round(289.52) = 290, int(290 * 504 / 228) = 641: one too long
        ((501, 384), (501, 384)),  # fits
        ((10_000, 1), (10_000, 1)),  # round(0.064) would be 0
    ],
)
def test_an_image_is_resized_as_the_original_rounds(size: Size, expected: Size) -> None:
    assert PROCESSOR.resized_size(size) == expected
    assert PROCESSOR.resized_size(size[::-1]) == expected[::-1]


@given(SIDES)
def test_a_resized_image_fits_its_frame_and_keeps_its_shape(size: Size) -> None:
    small = PROCESSOR.resized_size(size)
    low, high = min(size), max(size)
    if high <= 200 * low:  # a strip of a few pixels is rounded too coarsely to be
        assert min(small) <= 384 and max(small) <= 640 * (1 + low / high) + max(1, high / low / 2)
        assert abs(max(small) / min(small) - high / low) <= high / low * 1 / min(small) + 1e-9
    assert (small[0] < small[1]) <= (size[0] < size[1]) and (small[0] > small[1]) <= (size[0] > size[1])


def test_a_square_is_in_the_middle_of_a_black_portrait_frame() -> None:
    image = Image.new("RGB", (24, 24), (255, 0, 0))
    frame = np.array(SMALL.fit(image))
    assert frame.shape == (40, 24, 3)
    assert (frame[8:32] == (255, 0, 0)).all() and not frame[:8].any() and not frame[32:].any()


def test_an_odd_pixel_of_margin_is_left_and_above_and_a_pixel_too_long_is_cut_off() -> None:
    assert offset((37, 24), (40, 24)) == (2, 0)
    assert offset((24, 41), (24, 40)) == (0, 0)
    strip = Image.fromarray(np.arange(41 * 19, dtype=np.uint8).reshape(19, 41))  # 19 = round(40 * 19 / 41): unchanged
    assert SMALL.resized_size(strip.size) == (41, 19)
    frame = np.array(SMALL.fit(strip))[..., 0]
    assert np.array_equal(frame[3:22], np.array(strip)[:, :40]) and not frame[:3].any() and not frame[22:].any()


def test_black_is_minus_mean_over_deviation_also_in_the_margin() -> None:
    image = SMALL.pixels(Image.new("L", (24, 24), 255))
    margin = torch.tensor([-1.7923, -1.7521, -1.4802])  # -.48145466 / .26862954, ...
    torch.testing.assert_close(image[:, 0, 0], margin, atol=1e-4, rtol=0)
    white = torch.tensor([1.9303, 2.0749, 2.1459])  # (1 - .48145466) / .26862954, ...
    torch.testing.assert_close(image[:, 20, 12], white, atol=1e-4, rtol=0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_images_of_every_mode_become_three_channels(mode: str) -> None:
    assert SMALL.pixels(Image.new(mode, (30, 20))).shape == (3, 24, 40)


def test_the_first_image_decides_the_shape_of_a_batch() -> None:
    wide = torch.ones(3, 24, 40)
    upright = torch.full((3, 40, 24), 2.0)
    batch = stack([wide, upright])
    assert batch.shape == (2, 3, 24, 40) and torch.equal(batch[0], wide)
    assert (batch[1, :, :, :24] == 2).all() and not batch[1, :, :, 24:].any()
    assert stack([upright, wide]).shape == (2, 3, 40, 24)


def test_aspect_groups_are_split_at_the_ratios_of_the_factor() -> None:
    sizes = [(100, 49), (100, 50), (100, 51), (100, 99), (100, 100), (100, 199), (100, 200)]
    assert aspect_groups(sizes, factor=0) == [0, 0, 0, 0, 1, 1, 1]
    assert aspect_groups(sizes, factor=1) == [0, 1, 1, 1, 2, 2, 3]  # at 1/2, 1, 2
    edges = [2 ** (step / 5) for step in range(-5, 6)]
    between = [(10_000, round(10_000 * (low * high) ** 0.5)) for low, high in pairwise(edges)]
    assert aspect_groups(between, factor=5) == list(range(1, 11))


@given(st.lists(SIDES, min_size=1), st.integers(0, 5))
def test_resized_images_of_one_group_have_one_frame(sizes: list[Size], factor: int) -> None:
    small = [PROCESSOR.resized_size(size) for size in sizes]
    frames: dict[int, set[Size]] = {}
    for size, group in zip(small, aspect_groups(small, factor=factor), strict=True):
        frames.setdefault(group, set()).add(PROCESSOR.frame_size(size))
    assert all(len(group) == 1 for group in frames.values())


def test_remaining_examples_are_filled_up_with_earlier_examples_of_their_group_the_fullest_first() -> None:
    groups = [0, 1, 0, 1, 0, 1, 0, 0, 0]
    # group 0: 0 2 4 then 6 7 8; group 1: 1 3 5
    assert list(grouped_batches(range(9), groups, batch_size=3)) == [[0, 2, 4], [1, 3, 5], [6, 7, 8]]
    # size 4: 0 2 4 6 is full; 1 3 5 and 7 8 are pending; 9 // 4 = 2 batches
    assert list(grouped_batches(range(9), groups, batch_size=4)) == [[0, 2, 4, 6], [1, 3, 5, 1]]
    batches = list(grouped_batches(range(9), groups, batch_size=4, exhaustive=True))
    assert batches == [[0, 2, 4, 6], [1, 3, 5, 1], [7], [8]]
    # size 5: 0 2 4 6 7 is full, 9 // 5 = 1 batch; size 7: the six of group 0 and its first a second time
    assert list(grouped_batches(range(9), groups, batch_size=5)) == [[0, 2, 4, 6, 7]]
    assert list(grouped_batches(range(9), groups, batch_size=7)) == [[0, 2, 4, 6, 7, 8, 0]]


def test_a_group_smaller_than_the_missing_part_is_repeated() -> None:
    assert list(grouped_batches([3, 0, 1, 2], [0, 1, 2, 0], batch_size=4)) == [[3, 0, 3, 0]]


@given(
    st.lists(st.integers(0, 4), max_size=60), st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False)
)  # fmt: skip
def test_grouped_batches_have_one_group_each_and_the_expected_number(
    groups: list[int], batch_size: int, exhaustive: bool, random: object
) -> None:
    order = list(range(len(groups)))
    random.shuffle(order)
    batches = list(grouped_batches(order, groups, batch_size=batch_size, exhaustive=exhaustive))
    full = len(order) // batch_size
    assert [len(batch) for batch in batches[:full]] == [batch_size] * full
    assert all(len({groups[index] for index in batch}) == 1 for batch in batches)
    assert all(len(batch) == 1 for batch in batches[full:]) and (exhaustive or len(batches) == full)
    if exhaustive:
        assert {index for batch in batches for index in batch} == set(order)
