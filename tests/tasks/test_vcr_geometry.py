"""Boxes on the patches of a picture, and objects of a text."""

from vlx.tasks.vcr_geometry import objects_of, patches_of


def test_a_box_covers_every_patch_it_touches() -> None:
    """A picture of 80 x 40 pixels with 4 x 4 patches of 20 x 10."""
    assert patches_of([25, 12, 45, 18], (80, 40), grid=4) == ((20, 10, 60, 20), [5, 6])
    assert patches_of([25, 12, 45, 22, 0.9], (80, 40), grid=4).numbers == [5, 6, 9, 10]


def test_a_box_beyond_the_picture_is_cut_and_one_outside_covers_nothing() -> None:
    assert patches_of([-30, -5, 5, 5], (80, 40), grid=4) == ((0, 0, 20, 10), [0])
    assert patches_of([70, 35, 80, 40], (80, 40), grid=4).numbers == [15]
    assert patches_of([90, 5, 99, 8], (80, 40), grid=4).numbers == []
    assert patches_of([-30, 5, -10, 8], (80, 40), grid=4).numbers == []


def test_a_border_that_no_float_hits_belongs_to_the_patch_before() -> None:
    """80 / 12 is a little more than 6.6667: the sixth patch ends beyond 40."""
    assert patches_of([0, 40, 1, 41], (80, 80), grid=12).numbers == [12 * 5, 12 * 6]


def test_each_object_of_a_text_has_a_type_and_its_tokens_have_it_too() -> None:
    assert objects_of([-1, 3, 3, -1, 1]) == ([1, 3], [2, 3], [0, 3, 3, 0, 2])
    assert objects_of([-1, -1]) == ([], [], [0, 0])
