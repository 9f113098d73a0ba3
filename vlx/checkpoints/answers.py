"""Answer heads by answer: the rows of a head over one vocabulary, moved to another."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vlx.corpora.formats.annotations.lxmert import convert_answer
from vlx.errors import CheckpointError


def answer_rows(rows: Tensor, table: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Rows [P,..] of a head over `table`, the pre-training answers -> [A,..] over `answers`; zeros for a new answer
    (LXMERT, src/pretrain/qa_answer_table.py)."""
    if len(table) != len(rows):
        raise CheckpointError(f"{len(table)} answers of pre-training for a head of {len(rows)}; give those it had.")
    index_of = {answer: index for index, answer in enumerate(table)}
    indices = torch.tensor([index_of.get(convert_answer(answer), -1) for answer in answers])
    return torch.cat([rows, torch.zeros_like(rows[:1])])[indices]  # -1: the zeros


def read_answers(path: Path) -> list[str]:
    """The answer of every label: a JSON list, a dict answer -> label, or LXMERT's list of objects with `ans`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        answers = sorted(content, key=content.__getitem__) if isinstance(content, dict) else list(content)
        answers = [answer["ans"] if isinstance(answer, dict) else answer for answer in answers]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a list of answers ({error}); expected trainval_label2ans.json.") from error
    if not all(isinstance(answer, str) for answer in answers):
        raise CheckpointError(f"{path}: expected texts, the answer of each label.")
    return answers
