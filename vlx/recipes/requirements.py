"""What tasks, methods and options need, compared with what an architecture has. Every refusal of a combination is
computed here, before weights are read; those of an option's value are of vlx.config."""

import dataclasses
from collections.abc import Iterable

from vlx import registry
from vlx.config import DistillConfig, FinetuneConfig, ModelFields, PixelFields, PretrainConfig
from vlx.errors import ConfigError
from vlx.models.spec import CAPABILITIES, ModelSpec, all_specs, load_spec
from vlx.models.student import with_layers
from vlx.objectives import DistillationMethod
from vlx.tasks.base import Task

# Options that only some architectures have, with the feature that they need.
OPTION_NEEDS = {
    **{spec.name: "input:pixels" for spec in dataclasses.fields(PixelFields)},
    "clip_weights": "clip_and_bert",
    "bert_weights": "clip_and_bert",
    "vision_lr": "vision_optimizer",
    "text_weights": "text_tower",
    "frozen_text_layers": "frozen_text_layers",
    "student_hidden_size": "student_width",
    "loss": "cross_encoder",
    "itm_negatives": "cross_encoder",
}


def features(spec: ModelSpec) -> frozenset[str]:
    """Everything that a need may name: capabilities, `input:`, `head:`, `images:` and `objective:` features."""
    names = [f"input:{spec.input}", "dual_encoder" if spec.dual_encoder else "cross_encoder"]
    names += [f"head:{kind}" for kind in spec.heads]
    names += [f"images:{count}" for count in range(1, spec.max_images + 1)]
    names += [f"objective:{name}" for name in spec.pretraining]
    return spec.capabilities | frozenset(names)


def describe(feature: str) -> str:
    """A feature as the end of `an architecture that ...`."""
    kind, _, name = feature.partition(":")
    sentences = {
        "input": f"reads {name}",
        "head": f"has a {name} head",
        "images": f"reads {name} images an example",
        "objective": f"is pre-trained with {name}",
        "dual_encoder": "encodes text and image apart",
        "cross_encoder": "reads text and image together",
    }
    return sentences.get(kind) or CAPABILITIES[feature]


def require(spec: ModelSpec, needs: Iterable[str], *, subject: str, verb: str, hint: str = "") -> None:
    """Raise ConfigError if the architecture lacks a feature: what needs it, and which architectures have all."""
    needs = sorted(needs)
    missing = [need for need in needs if need not in features(spec)]
    if not missing:
        return
    fitting = [each.name for each in all_specs() if verb in each.verbs and features(each) >= set(needs)]
    models = f"expected model={' or '.join(fitting)}" if fitting else f"expected none, since {verb} has no such model"
    reasons = " and ".join(describe(need) for need in missing)
    raise ConfigError(f"{subject}: needs an architecture that {reasons}, not model={spec.name}; {models}{hint}.")


def task_needs(task: Task) -> set[str]:
    """Features that a model needs for a task."""
    needs = {f"head:{task.head.kind}", f"images:{task.head.images}"}
    if task.scores_all_pairs:
        needs.add("arbitrary_pairs")
    return needs


def method_needs(method: DistillationMethod) -> set[str]:
    """Features that teacher and student need for a distillation method."""
    needs = set(method.needs)
    if method.objective is None:
        needs.add("dual_encoder")
    if method.contrastive is None:
        needs.add("cross_encoder")
    return needs


def check_options(cfg: ModelFields, spec: ModelSpec, *, verb: str) -> None:
    """Options that differ from their defaults must be of the architecture."""
    for option in dataclasses.fields(cfg):
        value = getattr(cfg, option.name)
        if option.name in OPTION_NEEDS and value != option.default:
            subject = f"{option.name}={value}"
            require(spec, [OPTION_NEEDS[option.name]], subject=subject, verb=verb)


def check_task(task: Task, spec: ModelSpec, *, verb: str) -> None:
    if spec.dual_encoder:
        task.for_dual_encoder()  # raises ConfigError unless the task matches texts and images
    else:
        require(spec, task_needs(task), subject=f"task={task.name}", verb=verb)


def check_finetune(cfg: FinetuneConfig) -> None:
    """Raises ConfigError unless the architecture can be trained on the task with these options."""
    spec = load_spec(cfg.model)
    task: Task = registry.load(registry.TASKS, cfg.task, kind="task")
    check_options(cfg, spec, verb="finetune")
    check_task(task.with_itm_negatives(cfg.itm_negatives).with_loss(cfg.loss), spec, verb="finetune")


def check_pretrain(cfg: PretrainConfig) -> None:
    """Raises ConfigError unless the architecture has the objectives and options."""
    spec = load_spec(cfg.model)
    check_options(cfg, spec, verb="pretrain")
    hint = f", or some of {', '.join(spec.pretraining)}"
    for option, names in (("objectives", cfg.objective_names()), ("loss_weights", cfg.loss_weight_by_objective())):
        for name in names:
            require(spec, [f"objective:{name}"], subject=f"{option}={name}", verb="pretrain", hint=hint)


def check_distill(cfg: DistillConfig) -> None:
    """Raises ConfigError unless the architecture supports task, method and Reptile."""
    spec = load_spec(cfg.model)
    task: Task = registry.load(registry.TASKS, cfg.task, kind="task")
    check_options(cfg, spec, verb="distill")
    check_task(task, spec, verb="distill")
    if cfg.unlabeled and task.scores_all_pairs:
        raise ConfigError(f"unlabeled=true: task={task.name} labels every pair; expected unlabeled=false.")
    check_method(load_method(cfg.method), spec, task, teachers=num_teachers(cfg))
    if not cfg.teacher and spec.new_config:
        with_layers(spec.new_config(cfg, vocab_size=0, region_dim=0), cfg.student_layers, spec)
    if cfg.reptile:
        require(spec, ["reptile"], subject="reptile=true", verb="distill", hint=", or reptile=false")
        if num_teachers(cfg) > 1:
            raise ConfigError(f"reptile=true: updates one teacher, found {num_teachers(cfg)}; give one.")


def check_method(method: DistillationMethod, spec: ModelSpec, task: Task, *, teachers: int = 1) -> None:
    """Raises ConfigError unless the method fits the architecture, the task's head and the number of teachers."""
    fitting = [name for name in registry.METHODS if fits(load_method(name), spec, task, teachers=teachers)]
    methods = f"method={' or '.join(fitting)}"
    require(spec, method_needs(method), subject=f"method={method.name}", verb="distill", hint=f", or {methods}")
    kind = task.head.kind
    if method.heads and kind not in method.heads:
        subject = f"method={method.name}: has no loss for the {kind} head of task={task.name}"
        raise ConfigError(f"{subject}; expected {methods}.")
    if teachers > 1 and not method.ensemble:
        subject = f"method={method.name}: learns from one teacher, found {teachers}"
        raise ConfigError(f"{subject}; expected {methods}.")


def fits(method: DistillationMethod, spec: ModelSpec, task: Task, *, teachers: int) -> bool:
    """Whether a method can be used with an architecture, a task and so many teachers."""
    head_fits = not method.heads or task.head.kind in method.heads
    return features(spec) >= method_needs(method) and head_fits and (method.ensemble or teachers == 1)


def num_teachers(cfg: DistillConfig) -> int:
    return cfg.teacher.count(",") + 1


def load_method(name: str) -> DistillationMethod:
    return registry.load(registry.METHODS, name, kind="method")


def check_teacher(cfg: DistillConfig, teacher: ModelSpec, *, uri: str, is_first: bool) -> None:
    """What a teacher of another architecture cannot do. is_first: the student starts from its layers."""
    student = load_spec(cfg.model)
    if teacher.name == student.name:
        return
    subject = f"model={cfg.model}: {uri} is of {teacher.name}"
    if teacher.input != student.input:
        raise ConfigError(f"{subject}, which reads {teacher.input}; expected a teacher that reads {student.input}.")
    methods = [name for name in registry.METHODS if not method_needs(load_method(name)) - {"cross_encoder"}]
    if cfg.reptile or cfg.method not in methods:
        fix = f"expected method={' or '.join(methods)} and reptile=false"
        raise ConfigError(f"method={cfg.method}, reptile={cfg.reptile}: {uri} is of {teacher.name}; {fix}.")
    if is_first and cfg.student_init != "random":
        start = f"student_init={cfg.student_init}: {uri} is of {teacher.name}, which has no layers for {cfg.model}"
        raise ConfigError(f"{start}; give student_init=random, or model={teacher.name}.")


def training_task(spec: ModelSpec, task: Task) -> Task:
    """The task as the architecture trains it."""
    return task.for_dual_encoder() if spec.dual_encoder else task
