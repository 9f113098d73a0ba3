"""What the benchmarks of quality share: the entry points, one run of them, and statistics over seeds."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the entry points

from entrypoints import distill, finetune, pretrain, search  # noqa: E402
from vlx import tracking  # noqa: E402

__all__ = ["distill", "figure_of", "finetune", "mean_and_deviation", "paired", "pretrain", "search", "tracked"]

Options = TypeVar("Options")


def tracked(
    main: Callable[[Options, tracking.Trial], float],
    cfg: Options,
    *,
    name: str,
    tags: Mapping[str, Any] | None = None,
    parent: str = "",
) -> tracking.Trial:
    """Run an entry point and return its trial, with the run and the last value of every metric. parent: uuid of a
    run."""
    trial = tracking.Trial(parent, name, dict(tags or {}), report=lambda *_: None, publishes=True)
    main(cfg, trial)
    return trial


def mean_and_deviation(values: Sequence[float], *, digits: int = 4, sign: str = "") -> str:
    mean = f"{statistics.mean(values):{sign}.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def paired(scores: Mapping[int, float], baseline: Mapping[int, float], *, digits: int = 4) -> str:
    """Return mean and deviation of the differences of equal seeds, and how many of them are above 0."""
    differences = [scores[seed] - baseline[seed] for seed in scores]
    wins = sum(difference > 0 for difference in differences)
    return f"{mean_and_deviation(differences, digits=digits, sign='+')}, {wins} of {len(differences)} seeds"


def figure_of(panels: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Plot the scores of every arm, one point a seed and a line at the mean. panels: axis label -> arm -> scores."""
    arms = list(reversed(next(iter(panels.values()))))
    figure = Figure(figsize=(3 + 4 * len(panels), 0.9 + 0.5 * len(arms)), layout="constrained")
    axes_row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, scores) in zip(axes_row, panels.items(), strict=True):
        for row, arm in enumerate(arms):
            mean = statistics.mean(scores[arm])
            axes.plot(scores[arm], [row] * len(scores[arm]), "o", color="#2b6cb0", alpha=0.5)
            axes.plot([mean, mean], [row - 0.3, row + 0.3], color="#dd6b20", linewidth=2)
        axes.set_yticks(range(len(arms)), arms)
        axes.set_xlabel(f"{label}: one point a seed, line at the mean")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure
