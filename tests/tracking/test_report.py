import base64
import json
import re
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from vlx.tracking import report


@dataclass(frozen=True)
class Scores:
    title: str
    scores: dict[str, float]


def rows(scores: list[float], labels: list[int], category: str = "count") -> dict[str, list[Any]]:
    answers = ("False", "True")
    return {
        "identifier": [f"dev-{number}" for number in range(len(scores))],
        "text": [f"<b>{number}</b> & more" for number in range(len(scores))],
        "category": [category for _ in scores],
        "image_ids": [["a", "b"] for _ in scores],
        "label": [answers[label] for label in labels],
        "prediction": [answers[score > 0.5] for score in scores],
        "score": scores,
        "correct": [(score > 0.5) == bool(label) for score, label in zip(scores, labels, strict=True)],
    }


FOUR = rows([0.9, 0.8, 0.2, 0.6], [1, 0, 0, 1])


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_confusion_counts_by_label_and_share_of_the_label() -> None:
    # labels: True False False True; predictions: True True False True
    assert texts(report.confusion_figure(FOUR)) == ["1\n50%", "1\n50%", "0\n0%", "2\n100%"]


def test_categories_show_accuracy_count_and_majority_baseline() -> None:
    figure = report.categories_figure(FOUR, 0.5)
    assert texts(figure) == ["75.0% of 4"]
    assert figure.legends[0].get_texts()[0].get_text() == "majority baseline: 50.0%"


def test_calibration_is_the_fraction_of_true_labels_by_mean_score() -> None:
    calibration = report.scores_figure(rows([0.31, 0.33, 0.71, 0.73], [1, 0, 1, 1])).axes[1]
    assert calibration.lines[1].get_xdata() == pytest.approx([0.32, 0.72])
    assert calibration.lines[1].get_ydata() == pytest.approx([0.5, 1.0])


def test_a_task_without_categories_has_no_figure_of_them() -> None:
    assert set(report.prediction_figures(FOUR, 0.5)) == {"confusion", "scores", "categories"}
    assert set(report.prediction_figures(rows([0.9], [1], ""), 0.5)) == {"confusion", "scores"}


def test_comparison_has_a_bar_a_model_and_shared_score() -> None:
    models = [Scores("teacher", {"accuracy": 0.8, "consistency": 0.5}), Scores("student", {"accuracy": 0.7})]
    assert texts(report.comparison_figure(models)) == ["0.800", "0.700"]


def test_the_page_shows_the_most_confident_mistakes_first_with_small_images_and_escaped_text() -> None:
    files = report.prediction_files(
        "dev", "dev: 4 examples", FOUR, lambda image: Image.new("RGB", (900, 300)) if image == "a" else None
    )
    page = files["predictions/dev.html"]
    assert page.count("<article>") == 4 and page.count("data:image/png") == 4
    assert "&lt;b&gt;1&lt;/b&gt; &amp; more" in page and "<b>1</b>" not in page
    assert page.index("dev-1") < page.index("dev-0") < page.index("dev-2") < page.index("dev-3")
    assert "<h3>Incorrect: 1 of 4" in page and "<h3>Correct: 3 of 4" in page
    assert len(page) < 20_000


def test_the_table_has_every_prediction_as_mlflow_reads_tables() -> None:
    table = json.loads(
        report.prediction_files("dev", "dev: 4 examples", FOUR, lambda image: None)["predictions/dev.table.json"]
    )
    assert len(table["data"]) == 4 and "image_ids" not in table["columns"]
    assert dict(zip(table["columns"], table["data"][1], strict=True))["prediction"] == "True"


def test_the_card_holds_scores_lineage_and_the_warning() -> None:
    facts = {"task": "nlvr2", "val/accuracy": "0.5", "teacher": "models:/t/1", "teacher_run": "", "warning": "w"}
    card = report.model_card("student", facts, "at the majority baseline")
    assert "| val/accuracy | 0.5 |" in card and "| teacher | models:/t/1 |" in card
    assert "**Warning: at the majority baseline.**" in card and "teacher_run" not in card
    assert "Warning" not in report.model_card("student", facts)


def test_of_several_answers_the_most_confident_has_the_highest_score() -> None:
    answers = {"label": ["<i>", "<i>"], "prediction": ["<u>", "<u>"], "correct": [False] * 2}
    table = rows([0.1, 0.6], [0, 0], "") | answers
    page = report.prediction_files("val", "val: 2 examples", table, lambda image: None)["predictions/val.html"]
    assert page.index("dev-1") < page.index("dev-0") and "<h2>val: 2 examples</h2>" in page
    assert "<b>&lt;u&gt;</b>" in page and "<i>" not in page


def test_boxes_are_drawn_into_the_image() -> None:
    boxes = [[[0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]]]  # label, prediction
    table = rows([0.9], [1], "") | {"drawn_boxes": boxes, "image_ids": [["a"]]}
    files = report.prediction_files("val", "val", table, lambda image: Image.new("RGB", (50, 50)))
    data = re.search('base64,([^"]*)', files["predictions/val.html"])
    assert data and "drawn_boxes" not in files["predictions/val.table.json"]
    image = Image.open(BytesIO(base64.b64decode(data[1])))
    assert [image.getpixel(position) for position in ((5, 10), (28, 35), (25, 25))] == [
        tuple(bytes.fromhex(color.removeprefix("#")))
        for color in (report.LABEL_COLOR, report.PREDICTION_COLOR, "#000000")
    ]


def test_the_card_of_a_student_shows_what_its_teacher_scores_and_costs() -> None:
    facts = {"task": "nlvr2", "test/accuracy": "0.90", "parameters": "1234567", "latency_ms": "3.10"}
    card = report.model_card("student", facts | {"teacher/test/accuracy": "0.91", "teacher/parameters": "2345678"})
    assert "| test/accuracy | 0.90 | 0.91 |" in card and "| parameters | 1,234,567 | 2,345,678 |" in card
    assert "| | this model | teacher |" in card.replace("|  |", "| |")
    assert "| teacher |" not in report.model_card("its teacher", facts) and "3.10 |" in card


def test_the_figure_of_size_and_latency_has_a_point_a_model_in_each_panel() -> None:
    costs = {"parameters": 200, "latency_ms": 4.0, "latency_p95_ms": 6.0, "validation": 0.8}
    teacher = SimpleNamespace(title="teacher", scores={"accuracy": 0.9}, **costs)
    student = SimpleNamespace(title="student", scores={}, **(costs | {"parameters": 100}))
    size, latency = report.tradeoff_figure([teacher, student], "accuracy").axes
    assert [tuple(line.get_xydata()[0]) for line in size.lines] == [(200, 0.9), (100, 0.8)]  # no test score: validation
    assert [4.0, 6.0] in [list(line.get_xdata()) for line in latency.lines]
