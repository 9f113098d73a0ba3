"""What the adapters share."""

import torch
from torch import Tensor


def close(actual: Tensor, expected: Tensor, what: str, *, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, msg=lambda text: f"{what}: {text}")
