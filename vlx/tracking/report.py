"""From numbers to figures, tables and text: what a researcher reads after a run."""

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

ReadImage = Callable[[str], Image.Image | None]  # takes an image id
# Columns: identifier text category image_ids label prediction score correct, optionally drawn_boxes.
Rows = Mapping[str, Sequence[Any]]
EXAMPLES_SHOWN = {"Incorrect": 30, "Correct": 20}  # with their images, on the page of a split
THUMBNAIL = 160  # pixels
MAX_CATEGORIES = 12  # in a figure: the most frequent
SCORE_BINS = 10
LONG_LABELS = 36  # characters of all tick labels together; longer ones are slanted
BLUE = "#2b6cb0"
ORANGE = "#dd6b20"
GREY = "#8a8f98"
LABEL_COLOR = BLUE
PREDICTION_COLOR = ORANGE
COSTS = {
    "parameters": "parameters",
    "flops": "floating-point operations per example",
    "latency_ms": "latency on this machine, ms (median)",
    "latency_p95_ms": "latency on this machine, ms (95th percentile)",
}
STYLE = "body{font:14px sans-serif}article{display:inline-block;width:350px;margin:12px}img{margin-right:6px}"


def prediction_figures(rows: Rows, majority_baseline: float) -> dict[str, Figure]:
    """Return name -> figure, each where it applies.

    confusion: at most MAX_CATEGORIES answers; scores: true-or-false statements; categories: examples with a category.
    """
    figures = {}
    if len(answer_names(rows)) <= MAX_CATEGORIES:
        figures["confusion"] = confusion_figure(rows)
    if is_true_or_false(rows):
        figures["scores"] = scores_figure(rows)
    if any(rows["category"]):
        figures["categories"] = categories_figure(rows, majority_baseline)
    return figures


def answer_names(rows: Rows) -> set[str]:
    """Return the lower-case names of all labels and predictions."""
    return {str(answer).lower() for column in ("label", "prediction") for answer in rows[column]}


def is_true_or_false(rows: Rows) -> bool:
    """Return whether the score is the probability of true, rather than of the predicted answer."""
    return answer_names(rows) <= {"true", "false"}


def blank(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of a size in inches, and its axes from left to right."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, columns)))


def confusion_figure(rows: Rows) -> Figure:
    """Draw the confusion matrix: labels as rows, predictions as columns, counts with their fraction of the label."""
    names = sorted({*rows["label"], *rows["prediction"]}, key=str.lower)
    pairs = list(zip(rows["label"], rows["prediction"], strict=True))
    counts = np.array([[pairs.count((label, answer)) for answer in names] for label in names])
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, (axes,) = blank(5, 4.2)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        text = f"{count:,}\n{fractions[row, column]:.0%}"
        color = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=15)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="prediction", ylabel="label", title=f"Confusion matrix of {counts.sum():,} examples")
    axes.tick_params(axis="x", rotation=45 if len("".join(names)) > LONG_LABELS else 0)
    return figure


def scores_figure(rows: Rows) -> Figure:
    """Draw the histogram of scores by label (left) and the calibration curve (right)."""
    score = np.asarray(rows["score"], float)
    is_true = np.array([str(label).lower() == "true" for label in rows["label"]])
    figure, (left, right) = blank(9.6, 4.2, columns=2)
    draw_score_histogram(left, score, is_true)
    draw_calibration(right, score, is_true)
    return figure


def draw_score_histogram(axes: Axes, score: np.ndarray, is_true: np.ndarray) -> None:
    """Draw the histogram of scores [N], by label [N]."""
    edges = np.linspace(0, 1, SCORE_BINS + 1).tolist()
    axes.hist([score[is_true], score[~is_true]], edges, label=["label true", "label false"], color=[BLUE, ORANGE])
    axes.set(xlabel="score (probability of true)", ylabel="count", title="Scores by label")
    axes.legend(frameon=False)


def draw_calibration(axes: Axes, score: np.ndarray, is_true: np.ndarray) -> None:
    """Draw, for each bin of scores [N], the fraction of true labels [N] against the mean score."""
    bins = np.clip((score * SCORE_BINS).astype(int), 0, SCORE_BINS - 1)
    filled = np.unique(bins)
    means = [float(score[bins == number].mean()) for number in filled]
    fractions = [float(is_true[bins == number].mean()) for number in filled]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect calibration")
    axes.plot(means, fractions, "o-", color=BLUE, label="this model")
    axes.set(
        xlabel="mean score", ylabel="fraction of true labels", title="Calibration", xlim=(0, 1), ylim=(-0.03, 1.03)
    )
    axes.legend(frameon=False, loc="upper left")


def categories_figure(rows: Rows, majority_baseline: float) -> Figure:
    """Draw the accuracy and number of examples of the most frequent categories, and the majority baseline."""
    categories = np.asarray(rows["category"])
    correct = np.asarray(rows["correct"], float)
    names, counts = np.unique(categories, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CATEGORIES][::-1]  # bars are drawn from the bottom up
    accuracies = [float(correct[categories == names[index]].mean()) for index in order]
    figure, (axes,) = blank(7.5, 1.4 + 0.4 * len(order))
    bars = axes.barh([str(names[index]) or "(none)" for index in order], accuracies, color=BLUE)
    texts = [f"{value:.1%} of {counts[index]:,}" for value, index in zip(accuracies, order, strict=True)]
    axes.bar_label(bars, texts, padding=3)
    axes.axvline(majority_baseline, color=ORANGE, linestyle="--", label=f"majority baseline: {majority_baseline:.1%}")
    axes.set(xlabel="accuracy", xlim=(0, 1.22), xticks=np.linspace(0, 1, 6), title="Accuracy by category")
    figure.legend(frameon=False, loc="outside lower center")
    return figure


def histogram_figures(histograms: Mapping[str, Mapping[Any, int]]) -> dict[str, Figure]:
    """Return title -> figure of its counts: numbers along the axis, names as bars from the most frequent."""
    figures = {}
    for title, counts in histograms.items():
        is_numeric = all(isinstance(value, int) for value in counts)
        figures[title] = number_histogram(title, counts) if is_numeric else name_histogram(title, counts)
    return figures


def number_histogram(title: str, counts: Mapping[int, int]) -> Figure:
    figure, (axes,) = blank(7.5, 3.6)
    axes.bar(list(counts), list(counts.values()), color=BLUE, width=0.9)
    axes.set(xlabel=title, ylabel="count")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def name_histogram(title: str, counts: Mapping[Any, int]) -> Figure:
    figure, (axes,) = blank(7.5, 1.2 + 0.25 * len(counts))
    names = [str(name) for name in counts][::-1]  # bars are drawn from the bottom up
    axes.barh(names, list(counts.values())[::-1], color=BLUE)
    axes.set(xlabel="count", title=title)
    return figure


def comparison_figure(models: Sequence[Any]) -> Figure:
    """Draw a group of bars for each score that all models have, one bar a model (with its .title and .scores)."""
    shared = [name for name in models[0].scores if all(name in model.scores for model in models)]
    figure, (axes,) = blank(2 + 2.6 * len(shared), 4.4)
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        centers = np.arange(len(shared)) + (number - (len(models) - 1) / 2) * width
        bars = axes.bar(centers, [model.scores[name] for name in shared], width * 0.92, label=model.title)
        axes.bar_label(bars, fmt="{:.3f}", padding=2)
    axes.set(ylim=(0, 1.08), ylabel="score", title="Scores on the test split")
    axes.set_xticks(range(len(shared)), shared)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(models))
    return figure


def tradeoff_figure(models: Sequence[Any], metric: str) -> Figure:
    """Draw the score of each model (with .title, .scores, .validation and costs) against its size and its latency."""
    figure, (size, latency) = blank(10, 4.2, columns=2)
    for number, model in enumerate(models):
        score = model.scores.get(metric, model.validation)
        color = f"C{number}"
        size.plot(model.parameters, score, "o", color=color, markersize=9, label=model.title)
        latency.plot([model.latency_ms, model.latency_p95_ms], [score, score], color=color)
        latency.plot(model.latency_ms, score, "o", color=color, markersize=9)
    size.set(xlabel="parameters", ylabel=metric, title="Size")
    size.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    latency.set(xlabel="ms per example (dot: median, line: to the 95th percentile)", title="Latency on this machine")
    for axes, name in ((size, "parameters"), (latency, "latency_p95_ms")):
        axes.set(xlim=(0, 1.15 * max(getattr(model, name) for model in models)))
        axes.margins(y=0.2)
        axes.grid(alpha=0.3)
    figure.legend(frameon=False, loc="outside lower center", ncols=len(models))
    return figure


def prediction_files(split: str, title: str, rows: Rows, read_image: ReadImage) -> dict[str, str]:
    """Return artifact path -> text: a page of examples with their images, and the table of all predictions."""
    columns = [name for name in rows if name not in ("image_ids", "drawn_boxes")]
    data = [list(row) for row in zip(*(rows[name] for name in columns), strict=True)]
    return {
        f"predictions/{split}.html": page(title, rows, read_image),
        f"predictions/{split}.table.json": json.dumps({"columns": columns, "data": data}),
    }


def page(title: str, rows: Rows, read_image: ReadImage) -> str:
    """Return HTML with the most confident incorrect predictions, then the most confident correct ones."""
    score = np.asarray(rows["score"], float)
    confidence = np.abs(score - 0.5) if is_true_or_false(rows) else score
    order = np.argsort(-confidence, kind="stable")
    parts = [f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><h2>{escape(title)}</h2>"]
    for heading, limit in EXAMPLES_SHOWN.items():
        indices = [int(index) for index in order if rows["correct"][index] == (heading == "Correct")]
        cards = [card(rows, index, read_image) for index in indices[:limit]]
        parts.append(f"<h3>{heading}: {len(indices):,} of {len(order):,}, the {len(cards)} most confident</h3>")
        parts += cards
    return "\n".join(parts)


def card(rows: Rows, index: int, read_image: ReadImage) -> str:
    """Return HTML of one example: its images, text, prediction and label."""
    row = {name: values[index] for name, values in rows.items()}
    boxes = row.get("drawn_boxes", ())
    images = "".join(thumbnail(read_image(image_id), boxes) for image_id in row["image_ids"])
    legend = "<br><small>blue box: label, orange box: prediction</small>" if boxes else ""
    return (
        f"<article>{images}<p>{escape(row['text'])}</p>prediction <b>{escape(row['prediction'])}</b> "
        f"(score {row['score']:.3f}), label <b>{escape(row['label'])}</b><br>"
        f"<small>{escape(row['identifier'])} {escape(row['category'])}</small>{legend}</article>"
    )


def thumbnail(image: Image.Image | None, boxes: Sequence[Sequence[float]]) -> str:
    """Return an HTML image with boxes, in 0..1, of the label and of the prediction, if any."""
    if image is None:
        return ""
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    for box, color, margin in zip(boxes, (LABEL_COLOR, PREDICTION_COLOR), (0, 2), strict=False):
        draw_box(small, box, color=color, margin=margin)
    buffer = BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def draw_box(image: Image.Image, box: Sequence[float], *, color: str, margin: int) -> None:
    """Draw the outline of a box in 0..1, `margin` pixels outside of it."""
    x1, y1, x2, y2 = (value * length for value, length in zip(box, image.size * 2, strict=True))
    corners = (x1 - margin, y1 - margin, max(x1, x2) + margin, max(y1, y2) + margin)
    ImageDraw.Draw(image).rectangle(corners, outline=color)


def model_card(title: str, facts: Mapping[str, Any], warning: str = "") -> str:
    """Return Markdown: scores (facts named split/metric) and costs beside the teacher's (teacher/...), other facts."""
    facts = {name: value for name, value in facts.items() if name != "warning" and value != ""}
    teacher = {name.removeprefix("teacher/"): value for name, value in facts.items() if name.startswith("teacher/")}
    facts = {name: value for name, value in facts.items() if not name.startswith("teacher/")}
    numbers = {name: value for name, value in facts.items() if "/" in name or name in COSTS}
    facts = {name: value for name, value in facts.items() if name not in numbers}
    parts = [
        f"# {title}",
        f"> **Warning: {warning}.**" if warning else "",
        numbers_table(numbers, teacher),
        table(["fact", "value"], [[name, str(value)] for name, value in facts.items()]),
        "Intended use: texts and images like those of the training data. Scores hold for the data with the fingerprint "
        "above.\n",
    ]
    return "\n\n".join(filter(None, parts))


def numbers_table(numbers: Mapping[str, Any], teacher: Mapping[str, Any]) -> str:
    """Return a Markdown table of a model's numbers, beside the teacher's if it has one."""
    if not teacher:
        return table(["", "this model"], [[COSTS.get(name, name), grouped(numbers[name])] for name in numbers])
    rows = [[COSTS.get(name, name), grouped(numbers[name]), grouped(teacher.get(name, ""))] for name in numbers]
    return table(["", "this model", "teacher"], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *rows))


def grouped(value: Any) -> str:
    """Return 1234567 as 1,234,567; any other value as it is."""
    return f"{int(value):,}" if str(value).isdecimal() else str(value)
