"""A run that logs nothing, for training outside of MLflow."""

from collections.abc import Callable
from pathlib import Path


class UntrackedRun:
    """What the training loop calls of a Run. folder: of checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None: ...

    def report(self, best: float, *, step: int, last: bool) -> None: ...

    def stop_if_requested(self, save: Callable[[], None]) -> None: ...
