"""VQA v2's official accuracy (GT-Vision-Lab/VQA, vqaEval; specs: VLE 8)."""

from collections.abc import Sequence

from vlx.corpora.answers import normalize_word, one_line

AGREEING = 3  # annotators that make an answer fully right


def accuracy_of(answer: str, humans: Sequence[str]) -> float:
    """0..1: the mean, over every annotator left out, of min(1, agreeing others / 3). Answers are normalised unless all
    annotators said exactly the same."""
    humans, answer = [one_line(human) for human in humans], one_line(answer)
    if len(set(humans)) > 1:
        humans, answer = [normalize_word(human) for human in humans], normalize_word(answer)
    others = [sum(other == answer for other in humans) - (human == answer) for human in humans]
    return sum(min(1.0, count / AGREEING) for count in others) / len(humans)
