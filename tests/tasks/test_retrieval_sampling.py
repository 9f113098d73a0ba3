from collections import Counter
from random import Random

from vlx.tasks.retrieval_sampling import SWAP_CAPTION, draw_negative


def test_another_picture_is_drawn_evenly_and_half_the_time_its_caption() -> None:
    rng, draws = Random(0), 6_000
    found = [draw_negative(2, rng, captions=[5] * 4) for _ in range(draws)]
    images, captions = Counter(one.image for one in found), Counter(one.caption for one in found)
    assert images.keys() == {0, 1, 3} and all(abs(count - draws / 3) < 150 for count in images.values())
    assert abs(captions.pop(None) - draws * (1 - SWAP_CAPTION)) < 150
    assert captions.keys() == set(range(5)) and all(abs(count - draws / 10) < 100 for count in captions.values())


def test_the_draws_are_those_of_the_original_in_its_order() -> None:
    """Of the others by random.choice; random() <= 0.5 swaps the caption; randint draws that."""
    ours, theirs = Random(9), Random(9)
    for own in [0, 1, 2, 3] * 25:
        other = theirs.choice([image for image in range(4) if image != own])
        caption = theirs.randint(0, 4) if theirs.random() <= 0.5 else None
        assert draw_negative(own, ours, captions=[5] * 4) == (other, caption)
