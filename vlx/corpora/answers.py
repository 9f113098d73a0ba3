"""VQA v2's answers: the official normalisation, soft scores, and the vocabulary (specs: VLE 2 and 8).

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
PERIODS_AT_MOST = 32  # the official script passes re.UNICODE, which is 32, as the number of replacements
LEAST_COUNT = 9  # occurrences of an answer in the vocabulary


def normalize_word(answer: str) -> str:
    """The official normal form: no punctuation, no articles, digits for number words, contractions mended."""
    return settle_words(strip_punctuation(one_line(answer)))


def one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def strip_punctuation(text: str) -> str:
    kept = text
    for mark in WORDS["punct"]:
        alone = f"{mark} " in text or f" {mark}" in text or COMMA.search(text)
        kept = kept.replace(mark, "" if alone else " ")
    return PERIOD.sub("", kept, PERIODS_AT_MOST)


def settle_words(text: str) -> str:
    words = (WORDS["manual_map"].get(word, word) for word in text.lower().split())
    return " ".join(WORDS["contractions"].get(word, word) for word in words if word not in WORDS["articles"])


def get_score(count: int) -> float:
    """The soft score of an answer that `count` of ten annotators gave: 0, .3, .6, .9, 1."""
    return (0.0, 0.3, 0.6, 0.9)[count] if count < 4 else 1.0


def vocabulary(answers: Iterable[str], *, least: int = LEAST_COUNT) -> list[str]:
    """Normalised answers that occur at least so often, in the order of their first appearance."""
    counts = Counter(normalize_word(answer) for answer in answers)
    return [answer for answer, count in counts.items() if count >= least]


def soft_scores(humans: Sequence[str], known: set[str]) -> dict[str, float]:
    """Score of each of the ten raw answers that is in the vocabulary, in the order of first appearance."""
    return {answer: get_score(count) for answer, count in Counter(humans).items() if answer in known}
