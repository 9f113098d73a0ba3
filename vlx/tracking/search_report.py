"""The page of a search, from plain numbers: importance of each option, score by option, score over trials.

A row is a trial: number; state (complete pruned failed killed running waiting); score (or the last reported one) and
cost, or None; settings by option; evaluations: the number of its last one; ended: seconds since 1970, 0 if it has not;
run: MLflow id; note: the error that ended it.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlx.tracking.report import BLUE, ORANGE, blank
from vlx.tracking.runs import Run

Rows = Sequence[Mapping[str, Any]]
COLUMNS = ("number", "state", "score", "cost", "evaluations", "run", "note")
CONTOUR_OPTIONS = 3  # options in contour figures: the most important ones
CONTOUR_POINTS = 60  # of the contour's grid along each axis


@dataclass(frozen=True)
class Axis:
    """One option of all trials. values [trials]: nan for a trial without it."""

    values: np.ndarray
    title: str

    def __getitem__(self, selected: np.ndarray) -> "Axis":
        """The axis of some of the trials."""
        return Axis(self.values[selected], self.title)


def log_search(
    run: Run,
    rows: Rows,
    *,
    importances: Mapping[str, float],
    log_options: Collection[str],
    second_objective: str,
) -> None:
    """Log the table of trials and the figures.

    log_options: options on a logarithmic scale. second_objective: the name of the cost, or empty.
    """
    run.log_text(json.dumps(table(rows)), "trials.table.json")
    scored = [row for row in rows if row["state"] in ("complete", "pruned") and row["score"] is not None]
    if not any(row["settings"] for row in scored):
        return
    for name, figure in figures(scored, importances=importances, log_options=log_options).items():
        run.log_figure(figure, f"figures/{name}.png")
    if importances:
        run.log_figure(importances_figure(importances), "figures/importances.png")
    if second_objective:
        run.log_figure(pareto_figure(scored, second_objective), "figures/pareto.png")


def table(rows: Rows) -> dict[str, list[Any]]:
    """The columns and data of trials.table.json: COLUMNS, then one column per option."""
    options = option_names(rows)
    data = [[row[name] for name in COLUMNS] + [row["settings"].get(name) for name in options] for row in rows]
    return {"columns": [*COLUMNS, *options], "data": data}


def option_names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["settings"]))


def log_progress(run: Run, rows: Rows) -> None:
    """Log the score of each complete trial by its number, and the best score by the number of ended trials."""
    best = -math.inf
    ended = sorted((row for row in rows if row["ended"]), key=lambda row: row["ended"])
    for count, row in enumerate(ended, start=1):
        if row["state"] == "complete":
            best = max(best, row["score"])
            run.log_metrics({"search/score": row["score"]}, step=row["number"])
        if math.isfinite(best):
            run.log_metrics({"search/best": best}, step=count)


def pareto_front(rows: Rows) -> Rows:
    """The complete trials for which no trial of at most equal cost has a higher score, by rising cost."""
    complete = sorted((row for row in rows if row["state"] == "complete"), key=lambda row: (row["cost"], -row["score"]))
    best = np.maximum.accumulate([row["score"] for row in complete])
    return [row for index, row in enumerate(complete) if index == 0 or best[index] > best[index - 1]]


def option_axis(rows: Rows, name: str, *, log: bool) -> Axis:
    """The option's values, scaled to 0..1; categories are evenly spaced in sorted order."""
    values = [row["settings"].get(name) for row in rows]
    distinct = sorted({value for value in values if value is not None})
    if isinstance(distinct[0], (str, bool)):
        numbers = [math.nan if value is None else distinct.index(value) for value in values]
        ends = ", ".join(map(str, distinct))
    else:
        numbers = [math.nan if value is None else value for value in values]
        ends = f"{distinct[0]:.3g} to {distinct[-1]:.3g}{', log' if log else ''}"
    points = np.log(numbers) if log else np.array(numbers, float)
    points = points - np.nanmin(points)
    return Axis(points / max(np.nanmax(points), 1e-12), f"{name}\n{ends}")


def figures(rows: Rows, *, importances: Mapping[str, float], log_options: Collection[str]) -> dict[str, Figure]:
    """Name -> figure: the score by each option, by pairs of options, and all options in parallel coordinates.

    Options are in the order of their importance; hollow dots are pruned trials.
    """
    names = sorted(option_names(rows), key=lambda name: -importances.get(name, 0.0))
    axes = {name: option_axis(rows, name, log=name in log_options) for name in names}
    score = Axis(np.array([row["score"] for row in rows]), "score")
    is_complete = np.array([row["state"] == "complete" for row in rows])
    result = {
        "slice": slice_figure(list(axes.values()), score, is_complete=is_complete),
        "parallel": parallel_figure(list(axes.values()), score.values),
    }
    if np.ptp(score.values) > 0:
        varied = [name for name in names if np.nanmax(axes[name].values) > 0][:CONTOUR_OPTIONS]
        for first, second in combinations(varied, 2):
            if np.isfinite(axes[first].values + axes[second].values).any():
                figure = contour_figure(axes[first], axes[second], score=score.values, is_complete=is_complete)
                result[f"contour-{first}-{second}"] = figure
    return result


def slice_figure(options: Sequence[Axis], score: Axis, *, is_complete: np.ndarray) -> Figure:
    """One panel per option, a dot per trial."""
    figure, panels = blank(3.2 * len(options), 3.6, columns=len(options))
    for panel, option in zip(panels, options, strict=True):
        scatter(panel, x=option, y=score, is_complete=is_complete)
        panel.set_xticks([])  # the title names the ends
    return figure


def parallel_figure(options: Sequence[Axis], score: np.ndarray) -> Figure:
    """One line per trial through its options and its score; the better the score, the darker the line."""
    figure, panels = blank(9, 4)
    scaled = (score - score.min()) / max(float(np.ptp(score)), 1e-12)
    lines = np.stack([*(option.values for option in options), scaled], 1)  # [trials,options+1]
    for index in np.argsort(score):
        panels[0].plot(lines[index], color=BLUE, alpha=0.15 + 0.85 * float(scaled[index]))
    titles = [*(option.title for option in options), f"score\n{score.min():.3f} to {score.max():.3f}"]
    panels[0].set(xticks=range(len(titles)), xticklabels=titles, yticks=[])
    return figure


def contour_figure(x: Axis, y: Axis, *, score: np.ndarray, is_complete: np.ndarray) -> Figure:
    """The score over two options: between trials, the mean of their scores weighted by inverse squared distance."""
    has_both = ~np.isnan(x.values + y.values)
    trials = np.stack([x.values[has_both], y.values[has_both]], -1)  # [trials,2]
    line = np.linspace(0, 1, CONTOUR_POINTS)
    points = np.stack(np.meshgrid(line, line), -1)[..., None, :]  # [60,60,1,2]
    weights = 1 / (((points - trials) ** 2).sum(-1) + 1e-3)  # [60,60,trials]
    means = weights @ score[has_both] / weights.sum(-1)
    figure, panels = blank(5.4, 4.4)
    figure.colorbar(panels[0].contourf(line, line, means, 12, cmap="Blues"), label="score")
    scatter(panels[0], x=x[has_both], y=y[has_both], is_complete=is_complete[has_both])
    panels[0].set(xticks=[], yticks=[])
    return figure


def scatter(panel: Axes, *, x: Axis, y: Axis, is_complete: np.ndarray) -> None:
    """Draw complete trials as filled dots, pruned trials as hollow dots."""
    complete = (x.values[is_complete], y.values[is_complete])
    pruned = (x.values[~is_complete], y.values[~is_complete])
    panel.scatter(*complete, color=BLUE, edgecolors="white", label="complete")
    panel.scatter(*pruned, facecolors="none", edgecolors=ORANGE, label="pruned")
    panel.set(xlabel=x.title, ylabel=y.title)
    position = panel.get_subplotspec()
    if not is_complete.all() and position and position.is_first_col():  # once a figure
        panel.legend(fontsize="small")


def importances_figure(importances: Mapping[str, float]) -> Figure:
    """One bar per option, the most important at the top."""
    names = sorted(importances, key=importances.__getitem__)
    figure, panels = blank(6, 1.2 + 0.4 * len(importances))
    bars = panels[0].barh(names, [importances[name] for name in names], color=BLUE)
    panels[0].bar_label(bars, fmt="%.2f")
    panels[0].set(xlabel="importance for the score", xlim=(0, 1.1))
    return figure


def pareto_figure(rows: Rows, cost: str) -> Figure:
    """Score by cost, with the Pareto front as a step line."""
    figure, panels = blank(5.4, 4.2)
    front = pareto_front(rows)
    x = Axis(np.array([row["cost"] for row in rows], float), cost)
    y = Axis(np.array([row["score"] for row in rows], float), "score")
    scatter(panels[0], x=x, y=y, is_complete=np.full(len(rows), True))
    costs = [row["cost"] for row in front]
    panels[0].step(costs, [row["score"] for row in front], "o-", where="post", color=ORANGE)
    return figure
