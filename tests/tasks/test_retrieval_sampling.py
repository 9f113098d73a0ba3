from collections import Counter
from random import Random

from vlx.tasks.retrieval_sampling import CAPTION_PROBABILITY, draw_negative


def test_another_image_is_drawn_evenly_and_half_the_time_its_caption() -> None:
    rng = Random(0)
    draws = 6_000
    negatives = [draw_negative(2, rng, num_captions=[5] * 4) for _ in range(draws)]
    images = Counter(negative.image for negative in negatives)
    captions = Counter(negative.caption for negative in negatives)
    assert images.keys() == {0, 1, 3} and all(abs(count - draws / 3) < 150 for count in images.values())
    assert abs(captions.pop(None) - draws * (1 - CAPTION_PROBABILITY)) < 150
    assert captions.keys() == set(range(5)) and all(abs(count - draws / 10) < 100 for count in captions.values())


def test_the_draws_are_those_of_the_original_in_its_order() -> None:
    """random.choice draws another image; random() <= 0.5 replaces the caption by one that randint draws."""
    rng = Random(9)
    reference = Random(9)
    for image in [0, 1, 2, 3] * 25:
        other = reference.choice([index for index in range(4) if index != image])
        caption = reference.randint(0, 4) if reference.random() <= 0.5 else None
        assert draw_negative(image, rng, num_captions=[5] * 4) == (other, caption)
