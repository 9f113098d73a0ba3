"""The numbers of the official scripts, from a submission file over the real annotations."""

import json
import random
from collections import defaultdict
from pathlib import Path

import pytest
from datasets import Dataset

from vlx import tasks
from vlx.corpora.formats.annotations import nlvr, nlvr2


def official_scores(annotations: list[dict], answers: dict[str, str]) -> dict[str, float]:
    """As the published metric reads the csv: accuracy over identifiers, consistency over (split, set, sentence)."""
    num_correct = 0
    groups: defaultdict[str, bool] = defaultdict(lambda: True)
    for annotation in annotations:
        identifier = annotation["identifier"]
        split, number, _, sentence = identifier.split("-")
        correct = answers[identifier].lower() == annotation["label"].lower()
        num_correct += correct
        groups[f"{split}-{number}-{sentence}"] &= correct
    return {"accuracy": num_correct / len(annotations), "consistency": sum(groups.values()) / len(groups)}


@pytest.mark.parametrize("name", ["dev.json", "balanced/balanced_dev.json", "unbalanced/unbalanced_dev.json"])
def test_a_submission_over_nlvr2_has_the_official_numbers(data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / "nlvr2" / "data" / name
    annotations = [json.loads(line) for line in path.read_text().splitlines()]
    examples = Dataset.from_list([row._asdict() for row in nlvr2.statements(path)])
    assert len(examples) == len(annotations)
    rng = random.Random(1)
    answers = {}
    for annotation in annotations:  # correct four times in five
        label = annotation["label"]
        answers[annotation["identifier"]] = label if rng.random() < 0.8 else str(label.lower() != "true")
    file = tmp_path / "nlvr2_dev.csv"
    file.write_text("".join(f"{number},{answer}\n" for number, answer in answers.items()))
    expected = official_scores(annotations, answers)
    assert 0.75 < expected["accuracy"] < 0.85 and expected["consistency"] < expected["accuracy"]
    assert tasks.load("nlvr2").score_submission(examples, file) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("line", ["{}", "dev-{}-0.png"])  # of structured_rep; of images
def test_a_submission_over_nlvr_has_the_official_numbers(data_dir: Path, tmp_path: Path, line: str) -> None:
    """Precision over the examples; consistency over the sentences n of identifiers n-m."""
    path = data_dir / "nlvr" / "dev" / "dev.json"
    annotations = [json.loads(row) for row in path.read_text().splitlines()]
    examples = Dataset.from_list([row._asdict() for _, row in nlvr.statements(path, "dev")])
    rng = random.Random(1)
    num_correct = 0
    groups: defaultdict[str, bool] = defaultdict(lambda: True)
    lines = []
    for annotation in annotations:
        correct = rng.random() < 0.8
        num_correct += correct
        groups[annotation["identifier"].split("-")[0]] &= correct
        label = annotation["label"]
        answer = label if correct else {"true": "false", "false": "true"}[label]
        lines.append(f"{line.format(annotation['identifier'])},{answer}\n")
    file = tmp_path / "nlvr_dev.csv"
    file.write_text("".join(lines))
    expected = {"accuracy": num_correct / len(annotations), "consistency": sum(groups.values()) / len(groups)}
    assert len(examples) == 989 and expected["consistency"] < expected["accuracy"]
    assert tasks.load("nlvr").score_submission(examples, file) == pytest.approx(expected, abs=1e-12)
