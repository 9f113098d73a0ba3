"""The page of a search: its table, its figures, its metrics."""

import json
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vlx import tracking
from vlx.tracking import search_report


class Page:
    """A run that stores its texts, figures and metrics."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.figures: dict[str, Figure] = {}
        self.metrics: list[tuple[dict[str, float], int]] = []

    def log_text(self, text: str, to: str) -> None:
        self.texts[to] = text

    def log_figure(self, figure: Figure, to: str) -> None:
        figure.canvas.draw()
        self.figures[to] = figure

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        self.metrics += [(metrics, step)] if metrics else []


def row(number: int, score: float | None, state: str = "complete", **fields: Any) -> dict[str, Any]:
    default = {"number": number, "state": state, "score": score, "cost": None, "evaluations": 3, "ended": 10.0 + number}
    return default | {"run": f"r{number}", "note": "", "settings": {"lr": 10.0**-number, "method": "kd"}} | fields


def test_a_search_is_logged_whatever_its_trials_are() -> None:
    rows = [
        row(1, 0.5),
        row(2, 0.7, settings={"lr": 0.1, "method": "mkd", "beta": 2.0}),
        row(3, 0.2, "pruned"),
        row(4, None, "failed", settings={}),
        row(5, 0.7, "running", ended=0.0),
    ]
    page = Page()
    search_report.log_search(
        page, rows, importances={"lr": 0.75, "method": 0.25}, log_options={"lr"}, second_objective=""
    )
    assert set(page.figures) == {
        f"figures/{name}.png" for name in ("slice", "parallel", "contour-lr-method", "importances")
    }
    content = json.loads(page.texts["trials.table.json"])
    assert content["columns"][-3:] == ["lr", "method", "beta"]
    assert [line[0] for line in content["data"]] == [1, 2, 3, 4, 5]
    assert content["data"][3][-3:] == [None, None, None]
    panels = page.figures["figures/slice.png"].axes
    assert [axes.get_xlabel() for axes in panels] == ["lr\n0.001 to 0.1, log", "method\nkd, mkd", "beta\n2 to 2"]
    complete, pruned = (dots.get_offsets() for dots in panels[0].collections)
    assert np.allclose(sorted(complete[:, 1]), [0.5, 0.7]) and np.allclose(pruned, [[0.0, 0.2]])
    for some in ([], rows[3:4], rows[:1], [row(1, 0.5), row(2, 0.5)]):
        page = Page()
        search_report.log_search(page, some, importances={}, log_options=(), second_objective="")
        assert "trials.table.json" in page.texts and not any("contour" in name for name in page.figures)


def test_the_best_score_so_far_is_logged_in_the_order_in_which_trials_ended() -> None:
    page = Page()
    rows = [
        row(0, 0.5, ended=30.0),
        row(1, 0.4, ended=10.0),
        row(2, 0.9, "pruned", ended=20.0),
        row(3, 0.9, ended=0.0, state="running"),
    ]
    search_report.log_progress(page, rows)
    best = [(metrics["search/best"], step) for metrics, step in page.metrics if "search/best" in metrics]
    assert best == [(0.4, 1), (0.4, 2), (0.5, 3)]
    assert {(metrics["search/score"], step) for metrics, step in page.metrics if "search/score" in metrics} == {
        (0.4, 1),
        (0.5, 0),
    }


def test_no_trial_has_a_higher_score_at_the_cost_of_one_on_the_pareto_front() -> None:
    costs = {0: (0.5, 3.0), 1: (0.6, 2.0), 2: (0.4, 1.0), 3: (0.6, 4.0), 4: (0.9, 9.0), 5: (0.3, 1.0)}
    rows = [row(number, score, cost=cost) for number, (score, cost) in costs.items()] + [row(6, None, "failed")]
    assert [each["number"] for each in tracking.pareto_front(rows)] == [2, 1, 4]
    page = Page()
    search_report.log_search(page, rows, importances={}, log_options=(), second_objective="latency")
    (line,) = page.figures["figures/pareto.png"].axes[0].lines
    assert line.get_xydata().tolist() == [[1.0, 0.4], [2.0, 0.6], [9.0, 0.9]]
