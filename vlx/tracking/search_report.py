"""A search in figures, from plain numbers: which options decide, which values are good, what was found when.

A row is a trial: number; state (complete pruned failed killed running waiting); score (or the last reported), cost, or
None; settings by option; looks: its last evaluation; ended: seconds since 1970 or 0; run; note.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlx.tracking.report import BLUE, ORANGE, blank
from vlx.tracking.runs import Run

Rows = Sequence[Mapping[str, Any]]
Axis = tuple[np.ndarray, str]  # of an option: where each trial stands, from 0 to 1, nan without it; title
COLUMNS = ("number", "state", "score", "cost", "looks", "run", "note")
CONTOURS = 3  # options in contours: those that decide most


def log_search(run: Run, rows: Rows, *, importances: Mapping[str, float], logs: Collection[str], cost: str) -> None:
    """The page of a search. logs: options on a logarithmic scale; cost: what the second aim is, if there is one."""
    names = list(dict.fromkeys(name for row in rows for name in row["settings"]))
    data = [[row[name] for name in COLUMNS] + [row["settings"].get(name) for name in names] for row in rows]
    run.log_text(json.dumps({"columns": [*COLUMNS, *names], "data": data}), "trials.table.json")
    scored = [row for row in rows if row["state"] in ("complete", "pruned") and row["score"] is not None]
    used = dict.fromkeys(name for row in scored for name in row["settings"])
    if used:
        order = sorted(used, key=lambda name: -importances.get(name, 0.0))
        found = figures(scored, {name: axis(scored, name, name in logs) for name in order})
        found |= {"importances": importances_figure(importances)} if importances else {}
        found |= {"pareto": pareto_figure(scored, cost)} if cost else {}
        for name, figure in found.items():
            run.log_figure(figure, f"figures/{name}.png")


def log_progress(run: Run, rows: Rows) -> None:
    """Metrics: each trial's score by its number, the best so far by how many have ended."""
    best = -math.inf
    for count, row in enumerate(sorted((row for row in rows if row["ended"]), key=lambda row: row["ended"]), start=1):
        if row["state"] == "complete":
            best = max(best, row["score"])
            run.log_metrics({"search/score": row["score"]}, step=row["number"])
        run.log_metrics({"search/best": best} if math.isfinite(best) else {}, step=count)


def front(rows: Rows) -> Rows:
    """Complete trials of which none has a better score at no higher cost, by rising cost."""
    complete = sorted((row for row in rows if row["state"] == "complete"), key=lambda row: (row["cost"], -row["score"]))
    best = np.maximum.accumulate([row["score"] for row in complete])
    return [row for index, row in enumerate(complete) if index == 0 or best[index] > best[index - 1]]


def axis(rows: Rows, name: str, log: bool) -> Axis:
    values = [row["settings"].get(name) for row in rows]
    known = sorted({value for value in values if value is not None})
    words = isinstance(known[0], (str, bool))
    places = [math.nan if value is None else known.index(value) if words else value for value in values]
    ends = ", ".join(map(str, known)) if words else f"{known[0]:.3g} to {known[-1]:.3g}{', log' if log else ''}"
    at = np.log(places) if log else np.array(places, float)
    at = at - np.nanmin(at)
    return at / max(np.nanmax(at), 1e-12), f"{name}\n{ends}"


def figures(rows: Rows, axes_of: Mapping[str, Axis]) -> dict[str, Figure]:
    """Name -> figure: scores by each option, by pairs of them, and through all; hollow dots were pruned."""
    score, whole = (np.array([row["score"] for row in rows]), np.array([row["state"] == "complete" for row in rows]))
    slices, panels = blank(3.2 * len(axes_of), 3.6, columns=len(axes_of))
    for panel, each in zip(panels, axes_of.values(), strict=True):
        dots(panel, each, (score, "score"), whole)
        panel.set_xticks([])  # the title says what the ends are
    parallel, (axes,) = blank(9, 4)
    shade = (score - score.min()) / max(float(np.ptp(score)), 1e-12)
    lines = np.stack([*(at for at, _ in axes_of.values()), shade], 1)
    for index in np.argsort(score):
        axes.plot(lines[index], color=BLUE, alpha=0.15 + 0.85 * float(shade[index]))
    titles = [*(title for _, title in axes_of.values()), f"score\n{score.min():.3f} to {score.max():.3f}"]
    axes.set(xticks=range(len(titles)), xticklabels=titles, yticks=[])
    wide = [name for name, (at, _) in axes_of.items() if np.nanmax(at) > 0 and shade.any()][:CONTOURS]
    pairs = [(a, b) for a, b in combinations(wide, 2) if np.isfinite(axes_of[a][0] + axes_of[b][0]).any()]
    contours = {f"contour-{a}-{b}": contour_figure(axes_of[a], axes_of[b], score, whole) for a, b in pairs}
    return {"slice": slices, "parallel": parallel} | contours


def contour_figure(one: Axis, other: Axis, score: np.ndarray, whole: np.ndarray) -> Figure:
    """Between trials: the mean of their scores, weighted by nearness."""
    line, here = np.linspace(0, 1, 60), ~np.isnan(one[0] + other[0])
    cells = np.stack(np.meshgrid(line, line), -1)[..., None, :]  # [60,60,1,2]
    weight = 1 / (((cells - np.stack([one[0][here], other[0][here]], -1)) ** 2).sum(-1) + 1e-3)  # [60,60,trials]
    figure, (axes,) = blank(5.4, 4.4)
    figure.colorbar(axes.contourf(line, line, weight @ score[here] / weight.sum(-1), 12, cmap="Blues"), label="score")
    dots(axes, (one[0][here], one[1]), (other[0][here], other[1]), whole[here])
    axes.set(xticks=[], yticks=[])
    return figure


def dots(axes: Axes, x: Axis, y: Axis, whole: np.ndarray) -> None:
    axes.scatter(x[0][whole], y[0][whole], color=BLUE, edgecolors="white", label="complete")
    axes.scatter(x[0][~whole], y[0][~whole], facecolors="none", edgecolors=ORANGE, label="pruned")
    axes.set(xlabel=x[1], ylabel=y[1])
    place = axes.get_subplotspec()
    if not whole.all() and place and place.is_first_col():  # once a figure
        axes.legend(fontsize="small")


def importances_figure(importances: Mapping[str, float]) -> Figure:
    (figure, (axes,)), names = blank(6, 1.2 + 0.4 * len(importances)), sorted(importances, key=importances.__getitem__)
    axes.bar_label(axes.barh(names, [importances[name] for name in names], color=BLUE), fmt="%.2f")
    axes.set(xlabel="share of what decides the score", xlim=(0, 1.1))
    return figure


def pareto_figure(rows: Rows, cost: str) -> Figure:
    figure, (axes,) = blank(5.4, 4.2)
    places, best = [np.array([(row["cost"], row["score"]) for row in some], float).T for some in (rows, front(rows))]
    dots(axes, (places[0], cost), (places[1], "score"), np.full(len(rows), True))
    axes.step(best[0], best[1], "o-", where="post", color=ORANGE)
    return figure
