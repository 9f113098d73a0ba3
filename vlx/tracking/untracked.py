"""A run that logs nothing, for training outside of MLflow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


class UntrackedRun:
    """What vlx.api.fit and the training loop call of a Run. folder: of checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log_options(self, options: dict[str, Any]) -> None: ...

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None: ...

    def report(self, best: float, *, step: int, last: bool) -> None: ...

    def stop_if_requested(self, save: Callable[[], None]) -> None: ...
