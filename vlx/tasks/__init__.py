"""The registry of tasks: a new task is one file and one line here."""

from collections.abc import Callable, Sequence
from functools import partial

from vlx.errors import ConfigError, CorpusError
from vlx.tasks.base import Contrasting, Encoded, Splits, Task
from vlx.tasks.choices import VCR
from vlx.tasks.pointing import GUESSWHAT_POINTING, REFERRING, VISUAL7W
from vlx.tasks.questions import gqa, vqa
from vlx.tasks.retrieval import RETRIEVAL
from vlx.tasks.statements import GUESSWHAT, NLVR, NLVR2, SNLI_VE

ALL: list[Task] = [NLVR2, NLVR, SNLI_VE, GUESSWHAT, RETRIEVAL, *REFERRING, VISUAL7W, GUESSWHAT_POINTING, *VCR]
FIXED = {task.name: task for task in ALL}
VQA_RAD = partial(vqa, name="vqa_rad", splits=Splits("train", "val", "test"))
# Made from their vocabulary.
GENOME_QA = partial(vqa, name="genome_qa", splits=Splits("train", "val", "val"))  # it has no test split of its own
WITH_ANSWERS: dict[str, Callable[[Sequence[str]], Task]] = {
    "vqa": vqa, "gqa": gqa, "vqa_rad": VQA_RAD, "genome_qa": GENOME_QA,
}  # fmt: skip


def load(name: str, answers: Sequence[str] = ()) -> Task:
    """The task of that name; `answers`: its vocabulary by label, a corpus's or a model's. Raises UserError."""
    if name in FIXED:
        return FIXED[name]
    if name not in WITH_ANSWERS:
        raise ConfigError(f"task={name}: expected one of {', '.join([*FIXED, *WITH_ANSWERS])}.")
    if not answers:
        raise CorpusError(f"task {name}: the corpus has no answer vocabulary. Prepare it from the task's own files.")
    return WITH_ANSWERS[name](answers)


__all__ = ["Contrasting", "Encoded", "Splits", "Task", "load"]
