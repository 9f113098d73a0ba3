"""The registry of tasks: a new task is one file and one line here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from vlx.errors import ConfigError, CorpusError
from vlx.objectives.supervised import soft_target_bce
from vlx.objectives.vilbert import mean_bce
from vlx.tasks.base import Contrasting, Encoded, Splits, Task, Varying
from vlx.tasks.choices import VCR
from vlx.tasks.pointing import GUESSWHAT_POINTING, REFERRING, VISUAL7W
from vlx.tasks.questions import QuestionTask, gqa, vqa
from vlx.tasks.retrieval import HARD_RETRIEVAL, RETRIEVAL
from vlx.tasks.statements import GUESSWHAT, NLVR, NLVR2, SNLI_VE, StatementTask

ALL: list[Task] = [NLVR2, NLVR, SNLI_VE, GUESSWHAT, RETRIEVAL, *REFERRING, VISUAL7W, GUESSWHAT_POINTING, *VCR]
FIXED = {task.name: task for task in ALL}
VQA_RAD = partial(vqa, name="vqa_rad", splits=Splits("train", "val", "test"))
# Made from their vocabulary.
GENOME_QA = partial(vqa, name="genome_qa", splits=Splits("train", "val", "val"))  # it has no test split of its own
WITH_ANSWERS: dict[str, Callable[[Sequence[str]], Task]] = {
    "vqa": vqa, "gqa": gqa, "vqa_rad": VQA_RAD, "genome_qa": GENOME_QA,
}  # fmt: skip


def load(name: str, answers: Sequence[str] = (), *, loss: str = "", negatives: str = "one") -> Task:
    """The task of that name; `answers`: its vocabulary by label, a corpus's or a model's; loss, negatives: how it is
    learnt, as options say. Raises UserError."""
    task = named(name, answers)
    if negatives == "three":
        if name != "retrieval":
            raise ConfigError(f"negatives=three: task {name} has no pairs to choose from; expected task=retrieval.")
        task = HARD_RETRIEVAL
    return with_bce(task) if loss == "bce" else task


def named(name: str, answers: Sequence[str]) -> Task:
    if name in FIXED:
        return FIXED[name]
    if name not in WITH_ANSWERS:
        raise ConfigError(f"task={name}: expected one of {', '.join([*FIXED, *WITH_ANSWERS])}.")
    if not answers:
        raise CorpusError(f"task {name}: the corpus has no answer vocabulary. Prepare it from the task's own files.")
    return WITH_ANSWERS[name](answers)


def with_bce(task: Task) -> Task:
    """The same task, each of whose answers is its own yes or no, as ViLBERT 12-in-1 learns (specs: ViLBERT 3.2)."""
    if isinstance(task, StatementTask):
        return replace(task, loss=mean_bce)
    if isinstance(task, QuestionTask):
        return replace(task, loss=soft_target_bce)
    if task.loss is soft_target_bce:
        return task
    raise ConfigError(f"loss=bce: task {task.name} chooses one of several; expected a task with named answers.")


__all__ = ["Contrasting", "Encoded", "Splits", "Task", "Varying", "load"]
