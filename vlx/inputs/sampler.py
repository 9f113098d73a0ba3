"""Batches of examples of similar length. The order is a function of (seed, epoch)."""

import numpy as np
import torch

BUCKET = 50  # batches that are sorted by length together
LENGTH_STEP = 32  # coarse lengths in a bucket: batches of one exact length would hold one kind of text


def shuffled(count: int, *, seed: int, epoch: int) -> tuple[list[int], torch.Generator]:
    """A permutation of range(count), and the generator that drew it."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(count, generator=generator).tolist(), generator


def epoch_batches(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Every example once: shuffled, sorted by length within buckets, cut into batches, the batches shuffled."""
    permutation, generator = shuffled(len(lengths), seed=seed, epoch=epoch)
    order = np.array(permutation)
    size = batch_size * BUCKET
    buckets = [order[start : start + size] for start in range(0, len(order), size)]
    ordered = np.concatenate([bucket[np.argsort(lengths[bucket] // LENGTH_STEP, kind="stable")] for bucket in buckets])
    batches = [ordered[start : start + batch_size].tolist() for start in range(0, len(ordered), batch_size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def sorted_batches(lengths: np.ndarray, batch_size: int) -> list[list[int]]:
    """Every example once, by length: for evaluation."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
