"""Boxes on the patches of an image, and objects of a text."""

from vlx.tasks.vcr_geometry import box_patches, text_objects


def test_a_box_covers_every_patch_it_touches() -> None:
    """An image of 80 x 40 pixels with 4 x 4 patches of 20 x 10."""
    assert box_patches([25, 12, 45, 18], (80, 40), grid=4) == ((20, 10, 60, 20), [5, 6])
    assert box_patches([25, 12, 45, 22, 0.9], (80, 40), grid=4).indices == [5, 6, 9, 10]


def test_a_box_beyond_the_image_is_cut_and_one_outside_covers_nothing() -> None:
    assert box_patches([-30, -5, 5, 5], (80, 40), grid=4) == ((0, 0, 20, 10), [0])
    assert box_patches([70, 35, 80, 40], (80, 40), grid=4).indices == [15]
    assert box_patches([90, 5, 99, 8], (80, 40), grid=4).indices == []
    assert box_patches([-30, 5, -10, 8], (80, 40), grid=4).indices == []


def test_a_border_that_no_float_hits_belongs_to_the_patch_before() -> None:
    """80 / 12 is a little more than 6.6667: the sixth patch ends beyond 40."""
    assert box_patches([0, 40, 1, 41], (80, 80), grid=12).indices == [12 * 5, 12 * 6]


def test_each_object_of_a_text_has_a_type_and_its_tokens_have_it_too() -> None:
    assert text_objects([-1, 3, 3, -1, 1]) == ([1, 3], [2, 3], [0, 3, 3, 0, 2])
    assert text_objects([-1, -1]) == ([], [], [0, 0])
