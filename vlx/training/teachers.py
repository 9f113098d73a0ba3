"""Who may teach: one model or several, of any system that reads regions, whose answers are matched by what they say."""

import logging
from collections.abc import Sequence

from vlx import checkpoints, models, tasks
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError
from vlx.models.ensemble import Ensemble
from vlx.tasks.base import tags_of
from vlx.tokenization import WordPiece
from vlx.training.batching import examples_of, reads_tags

log = logging.getLogger("vlx")
LEAST_SHARE = 0.5  # of the corpus's answers that a teacher must know
LOOKED_AT = 100  # examples that tell whether a corpus has object tags


def join(given: Sequence[Loaded], cfg: DistillConfig, task: tasks.Task, corpus: Corpus) -> Loaded:
    """The teachers as one model that gives logits of the task's answers. Its meta is the first's, whose layers a
    student may start from. Raises ConfigError or CheckpointError."""
    tagged = has_tags(task, corpus, cfg.train_split)
    for one in given:
        check_system(one, cfg, first=one is given[0])
        check_batch(one, given[0], cfg, tagged)
    places = [places_of(one, task) for one in given]
    if places == [None]:
        return given[0]
    if cfg.reptile:
        uri = given[0].meta["uri"]
        raise ConfigError(f"reptile=true: {uri} has other answers, or another order of them, than the corpus.")
    for one, place in zip(given, places, strict=True):
        if place:
            found = f"{sum(at >= 0 for at in place):,} of the corpus's {len(place):,} answers"
            log.info("%s knows %s; they are matched by what they say.", one.meta["uri"], found)
    model = Ensemble([one.model for one in given], places)
    return Loaded(model, given[0].tokenizer, given[0].meta | {"uri": cfg.teacher}, given[0].report)


def check_system(one: Loaded, cfg: DistillConfig, *, first: bool) -> None:
    """What a teacher of another system than the student's cannot do. first: a student starts from its layers."""
    uri, system = one.meta["uri"], one.meta["system"]
    if system == cfg.model:
        return
    if system in models.PIXELS or cfg.model in models.PIXELS:
        raise ConfigError(f"model={cfg.model}: {uri} is of {system}; one reads pictures, the other regions.")
    if cfg.reptile or cfg.method != "kd":
        raise ConfigError(f"method={cfg.method}, reptile={cfg.reptile}: {uri} is of {system}; expected kd and false.")
    if first and cfg.student_init != "random":
        start = f"student_init={cfg.student_init}: {uri} is of {system}, which has no layers for {cfg.model}"
        raise ConfigError(f"{start}; give student_init=random, or model={system}.")


def check_batch(one: Loaded, first: Loaded, cfg: DistillConfig, tagged: bool) -> None:
    """Teachers and student read one batch: the same words, lengths and tags."""
    uri, reads, words = one.meta["uri"], one.meta.get("tags", False), vocabulary(one)
    if words != vocabulary(first):
        raise ConfigError(f"teacher={uri}: has another vocabulary than {first.meta['uri']}; expected one for all.")
    own = checkpoints.vocab_file(cfg)
    if own and WordPiece.load(own).vocab != words:
        raise ConfigError(f"vocab={own}: not the teacher's, which its student reads too; leave vocab empty.")
    most = getattr(one.model.config, "max_position_embeddings", cfg.max_text_tokens)
    if cfg.max_text_tokens > most:
        raise ConfigError(f"max_text_tokens={cfg.max_text_tokens}: {uri} reads at most {most}; give that or less.")
    if tagged and reads_tags(cfg) and not reads:
        raise ConfigError(f"tags=true: {uri} reads no object tags, and both read one batch; give tags=false.")
    if tagged and reads and not reads_tags(cfg):
        log.warning("%s learnt with object tags and is asked without; expect less of it.", uri)


def vocabulary(one: Loaded) -> dict[str, int] | None:
    return one.tokenizer.vocab if one.tokenizer else None


def has_tags(task: tasks.Task, corpus: Corpus, split: str) -> bool:
    examples = examples_of(corpus, task.name, split or task.splits.train)
    rows = examples.select(range(min(LOOKED_AT, len(examples))))
    return any(any(tags_of(*row, corpus.tags)) for row in zip(rows["image_ids"], rows["extra"], strict=True))


def places_of(one: Loaded, task: tasks.Task) -> list[int] | None:
    """Where the teacher keeps each of the task's answers, -1 what it does not know; None: just as the task."""
    uri, answers, labels = one.meta["uri"], one.meta.get("answers") or [], one.model.config.num_labels
    if not answers and task.head.kind == "classify" and labels != task.head.labels:
        counts = f"{labels:,} answers without their names, the corpus has {task.head.labels:,}"
        raise CheckpointError(f"{uri}: {counts}; import it with its file of answers.")
    if not answers or answers == list(task.answers):
        return None
    index = {answer: label for label, answer in enumerate(answers)}
    places = [index.get(answer, -1) for answer in task.answers]
    shared = sum(place >= 0 for place in places)
    if shared < LEAST_SHARE * len(places):
        counts = f"knows {shared:,} of the corpus's {len(places):,} answers, expected at least {LEAST_SHARE:.0%}"
        raise CheckpointError(f"{uri}: {counts}; take a teacher of these answers.")
    return places
