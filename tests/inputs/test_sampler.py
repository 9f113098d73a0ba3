"""Batches of similar length, in an order of seed and epoch."""

import numpy as np

from vlx.inputs.sampler import LENGTH_STEP, epoch_batches, sorted_batches

LENGTHS = np.random.default_rng(0).integers(10, 10 + 4 * LENGTH_STEP, 203)


def test_an_epoch_has_every_example_once_in_an_order_of_seed_and_epoch() -> None:
    epochs = [epoch_batches(LENGTHS, 8, seed=seed, epoch=epoch) for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))]
    for batches in epochs:
        assert sorted(index for batch in batches for index in batch) == list(range(203))
        assert sorted(map(len, batches)) == [3] + [8] * 25
    assert epochs[0] == epochs[1] and epochs[0] != epochs[2] and epochs[0] != epochs[3]


def test_examples_of_a_batch_have_similar_lengths() -> None:
    """203 examples are one bucket, sorted by length / 32: a batch crosses at most one step of 32."""
    spans = [np.ptp(LENGTHS[batch] // LENGTH_STEP) for batch in epoch_batches(LENGTHS, 8, seed=0, epoch=0)]
    assert max(spans) <= 1 and np.mean(spans) < 0.3


def test_evaluation_reads_every_example_once_by_length() -> None:
    batches = sorted_batches(LENGTHS, 8)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(203)) and (np.diff(LENGTHS[order]) >= 0).all()
