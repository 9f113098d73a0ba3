"""VQA v2's answers: the official normalisation (VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py), soft scores, and
the vocabulary (VLE, write_vqa.py).

vqa_words.json holds the official evaluator's tables: contractions, number words, articles and punctuation, in order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

WORDS = json.loads((Path(__file__).parent / "vqa_words.json").read_text(encoding="utf-8"))
PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")  # the official pattern, its slip in the look-behind included
COMMA = re.compile(r"(\d)(\,)(\d)")
MAX_PERIODS = 32  # the official script passes re.UNICODE, which is 32, as the number of replacements
MIN_ANSWER_COUNT = 9  # occurrences of an answer in the vocabulary


def normalize_word(answer: str) -> str:
    """The official normal form: no punctuation, no articles, digits for number words, contractions with apostrophe."""
    return normalize_words(strip_punctuation(one_line(answer)))


def one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    stripped = text
    for mark in WORDS["punct"]:
        at_word_end = f"{mark} " in text or f" {mark}" in text or COMMA.search(text)
        stripped = stripped.replace(mark, "" if at_word_end else " ")
    return PERIOD.sub("", stripped, MAX_PERIODS)


def normalize_words(text: str) -> str:
    tokens = (WORDS["manual_map"].get(token, token) for token in text.lower().split())
    return " ".join(WORDS["contractions"].get(token, token) for token in tokens if token not in WORDS["articles"])


def get_score(count: int) -> float:
    """The soft score of an answer that `count` of ten annotators gave: 0, .3, .6, .9, 1."""
    return (0.0, 0.3, 0.6, 0.9)[count] if count < 4 else 1.0


def vocabulary(answers: Iterable[str], *, min_count: int = MIN_ANSWER_COUNT) -> list[str]:
    """Normalised answers that occur `min_count` times or more, in the order of their first appearance."""
    counts = Counter(normalize_word(answer) for answer in answers)
    return [answer for answer, count in counts.items() if count >= min_count]


def soft_scores(human_answers: Sequence[str], table: set[str]) -> dict[str, float]:
    """answer -> score of the raw human answers that are in the vocabulary, in the order of first appearance."""
    return {answer: get_score(count) for answer, count in Counter(human_answers).items() if answer in table}
