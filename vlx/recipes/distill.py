"""Distillation: a teacher, the student without distillation, and the distilled student."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from vlx import checkpoints, tasks, tracking, workspace
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig, FinetuneConfig
from vlx.corpora import Corpus
from vlx.evaluation.compare import distillation_validator
from vlx.inputs.dataset import TaskDataset, TaskDatasets
from vlx.models.create import with_new_head
from vlx.models.ensemble import Ensemble
from vlx.models.spec import ModelSpec, load_spec, spec_of
from vlx.models.student import HiddenProjection, student_from
from vlx.objectives import DistillationMethod, Objective, distillation
from vlx.recipes.build import check_task, new_task_model, task_preprocessing
from vlx.recipes.cached_logits import cached_teacher_logits
from vlx.recipes.corpus import open_corpus
from vlx.recipes.finetune import finetune, supervised_objective, train
from vlx.recipes.publish import Result, finish, publish_task_model, read_result
from vlx.recipes.requirements import check_distill, load_method
from vlx.recipes.teachers import load_teacher_ensemble
from vlx.tasks.base import Task
from vlx.training.distributed import accelerator_for
from vlx.training.loop import optim_of, schedule_of, total_steps
from vlx.training.reptile import Reptile

log = logging.getLogger("vlx")


def describe(cfg: DistillConfig) -> str:
    """The run's description, if the user gives none."""
    labels = f"{cfg.train_examples:,} labeled examples" if cfg.train_examples else "all labeled examples"
    unlabeled = " and the teacher's predictions on the rest" if cfg.unlabeled else ""
    teacher = cfg.teacher or f"{cfg.layers}-layer teacher"
    weights = f"alpha {cfg.alpha:g}, temperature {cfg.temperature:g}"
    return f"A {cfg.student_layers}-layer student of a {teacher}, on {labels}{unlabeled}: {weights}."


def obtain_teacher(cfg: DistillConfig, task: Task, corpus: Corpus) -> tuple[Loaded, Result | None]:
    """The given teachers; or the one trained before for this corpus and these options; or a new one, in a run of its
    own. With the result, if it was measured on this corpus."""
    if cfg.teacher:
        return given_teacher(cfg, task, corpus)
    teacher_cfg = teacher_config(cfg)
    stem = f"{task.name}-{workspace.options_hash(teacher_cfg.as_dict(), corpus.fingerprint)}"
    with workspace.locked_folder(Path(cfg.work_dir) / "teachers" / stem) as folder:
        result = read_result(folder)
        if result is None:
            result = train_teacher(teacher_cfg, task, corpus, folder)
        else:
            log.info("teacher: trained by an earlier run, %s.", folder)
    return check_task(checkpoints.load(result.model), task, corpus), result


def given_teacher(cfg: DistillConfig, task: Task, corpus: Corpus) -> tuple[Loaded, Result | None]:
    uris = [uri.strip() for uri in cfg.teacher.split(",")]
    members = [check_task(checkpoints.load(uri), task, corpus) for uri in uris]
    teacher = load_teacher_ensemble(members, cfg, task, corpus)
    same_corpus = teacher.preprocessing.data_fingerprint == corpus.fingerprint
    return teacher, read_result(Path(cfg.teacher).parent) if same_corpus else None


def train_teacher(cfg: FinetuneConfig, task: Task, corpus: Corpus, folder: Path) -> Result:
    name = f"teacher of {task.name}: {cfg.layers} layers, width {cfg.hidden_size}"
    with tracking.run(cfg, name=name, folder=folder, description="Trained on labels, to be distilled.") as run:
        result = finetune(cfg, task, corpus, run, title="teacher")
    finish(folder, result)
    return result


def teacher_config(cfg: DistillConfig) -> FinetuneConfig:
    """The fine-tuning that makes the teacher: shared options, all labels, the teacher's steps and learning rate."""
    names = {spec.name for spec in dataclasses.fields(FinetuneConfig)} - {"preset", "description"}
    options = {name: value for name, value in cfg.as_dict().items() if name in names}
    options |= {"steps": cfg.teacher_steps, "epochs": 0, "lr": cfg.teacher_lr, "train_examples": 0, "role": "teacher"}
    return FinetuneConfig(**options)


def with_teacher(cfg: DistillConfig) -> DistillConfig:
    """The same options with the teacher trained and given, so that trials that vary other options share it."""
    check_distill(cfg)
    if cfg.teacher:
        return cfg
    corpus = open_corpus(cfg)
    _, result = obtain_teacher(cfg, tasks.load(cfg.task, corpus.answers(cfg.task)), corpus)
    return dataclasses.replace(cfg, teacher=result.model) if result else cfg


def train_student(
    cfg: DistillConfig, task: Task, datasets: TaskDatasets, teacher: Loaded, run: tracking.Run,
    lineage: Mapping[str, str],
) -> Result:  # fmt: skip
    """Distil the teacher into a student made from it, then publish. With Reptile the teacher moves."""
    title = "distilled student"
    student = initial_student(cfg, task, datasets.train.corpus, teacher)
    teacher.model.to(accelerator_for(cfg.precision).device)
    objective = distillation_objective(
        load_method(cfg.method), load_spec(cfg.model), task, teacher.model,
        alpha=cfg.alpha, temperature=cfg.temperature, beta=cfg.beta,
    )  # fmt: skip
    if can_cache_logits(cfg, datasets.train, teacher):
        logits = cached_teacher_logits(teacher.model, datasets.train, Path(cfg.work_dir) / "teachers")
        datasets = datasets._replace(train=datasets.train.with_teacher_logits(logits))
    hook = reptile(cfg, teacher.model, student.model, objective, datasets.train) if cfg.reptile else None
    trained = with_projection(cfg, student.model, teacher.model)
    validate = distillation_validator(datasets.validation, teacher.model, teacher_moves=cfg.reptile)
    best = train(trained, objective, datasets, cfg, run, title=title, hook=hook, validate=validate)
    if hook:
        checkpoints.save(run.folder / "teacher", teacher)
    return publish_task_model(run, student, datasets, best, role="student", title=title, lineage=lineage)


def train_baseline(
    cfg: DistillConfig, task: Task, datasets: TaskDatasets, teacher: Loaded, parent: tracking.Run
) -> Result:
    """The same student from the same start, on labels alone, in a child run."""
    folder, title = parent.folder / "baseline", "student without distillation"
    finished = read_result(folder)
    if finished:
        return finished
    if datasets.train.num_labeled:
        datasets = datasets._replace(train=datasets.train.first(datasets.train.num_labeled))
    student = initial_student(cfg, task, datasets.train.corpus, teacher)
    with tracking.run(cfg, name=title, folder=folder, parent=parent, description="What distillation must beat.") as run:
        objective = supervised_objective(load_spec(cfg.model), task)
        best = train(student.model, objective, datasets, cfg, run, title=title)
        result = publish_task_model(run, student, datasets, best, role="baseline", title=title)
    finish(folder, result)
    return result


def initial_student(cfg: DistillConfig, task: Task, corpus: Corpus, teacher: Loaded) -> Loaded:
    """From layers of the (first) teacher, with a new head if its answers differ; or a new model of the options if the
    teacher is of another architecture."""
    spec = load_spec(cfg.model)
    if teacher.preprocessing.architecture != spec.name:
        width = cfg.student_hidden_size or cfg.hidden_size
        options = dataclasses.replace(cfg, layers=cfg.student_layers, hidden_size=width)
        return new_task_model(options, task, corpus, teacher.wordpiece)
    first = teacher.model.first if isinstance(teacher.model, Ensemble) else teacher.model
    model = student_from(
        first, layers=cfg.student_layers, init=cfg.student_init, seed=cfg.seed, hidden_size=cfg.student_hidden_size
    )
    answers = teacher.preprocessing.answers
    if answers and answers != tuple(task.answers):
        model = with_new_head(spec, model, task.head, seed=cfg.seed)
    return dataclasses.replace(teacher, model=model, preprocessing=task_preprocessing(cfg, task, corpus))


def distillation_objective(
    method: DistillationMethod, student: ModelSpec, task: Task, teacher: PreTrainedModel,
    *, alpha: float, temperature: float, beta: float,
) -> Objective:  # fmt: skip
    """The method's loss for dual encoders, or for cross-encoders with the task's loss."""
    if student.dual_encoder and method.contrastive:
        return method.contrastive(teacher, alpha=alpha, temperature=temperature)
    return distillation(method, teacher, task.loss, alpha=alpha, temperature=temperature, beta=beta)


def with_projection(cfg: DistillConfig, student: PreTrainedModel, teacher: PreTrainedModel) -> nn.Module:
    """The student, with a map to the teacher's width if the method compares states of two widths."""
    width = teacher.config.hidden_size
    compares_states = "hidden_states" in load_method(cfg.method).needs
    if width == student.config.hidden_size or not compares_states:
        return student
    return HiddenProjection(student, width, seed=cfg.seed)


def can_cache_logits(cfg: DistillConfig, train: TaskDataset, teacher: Loaded) -> bool:
    """Whether a fixed teacher reads the same inputs at least twice. A dual encoder's vectors of an example do not
    depend on the other examples, so they are cached for any pairs."""
    if not cfg.cache_logits or cfg.reptile or not load_method(cfg.method).can_cache_logits:
        return False
    if cfg.sampled_grid_features:
        return False
    if load_spec(cfg.model).dual_encoder:
        same_outputs = spec_of(teacher.model).dual_encoder
    else:
        same_outputs = not train.task.examples_vary
    return same_outputs and total_steps(cfg, train) * cfg.batch_size >= 2 * len(train)


def reptile(
    cfg: DistillConfig, teacher: PreTrainedModel, student: PreTrainedModel, objective: Objective, train: TaskDataset
) -> Reptile:
    schedule = schedule_of(cfg, total_steps(cfg, train))
    factor = 1.0 if cfg.inner_lr == "constant" else schedule.factor(0)
    return Reptile(
        teacher, student, objective, reptile_layers=cfg.reptile_layers, meta_lr=cfg.meta_lr, inner_lr=cfg.lr * factor,
        optim=optim_of(cfg), schedule=schedule, max_grad_norm=cfg.max_grad_norm,
    )  # fmt: skip
