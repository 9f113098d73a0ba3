"""Numbers in, figures, tables and text out: what a researcher looks at after a run."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from PIL import Image, ImageDraw

Picture = Callable[[str], Image.Image | None]  # image id -> picture
Rows = Mapping[str, Sequence[Any]]  # identifier text category image_ids label prediction score right, perhaps drawn
SHOWN = {"Wrong": 30, "Right": 20}  # examples with pictures on the page
THUMBNAIL = 160  # pixels
CATEGORIES = 12  # in the figure: the largest
BINS = 10
LONG = 36  # letters of labels side by side under a figure, from which on they are slanted
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#8a8f98"
COSTS = {"parameters": "parameters", "flops": "floating-point operations of an example"}
COSTS |= {"latency_ms": "latency on this machine, ms: median", "latency_p95_ms": "latency, ms: 95 of 100 below"}
STYLE = "body{font:14px sans-serif}article{display:inline-block;width:350px;margin:12px}img{margin-right:6px}"


def prediction_figures(rows: Rows, chance: float) -> dict[str, Figure]:
    """Name -> figure: the confusion matrix of a few classes, the scores of statements that are true or false, and,
    where examples have categories, accuracy by category."""
    figures = {"confusion": confusion_figure(rows)} if len(said(rows)) <= CATEGORIES else {}
    figures |= {"scores": scores_figure(rows)} if true_or_false(rows) else {}
    return figures | ({"categories": categories_figure(rows, chance)} if any(rows["category"]) else {})


def said(rows: Rows) -> set[str]:
    return {str(answer).lower() for column in ("label", "prediction") for answer in rows[column]}


def true_or_false(rows: Rows) -> bool:
    """Whether the score is the probability of true, rather than of the answer given."""
    return said(rows) <= {"true", "false"}


def blank(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def confusion_figure(rows: Rows) -> Figure:
    """How often each label (rows) was answered how (columns), with its share of the label."""
    names = sorted({*rows["label"], *rows["prediction"]}, key=str.lower)
    pairs = list(zip(rows["label"], rows["prediction"], strict=True))
    counts = np.array([[pairs.count((label, answer)) for answer in names] for label in names])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, (axes,) = blank(5, 4.2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        text, colour = f"{count:,}\n{shares[row, column]:.0%}", "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=15)
    ticks = {"xticks": range(len(names)), "yticks": range(len(names)), "xticklabels": names, "yticklabels": names}
    axes.set(xlabel="answer", ylabel="label", title=f"Answers to {counts.sum():,} examples", **ticks)
    axes.tick_params(axis="x", rotation=45 if len("".join(names)) > LONG else 0)
    return figure


def scores_figure(rows: Rows) -> Figure:
    """Left: the model's scores by label. Right: of the statements scored so, how many are true."""
    score = np.asarray(rows["score"], float)
    true = np.array([str(label).lower() == "true" for label in rows["label"]])
    edges = np.linspace(0, 1, BINS + 1)
    figure, (left, right) = blank(9.6, 4.2, columns=2)
    left.hist([score[true], score[~true]], edges.tolist(), label=["label true", "label false"], color=[BLUE, ORANGE])
    left.set(xlabel="score: probability of true", ylabel="statements", title="Scores")
    left.legend(frameon=False)
    bins = np.clip((score * BINS).astype(int), 0, BINS - 1)
    filled = np.unique(bins)
    means, shares = ([float(each[bins == number].mean()) for number in filled] for each in (score, true))
    right.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    right.plot(means, shares, "o-", color=BLUE, label="this model")
    right.set(xlabel="mean score", ylabel="share that is true", title="Calibration", xlim=(0, 1), ylim=(-0.03, 1.03))
    right.legend(frameon=False, loc="upper left")
    return figure


def categories_figure(rows: Rows, chance: float) -> Figure:
    """Accuracy of the largest categories, with their numbers of statements and the chance level."""
    categories, right = np.asarray(rows["category"]), np.asarray(rows["right"], float)
    names, counts = np.unique(categories, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:CATEGORIES][::-1]
    values = [float(right[categories == name].mean()) for name in names]
    figure, (axes,) = blank(7.5, 1.4 + 0.4 * len(names))
    axes.barh(range(len(names)), values, color=BLUE)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        axes.text(value + 0.01, place, f"{value:.1%} of {(categories == name).sum():,}", va="center")
    axes.set_yticks(range(len(names)), [name or "(none)" for name in names])
    axes.axvline(chance, color=ORANGE, linestyle="--", label=f"without a look: {chance:.1%}")
    axes.set(xlabel="accuracy", xlim=(0, 1.22), xticks=np.linspace(0, 1, 6), title="Accuracy by category")
    figure.legend(frameon=False, loc="outside lower center")
    return figure


def histogram_figures(histograms: Mapping[str, Mapping[Any, int]]) -> dict[str, Figure]:
    """Title -> figure of its counts: numbers along the axis, names as bars from the most frequent."""
    figures = {}
    for title, counts in histograms.items():
        numbers = all(isinstance(value, int) for value in counts)
        figure, (axes,) = blank(7.5, 3.6 if numbers else 1.2 + 0.25 * len(counts))
        if numbers:
            axes.bar(list(counts), list(counts.values()), color=BLUE, width=0.9)
            axes.set(xlabel=title, ylabel="how many")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            names = [str(name) for name in counts][::-1]
            axes.barh(names, list(counts.values())[::-1], color=BLUE)
            axes.set(xlabel="how many", title=title)
        figures[title] = figure
    return figures


def comparison_figure(models: Sequence[Any]) -> Figure:
    """One group of bars a score that all models have, one bar a model (with its .title and .scores by name)."""
    shared = [name for name in models[0].scores if all(name in model.scores for model in models)]
    figure, (axes,) = blank(2 + 2.6 * len(shared), 4.4)
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        places = np.arange(len(shared)) + (number - (len(models) - 1) / 2) * width
        bars = axes.bar(places, [model.scores[name] for name in shared], width * 0.92, label=model.title)
        axes.bar_label(bars, fmt="{:.3f}", padding=2)
    axes.set(ylim=(0, 1.08), title="On the test split")
    axes.set_xticks(range(len(shared)), shared)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(models))
    return figure


def tradeoff_figure(models: Sequence[Any], metric: str) -> Figure:
    """The score of each model (with its .title, .scores, .validation and costs) against its size and its latency."""
    figure, panels = blank(10, 4.2, columns=2)
    for number, model in enumerate(models):
        score, colour = model.scores.get(metric, model.validation), f"C{number}"
        panels[0].plot(model.parameters, score, "o", color=colour, markersize=9, label=model.title)
        panels[1].plot([model.latency_ms, model.latency_p95_ms], [score, score], color=colour)
        panels[1].plot(model.latency_ms, score, "o", color=colour, markersize=9)
    panels[0].set(xlabel="parameters", ylabel=metric, title="Size")
    panels[0].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels[1].set(xlabel="milliseconds an example: median, line to p95", title="Latency on this machine")
    for axes, name in zip(panels, ("parameters", "latency_p95_ms"), strict=True):
        axes.set(xlim=(0, 1.15 * max(getattr(model, name) for model in models)))
        axes.margins(y=0.2)
        axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(models))
    return figure


def prediction_files(split: str, title: str, rows: Rows, picture: Picture) -> dict[str, str]:
    """Path under the artifacts -> text: a page of examples with their pictures, and the table of all predictions."""
    columns = [name for name in rows if name not in ("image_ids", "drawn")]
    data = [list(row) for row in zip(*(rows[name] for name in columns), strict=True)]
    return {
        f"predictions/{split}.html": page(title, rows, picture),
        f"predictions/{split}.table.json": json.dumps({"columns": columns, "data": data}),
    }


def page(title: str, rows: Rows, picture: Picture) -> str:
    """The most confident mistakes first, then the most confident right answers."""
    score = np.asarray(rows["score"], float)
    sure = np.abs(score - 0.5) if true_or_false(rows) else score
    order = np.argsort(-sure, kind="stable")
    parts = [f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h2>{escape(title)}</h2>"]
    for part, most in SHOWN.items():
        chosen = [int(index) for index in order if rows["right"][index] == (part == "Right")]
        parts.append(f"<h3>{part}: {len(chosen):,} of {len(order):,}, the surest {min(most, len(chosen))}</h3>")
        parts += [card(rows, index, picture) for index in chosen[:most]]
    return "\n".join(parts)


def card(rows: Rows, index: int, picture: Picture) -> str:
    row = {name: values[index] for name, values in rows.items()}
    drawn = row.get("drawn", ())
    pictures = "".join(thumbnail(picture(image), drawn) for image in row["image_ids"])
    told = "<br><small>blue: the label, orange: the prediction</small>" if drawn else ""
    return (
        f"<article>{pictures}<p>{escape(row['text'])}</p><b>{escape(row['prediction'])}</b> "
        f"(score {row['score']:.3f}), label {escape(row['label'])}<br>"
        f"<small>{escape(row['identifier'])} {escape(row['category'])}</small>{told}</article>"
    )


def thumbnail(image: Image.Image | None, boxes: Sequence[Sequence[float]]) -> str:
    """boxes: of the label and of the prediction, if any."""
    if image is None:
        return ""
    small, buffer = image.convert("RGB"), BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    for box, colour, grown in zip(boxes, (BLUE, ORANGE), (0, 2), strict=False):
        x1, y1, x2, y2 = (value * side for value, side in zip(box, small.size * 2, strict=True))
        ImageDraw.Draw(small).rectangle(
            (x1 - grown, y1 - grown, max(x1, x2) + grown, max(y1, y2) + grown), outline=colour
        )
    small.save(buffer, "PNG", optimize=True)
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def model_card(title: str, facts: Mapping[str, Any], warning: str = "") -> str:
    """Markdown: what the model is, its scores (facts named split/metric) and costs, of a student beside its teacher's
    (facts named teacher/...), where it comes from."""
    told = {key: value for key, value in facts.items() if key != "warning" and value != ""}
    teachers = {key.removeprefix("teacher/"): told.pop(key) for key in list(told) if key.startswith("teacher/")}
    measured = {key: told.pop(key) for key in list(told) if "/" in key or key in COSTS}
    rows = [["", "this model", "its teacher"], ["---"] * 3]
    rows += [[COSTS.get(key, key), grouped(value), grouped(teachers.get(key, ""))] for key, value in measured.items()]
    lines = "".join(f"| {' | '.join(row if teachers else row[:2])} |\n" for row in rows)
    parts = [f"# {title}", f"> **Warning: {warning}.**"] if warning else [f"# {title}"]
    others = "".join(f"| {key} | {value} |\n" for key, value in told.items())
    parts += [lines, f"| fact | value |\n|---|---|\n{others}"]
    parts.append(
        "Use: texts and pictures like those it was trained on. Scores hold for the data with the fingerprint above.\n"
    )
    return "\n\n".join(parts)


def grouped(value: Any) -> str:
    """1234567 as 1,234,567; all else as it is."""
    return f"{int(value):,}" if str(value).isdecimal() else str(value)
