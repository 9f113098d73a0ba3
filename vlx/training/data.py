"""What the training loop needs of its data."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TrainingData(Protocol):
    """Examples in batches. A batch has input_ids, one row an example, and text_mask or packing."""

    @property
    def name(self) -> str: ...
    def __len__(self) -> int: ...
    def epoch_batches(self, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
        """Return the example indices of every batch of an epoch; every epoch has as many batches."""
        ...

    def training_batch(self, indices: Sequence[int], *, seed: int, epoch: int) -> dict[str, Tensor]:
        """Return inputs and targets of some examples; what is random depends on (seed, epoch, index) alone."""
        ...
