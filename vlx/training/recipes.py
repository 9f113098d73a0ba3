"""The stages that entry points are made of: a starting point, a teacher, a student."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from vlx import checkpoints, corpora, models, tasks, tracking, workspace
from vlx.checkpoints import Loaded, LoadReport
from vlx.config import DataFields, DistillConfig, EvaluateConfig, FinetuneConfig, ModelFields, PrepareConfig
from vlx.corpora import Corpus
from vlx.corpora.pixels import canvas_of
from vlx.errors import CheckpointError, ConfigError
from vlx.models.dual import Dual
from vlx.models.ensemble import Ensemble
from vlx.models.student import Projected, set_dropout, student_from
from vlx.objectives import (
    LAYER_METHODS,
    Objective,
    contrastive,
    distillation,
    match_distillation,
    soft_target_bce,
    supervised,
)
from vlx.objectives.vilbert import mean_bce
from vlx.pixel_options import PixelFields
from vlx.tokenization import WordPiece
from vlx.training import teachers
from vlx.training.batching import Data, Split, TrainingData, examples_of, open_data, open_split, reads_tags
from vlx.training.device import accelerator_for
from vlx.training.evaluation import Validate, beside_teacher, validator
from vlx.training.logits import kept_logits
from vlx.training.loop import Best, fit, optim_of, schedule_of, total_steps
from vlx.training.pixel_training import all_as_pixels, as_pixels, from_clip, groups_of, told_of
from vlx.training.reptile import Reptile
from vlx.training.results import Result, finish, publish, read_result

log = logging.getLogger("vlx")
Trained = FinetuneConfig | DistillConfig


def corpus_of(cfg: DataFields, *, task: str | None = None) -> Corpus:
    """The corpus of these options, prepared first if need be. task: which it must hold, if not cfg.task; empty: any.
    Raises ConfigError if a model is to learn from it that cannot."""
    if isinstance(cfg, Trained) and cfg.model in models.TOWERS and cfg.task != "retrieval":
        raise ConfigError(f"model={cfg.model}: only says what belongs together; expected task=retrieval.")
    learns = isinstance(cfg, FinetuneConfig) and cfg.model == "clip_vil"  # the one that reads pixels and learns here
    if isinstance(cfg, Trained) and cfg.model in models.PIXELS and not learns:
        expected = f"expected one of {', '.join(models.SYSTEMS)}"
        raise ConfigError(f"model={cfg.model}: reads pixels; training it so comes later, {expected}.")
    return corpora.fetch(
        cfg.task if task is None else task, cfg.corpus, cfg.source, cfg.work_dir,
        format=cfg.format, dtype=cfg.dtype, detector=cfg.detector,
        size=cfg.corpus_size, seed=cfg.corpus_seed, difficulty=cfg.difficulty,
    )  # fmt: skip


def prepared(cfg: PrepareConfig) -> Corpus:
    """The corpus that `prepare` is to make: in `out`, or kept like any other verb's."""
    if cfg.out:
        return corpora.prepare(cfg.format, cfg.source, cfg.out, dtype=cfg.dtype, detector=cfg.detector)
    return corpus_of(cfg, task="" if cfg.format else cfg.task)


def describe(cfg: DistillConfig) -> str:
    """The run's description, if the user gives none."""
    labels = f"{cfg.train_examples:,} labelled statements" if cfg.train_examples else "all labelled statements"
    labels += " and what the teacher says of all others" if cfg.unlabelled else ""
    teacher = cfg.teacher or f"{cfg.layers}-layer teacher"
    mixture = f"alpha {cfg.alpha:g}, temperature {cfg.temperature:g}"
    return f"A {cfg.student_layers}-layer student of a {teacher}, on {labels}: {mixture}."


def new_model(cfg: Trained, task: tasks.Task, corpus: Corpus, tokenizer: WordPiece | None = None) -> Loaded:
    """A model from scratch; its vocabulary, if it has none yet, is the given one or trained on the training texts."""
    if isinstance(cfg, FinetuneConfig) and cfg.clip:
        start, words, report = from_clip(cfg)
        model = models.with_new_head(start, cfg.model, task.head, seed=cfg.seed)
        return Loaded(model, words, meta_of(cfg, task, corpus), report)
    tokenizer = tokenizer or vocabulary(cfg, task, corpus)
    model = models.build(cfg.model, task.head, sizes_of(cfg, tokenizer, corpus), seed=cfg.seed)
    report = LoadReport("from scratch")
    if isinstance(model, Dual) and cfg.text_weights:
        report = checkpoints.start_text(model, checkpoints.folder_of(cfg.text_weights))
        log.info("text tower: %s", report.summary())
    return Loaded(model, tokenizer, meta_of(cfg, task, corpus), report)


def sizes_of(cfg: ModelFields, tokenizer: WordPiece, corpus: Corpus) -> models.Sizes:
    pictures = (cfg.stages(), cfg.vision_width) if isinstance(cfg, PixelFields) else ()
    return models.Sizes(
        len(tokenizer), cfg.max_text_tokens, corpus.region_dim, cfg.hidden_size,
        cfg.layers, cfg.region_layers, cfg.cross_layers, cfg.heads, cfg.intermediate_size,
        cfg.initializer_range, cfg.dropout, cfg.attention_dropout, cfg.classifier, cfg.classifier_scale, *pictures,
    )  # fmt: skip


def vocabulary(cfg: Trained, task: tasks.Task, corpus: Corpus) -> WordPiece:
    if file := checkpoints.vocab_file(cfg):
        return WordPiece.load(file)
    texts = examples_of(corpus, task.name, cfg.train_split or task.splits.train)["text"]
    return WordPiece.train(texts, size=cfg.vocab_size)


def meta_of(cfg: Trained, task: tasks.Task, corpus: Corpus) -> dict[str, Any]:
    meta: dict[str, Any] = {"system": cfg.model, "task": task.name, "num_images": task.head.images}
    meta |= {"answers": list(task.answers), "soft_targets": task.loss in (soft_target_bce, mean_bce)}
    meta |= {
        "tags": reads_tags(cfg),
        "max_text_tokens": cfg.max_text_tokens,
        "max_regions": cfg.max_regions,
        "detector": corpus.detector,
    }
    pictures = told_of(cfg) if isinstance(cfg, FinetuneConfig) and cfg.model in models.PIXELS else {}
    return meta | {"region_dim": corpus.region_dim, "data_fingerprint": corpus.fingerprint} | pictures


def start_from(cfg: FinetuneConfig, task: tasks.Task, corpus: Corpus) -> Loaded:
    """The given weights; of another task or of other answers, with a new head, or with pre-training's rows of it."""
    loaded = reading(checkpoints.load(cfg.weights, new_head=True), corpus)
    apart = models.TOWERS | models.PIXELS  # others read the same batch
    if (system := loaded.meta["system"]) != cfg.model and apart.keys() & {system, cfg.model}:
        raise ConfigError(f"model={cfg.model}: {cfg.weights} is of {system}; give model={system}.")
    known = getattr(loaded.model.config, "max_position_embeddings", cfg.max_text_tokens)
    if cfg.max_text_tokens > known:
        found = f"max_text_tokens={cfg.max_text_tokens}: {cfg.weights} reads {known} tokens at most"
        raise ConfigError(f"{found}; give max_text_tokens={known} or less.")
    if (loaded.meta["task"], loaded.meta["answers"]) != (task.name, list(task.answers)):
        system, own = loaded.meta["system"], {"classifier": cfg.classifier, "cls_hidden_scale": cfg.classifier_scale}
        options = own if system == "oscar" else {}
        model = models.with_new_head(loaded.model, system, task.head, seed=cfg.seed, **options)
        if cfg.load_qa_head:
            kept = take_answers(model, loaded.model, (loaded.meta["answers"], task.answers))
            log.info("%s: %d of %d answers are known from pre-training.", cfg.weights, kept, len(task.answers))
        else:
            log.info("%s: its head is another task's; this one starts with a new head.", cfg.weights)
        loaded = dataclasses.replace(loaded, model=model)
    return loaded


def take_answers(model: PreTrainedModel, given: PreTrainedModel, tables: tuple[Sequence[str], Sequence[str]]) -> int:
    """Copy the answer head of pre-training over the model's, its rows by answer: tables of both. Returns how many
    answers it knows; the others' rows are 0. Raises ConfigError if one of them has no such head."""
    short = {name: name.removeprefix("answer_head.") for name in (*model.state_dict(), *given.state_dict())}
    known = {short[name]: tensor for name, tensor in given.state_dict().items()}
    own = {name: tensor for name, tensor in model.state_dict().items() if short[name].startswith("logit_fc.")}
    rows = {name: known.get(short[name], tensor.new_zeros(0)) for name, tensor in own.items()}
    last = {name for name in own if ".3." in name}
    if not own or any(rows[name].shape != own[name].shape for name in own.keys() - last):
        raise ConfigError("load_qa_head=True: expected weights with an answer head, and questions about one image.")
    rows |= {name: checkpoints.answer_rows(rows[name], *tables) for name in last}
    model.load_state_dict(rows, strict=False)
    return max(int(rows[name].flatten(1).any(1).sum()) for name in last if rows[name].dim() > 1)


def load_for(uri: str, task: tasks.Task, corpus: Corpus) -> Loaded:
    """A model that fits this task and these regions. Raises CheckpointError if it is another task's."""
    return fitting(checkpoints.load(uri), task, corpus)


def fitting(loaded: Loaded, task: tasks.Task, corpus: Corpus) -> Loaded:
    uri = loaded.meta["uri"]
    if loaded.meta["task"] != task.name:
        other = loaded.meta["task"] or f"{loaded.meta['num_images']} images, {loaded.model.config.num_labels} answers"
        raise CheckpointError(f"{uri}: a model of another task ({other}); expected one of task={task.name}.")
    return reading(loaded, corpus)


def reading(loaded: Loaded, corpus: Corpus) -> Loaded:
    """Raises CheckpointError if the model cannot read the corpus's regions."""
    if loaded.meta["system"] not in models.PIXELS and loaded.meta["region_dim"] != corpus.region_dim:
        dims = f"{loaded.meta['region_dim']} features a region, the corpus has {corpus.region_dim}"
        uri, hint = loaded.meta["uri"], "prepare the corpus with the features it was trained on"
        raise CheckpointError(f"{uri}: reads {dims}; {hint}.")
    return loaded


def load_with_task(uri: str, name: str, corpus: Corpus) -> tuple[Loaded, tasks.Task]:
    """A model and its task, with the answers that the model knows."""
    loaded = checkpoints.load(uri)
    answers = loaded.meta.get("answers") or corpus.answers(name)
    soft = loaded.meta["task"] == name and loaded.meta.get("soft_targets")
    task = tasks.load(name, answers, loss="bce" if soft else "")
    return fitting(loaded, task, corpus), task


def open_for(loaded: Loaded, corpus: Corpus, task: tasks.Task, cfg: EvaluateConfig) -> Split:
    """A split as this model reads it."""
    meta = loaded.meta
    split = open_split(
        corpus, task, cfg.split or task.splits.test, loaded.words, max_text_tokens=meta["max_text_tokens"],
        max_regions=meta["max_regions"], tags=meta["tags"], limit=cfg.limit,
        images=cfg.test_images, listed=cfg.listed,
    )  # fmt: skip
    return as_pixels(split, canvas_of(meta)) if meta["system"] in models.PIXELS else split


def learn(
    model: nn.Module, objective: Objective, data: Data, task: tasks.Task, cfg: Trained, run: tracking.Run,
    title: str, *, hook: Reptile | None = None, validate: Validate | None = None,
) -> Best:  # fmt: skip
    """Train in the run's own folder; the best step is the validation split's choice."""
    set_dropout(model, cfg.dropout, cfg.attention_dropout)
    groups = groups_of(cfg, data.train) if isinstance(cfg, FinetuneConfig) and cfg.model in models.PIXELS else ()
    return fit(
        model, objective, data.train, validate or validator(task, data.validation), cfg, run,
        folder=run.folder / "training", title=title, metric=task.metric, hook=hook, groups=groups,
    )  # fmt: skip


def finetune(cfg: FinetuneConfig, task: tasks.Task, corpus: Corpus, run: tracking.Run, *, title: str) -> Result:
    """Train on labels alone, then publish."""
    given = start_from(cfg, task, corpus) if cfg.weights else new_model(cfg, task, corpus)
    learner = dataclasses.replace(given, meta=meta_of(cfg, task, corpus))
    data = open_data(corpus, task, learner.words, cfg)
    data = all_as_pixels(data, cfg) if cfg.model in models.PIXELS else data
    log_inputs(run, data)
    best = learn(learner.model, from_labels(cfg, task), data, task, cfg, run, title)
    return publish(run, learner, data, task, best, role=cfg.role, title=title, tags={})


def from_labels(cfg: Trained, task: tasks.Task) -> Objective:
    return contrastive() if cfg.model in models.TOWERS else supervised(task.loss)


def from_teacher(cfg: DistillConfig, task: tasks.Task, teacher: PreTrainedModel) -> Objective:
    mixture = {"alpha": cfg.alpha, "temperature": cfg.temperature}
    if cfg.model in models.TOWERS:
        return match_distillation(cfg.method, teacher, **mixture)
    return distillation(cfg.method, teacher, task.loss, beta=cfg.beta, **mixture)


def obtain_teacher(cfg: DistillConfig, task: tasks.Task, corpus: Corpus) -> tuple[Loaded, Result | None]:
    """The given teachers, or the one kept for this corpus and these options, or a new one, in a run of its own. Raises
    ConfigError."""
    if cfg.method == "mkd" and task.head.kind == "point":
        raise ConfigError(
            f"method=mkd: what {task.name} points at is no part of a text alone; expected another method."
        )
    if cfg.teacher:
        members = [load_for(uri.strip(), task, corpus) for uri in cfg.teacher.split(",")]
        given = teachers.join(members, cfg, task, corpus)
        same = given.meta.get("data_fingerprint") == corpus.fingerprint
        return given, read_result(Path(cfg.teacher).parent) if same else None  # measured here already
    own = teacher_config(cfg)
    stem = f"{task.name}-{workspace.options_hash(own.as_dict(), corpus.fingerprint)}"
    with workspace.locked_folder(Path(cfg.work_dir) / "teachers" / stem) as folder:
        result = read_result(folder)
        if result is None:
            name = f"teacher of {task.name}: {own.layers} layers, width {own.hidden_size}"
            with tracking.run(own, name=name, folder=folder, description="Trained on labels, to be distilled.") as run:
                result = finetune(own, task, corpus, run, title="teacher")
            finish(folder, result)
        else:
            log.info("teacher: kept from an earlier run, %s.", folder)
    return load_for(result.model, task, corpus), result


def with_teacher(cfg: DistillConfig) -> DistillConfig:
    """The same distillation with its teacher trained and given: no option that is changed later asks for another."""
    if cfg.teacher:
        return cfg
    corpus = corpus_of(cfg)
    _, trained = obtain_teacher(cfg, tasks.load(cfg.task, corpus.answers(cfg.task)), corpus)
    return dataclasses.replace(cfg, teacher=trained.model) if trained else cfg


def teacher_config(cfg: DistillConfig) -> FinetuneConfig:
    """The fine-tuning that makes the teacher: the same options, its own steps and learning rate, all labels."""
    shared = set.intersection(*({spec.name for spec in dataclasses.fields(each)} for each in (FinetuneConfig, cfg)))
    names = shared - {"preset", "description"}
    own = {"steps": cfg.teacher_steps, "epochs": 0, "lr": cfg.teacher_lr, "train_examples": 0, "role": "teacher"}
    return FinetuneConfig(**({name: getattr(cfg, name) for name in names - own.keys()} | own))


def train_student(
    cfg: DistillConfig, task: tasks.Task, data: Data, teacher: Loaded, run: tracking.Run, tags: dict[str, str]
) -> Result:
    """Distil `teacher` into a student made from it, then publish. With reptile the teacher moves."""
    student, title = start_student(cfg, task, data, teacher), "distilled student"
    teacher.model.to(accelerator_for(cfg.precision).device)
    objective = from_teacher(cfg, task, teacher.model)
    if keeps_logits(cfg, task, data.train, teacher.model):
        kept = kept_logits(teacher.model, data.train, Path(cfg.work_dir) / "teachers")
        data = data._replace(train=dataclasses.replace(data.train, taught=kept))
    hook = reptile(cfg, teacher.model, student.model, objective, data) if cfg.reptile else None
    learner = as_wide(student.model, teacher.model, cfg)
    validate = beside_teacher(task, data.validation, teacher.model, moves=cfg.reptile)
    best = learn(learner, objective, data, task, cfg, run, title, hook=hook, validate=validate)
    if hook:
        checkpoints.save(run.folder / "teacher", teacher.model, teacher.tokenizer, teacher.meta)
    return publish(run, student, data, task, best, role="student", title=title, tags=tags)


def as_wide(student: PreTrainedModel, teacher: PreTrainedModel, cfg: DistillConfig) -> nn.Module:
    """What is trained: the student, with a map to the teacher's width where layers of two widths are compared."""
    width = teacher.config.hidden_size
    same = width == student.config.hidden_size or cfg.method not in LAYER_METHODS
    return student if same else Projected(student, width, seed=cfg.seed)


def keeps_logits(cfg: DistillConfig, task: tasks.Task, train: Split, teacher: PreTrainedModel) -> bool:
    """Where the teacher would be asked the same again: it does not move, examples do not change, and come twice."""
    asked = total_steps(cfg, train) * cfg.batch_size
    changes = isinstance(task, tasks.Contrasting | tasks.Varying)
    fixed = cfg.method == "kd" and not cfg.reptile and not changes
    apart = cfg.model in models.TOWERS and isinstance(teacher, Dual)  # vectors, whatever they are compared with
    return cfg.cache and (fixed or apart) and asked >= 2 * len(train)


def train_baseline(cfg: DistillConfig, task: tasks.Task, data: Data, teacher: Loaded, parent: tracking.Run) -> Result:
    """The same student from the same start, on labels alone, in a child run."""
    data = data._replace(train=data.train.first(data.train.labelled)) if data.train.labelled else data
    folder, title = parent.folder / "baseline", "student without distillation"
    kept = read_result(folder)
    if kept:
        return kept
    student = start_student(cfg, task, data, teacher)
    with tracking.run(cfg, name=title, folder=folder, parent=parent, description="What distillation must beat.") as run:
        best = learn(student.model, from_labels(cfg, task), data, task, cfg, run, title)
        result = publish(run, student, data, task, best, role="baseline", title=title, tags={})
    finish(folder, result)
    return result


def start_student(cfg: DistillConfig, task: tasks.Task, data: Data, teacher: Loaded) -> Loaded:
    """From the layers of the (first) teacher, with a new head if its answers are others; a new model of the options if
    the teacher is of another system."""
    if teacher.meta["system"] != cfg.model:
        width = cfg.student_hidden_size or cfg.hidden_size
        own = dataclasses.replace(cfg, layers=cfg.student_layers, hidden_size=width)
        return new_model(own, task, data.train.corpus, teacher.words)
    first = teacher.model.first if isinstance(teacher.model, Ensemble) else teacher.model
    model = student_from(
        first, layers=cfg.student_layers, init=cfg.student_init, seed=cfg.seed, hidden_size=cfg.student_hidden_size
    )
    if teacher.meta.get("answers", list(task.answers)) != list(task.answers):
        model = models.with_new_head(model, cfg.model, task.head, seed=cfg.seed)
    return dataclasses.replace(teacher, model=model, meta=meta_of(cfg, task, data.train.corpus))


def reptile(
    cfg: DistillConfig, teacher: PreTrainedModel, student: PreTrainedModel, objective: Objective, data: Data
) -> Reptile:
    schedule = schedule_of(cfg, total_steps(cfg, data.train))
    factor = 1.0 if cfg.inner_lr == "constant" else schedule.factor(0)
    return Reptile(
        teacher, student, objective, strategy=cfg.strategy, meta_lr=cfg.meta_lr, inner_lr=cfg.lr * factor,
        optim=optim_of(cfg), schedule=schedule, max_grad_norm=cfg.max_grad_norm,
    )  # fmt: skip


def log_inputs(run: tracking.Run, data: Sequence[TrainingData]) -> None:
    """Which examples a run saw, by fingerprint."""
    for split, context in zip(data, ("train", "validation", "test"), strict=True):
        corpus, name = split.corpus, split.name
        profile = {"examples": len(split), "split": name, "fingerprint": corpus.fingerprint}
        profile |= {"labelled": split.labelled} if isinstance(split, Split) and split.labelled else {}
        names = {"name": f"{corpus.path.name}/{name}", "digest": f"{corpus.fingerprint[:12]}-{name}-{len(split)}"}
        run.log_input(**names, source=corpus.path, context=context, profile=profile)
