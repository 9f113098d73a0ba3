"""Teachers: one model or several, of any architecture with the student's input, matched by answer."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vlx import checkpoints
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError
from vlx.inputs.dataset import examples_of
from vlx.models.ensemble import Ensemble
from vlx.models.spec import load_spec
from vlx.recipes.data import uses_tags
from vlx.recipes.requirements import check_teacher
from vlx.tasks.base import Task
from vlx.tasks.texts import tags_of
from vlx.tokenization import WordPiece

log = logging.getLogger("vlx")
MIN_SHARED_ANSWERS = 0.5  # share of the corpus's answers that a teacher must know
TAG_SAMPLE = 100  # examples that tell whether a corpus has object tags


def load_teacher_ensemble(teachers: Sequence[Loaded], cfg: DistillConfig, task: Task, corpus: Corpus) -> Loaded:
    """The teachers as one model with logits of the task's answers; preprocessing is the first's, whose layers a student
    may start from. Raises ConfigError or CheckpointError."""
    first = teachers[0]
    tagged = has_tags(task, corpus, cfg.train_split)
    for number, teacher in enumerate(teachers):
        check_teacher(cfg, teacher.spec, uri=teacher.uri, is_first=number == 0)
        check_inputs(teacher, first, cfg, tagged=tagged)
    indices = [answer_indices(teacher, task) for teacher in teachers]
    if indices == [None]:
        return first
    if cfg.reptile:
        raise ConfigError(f"reptile=true: {first.uri} has other answers, or another order of them, than the corpus.")
    for teacher, row in zip(teachers, indices, strict=True):
        if row:
            count = f"{sum(index >= 0 for index in row):,} of the corpus's {len(row):,} answers"
            log.info("%s knows %s; they are matched by text.", teacher.uri, count)
    model = Ensemble([teacher.model for teacher in teachers], indices)
    return Loaded(model, first.tokenizer, first.preprocessing, first.report, cfg.teacher)


def check_inputs(teacher: Loaded, first: Loaded, cfg: DistillConfig, *, tagged: bool) -> None:
    """Teachers and student read one batch: the same vocabulary, lengths and tags."""
    vocab = vocab_of(teacher)
    if vocab != vocab_of(first):
        raise ConfigError(f"teacher={teacher.uri}: has another vocabulary than {first.uri}; expected one for all.")
    file = checkpoints.vocab_file(cfg)
    if file and WordPiece.load(Path(file)).vocab != vocab:
        raise ConfigError(f"vocab={file}: not the teacher's, which its student reads too; leave vocab empty.")
    limit = getattr(teacher.model.config, "max_position_embeddings", cfg.max_text_tokens)
    if cfg.max_text_tokens > limit:
        lengths = f"max_text_tokens={cfg.max_text_tokens}: {teacher.uri} reads at most {limit}"
        raise ConfigError(f"{lengths}; give that or less.")
    student_tags = uses_tags(load_spec(cfg.model), cfg)
    teacher_tags = teacher.preprocessing.object_tags
    if tagged and student_tags and not teacher_tags:
        raise ConfigError(
            f"object_tags=true: {teacher.uri} reads no object tags, and both read one batch; give object_tags=false."
        )
    if tagged and teacher_tags and not student_tags:
        log.warning("%s was trained with object tags and reads none here; expect less of it.", teacher.uri)


def vocab_of(loaded: Loaded) -> dict[str, int] | None:
    return loaded.tokenizer.vocab if loaded.tokenizer else None


def has_tags(task: Task, corpus: Corpus, split: str) -> bool:
    """Whether any of the first examples has object tags."""
    examples = examples_of(corpus, task.name, split or task.splits.train)
    rows = examples.select(range(min(TAG_SAMPLE, len(examples))))
    return any(any(tags_of(*row, corpus.tags)) for row in zip(rows["image_ids"], rows["extra"], strict=True))


def answer_indices(teacher: Loaded, task: Task) -> list[int] | None:
    """The teacher's index of each of the task's answers, -1 if it lacks the answer; None: equal to the task's."""
    answers = teacher.preprocessing.answers
    labels = teacher.model.config.num_labels
    if not answers and task.answers and labels != task.head.labels:
        counts = f"{labels:,} answers without their names, the corpus has {task.head.labels:,}"
        raise CheckpointError(f"{teacher.uri}: {counts}; import it with its file of answers.")
    if not answers or answers == tuple(task.answers):
        return None
    index_of = {answer: label for label, answer in enumerate(answers)}
    indices = [index_of.get(answer, -1) for answer in task.answers]
    shared = sum(index >= 0 for index in indices)
    if shared < MIN_SHARED_ANSWERS * len(indices):
        counts = (
            f"knows {shared:,} of the corpus's {len(indices):,} answers, expected at least {MIN_SHARED_ANSWERS:.0%}"
        )
        raise CheckpointError(f"{teacher.uri}: {counts}; take a teacher of these answers.")
    return indices
