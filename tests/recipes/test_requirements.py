"""Every combination of verb, architecture, task and method is refused in one line, or trains."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrypoints import distill, finetune, pretrain
from vlx import tracking
from vlx.config import Config, DistillConfig, FinetuneConfig, PretrainConfig
from vlx.errors import ConfigError
from vlx.models.spec import all_specs, load_spec
from vlx.recipes.requirements import check_distill, check_finetune, check_pretrain, check_teacher
from vlx.registry import METHODS, TASKS

CROSS_ENCODERS = ("oscar", "lxmert", "vilbert")
TASKS_OF = {name: set(TASKS) for name in CROSS_ENCODERS}
TASKS_OF |= {"clip_vil": {"vqa", "gqa", "vqa_rad", "genome_qa", "snli_ve", "guesswhat"}, "dual": {"retrieval"}}
OBJECTIVES_OF = {
    "lxmert": ("mlm", "itm", "mrc_objects", "mrc_attributes", "mrfr", "qa"),
    "vilbert": ("mlm", "itm", "mrm"),
    "clip_vil": ("mlm", "itm", "qa"),
    "oscar": ("mlm", "itm"),
}
METHODS_OF = {
    "oscar": {"kd", "pkd", "tinybert", "mkd"},
    "lxmert": {"kd"},
    "vilbert": {"kd"},
    "clip_vil": {"kd", "pkd", "tinybert"},
    "dual": {"kd", "embedding"},
}
HEADS = {"classify": "vqa", "multiple_choice": "vcr_q2a", "grounding": "refcoco"}  # a task of each kind of head


def refusal(check: Callable[[Any], None], cfg: Config) -> str:
    """The line of a refusal; empty: the combination is offered."""
    try:
        check(cfg)
    except ConfigError as error:
        return str(error)
    return ""


def assert_clear(line: str) -> None:
    """One line that names what was given and what works instead."""
    assert "\n" not in line and len(line) < 300 and line.endswith(".")
    assert "expected" in line or "give" in line, line
    assert "=" in line.partition(":")[0], line


def finetunings() -> Iterator[FinetuneConfig]:
    for spec, task in itertools.product(all_specs(), TASKS):
        if "finetune" in spec.verbs:
            yield FinetuneConfig(model=spec.name, task=task)


def distillations() -> Iterator[DistillConfig]:
    for spec, task, method, reptile in itertools.product(all_specs(), TASKS, METHODS, (False, True)):
        if "distill" in spec.verbs:
            yield DistillConfig(model=spec.name, task=task, method=method, reptile=reptile)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_weights": "minilm"}, "text_weights=minilm: .* not model=oscar; expected model=dual."),
        ({"model": "dual", "task": "retrieval", "loss": "bce"}, "loss=bce: .* expected model=oscar or lxmert or "),
        ({"model": "dual", "task": "retrieval", "itm_negatives": "three"}, "itm_negatives=three: .* not model=dual;"),
        ({"vision_width": 4}, "vision_width=4: needs .* reads pixels, not model=oscar; expected model=clip_vil."),
        ({"image_max_size": 96, "model": "dual", "task": "retrieval"}, "image_max_size=96: .* expected model=clip_vil"),
        ({"vision_lr": 0.1, "model": "vilbert"}, "vision_lr=0.1: .* expected model=clip_vil."),
        ({"clip_weights": "a", "bert_weights": "b"}, "clip_weights=a: .* expected model=clip_vil."),
        ({"model": "clip_vil", "task": "nlvr2"}, "task=nlvr2: .* 2 images an example, .* expected model=oscar or "),
        ({"model": "clip_vil", "task": "refcoco"}, "task=refcoco: .* a grounding head, .* expected model=oscar or "),
        ({"model": "clip_vil", "task": "vcr_q2a"}, "task=vcr_q2a: .* a multiple_choice head, .* expected model=oscar"),
        ({"model": "clip_vil", "task": "retrieval"}, "task=retrieval: .* any text with any image .* not model=clip_vi"),
        ({"model": "dual", "task": "vqa"}, "task=vqa: a dual encoder only matches .* expected task=retrieval."),
        ({"task": "vcr_q2a", "loss": "bce"}, "loss=bce: task vcr_q2a .* expected a task with named answers."),
        ({"task": "vqa", "itm_negatives": "three"}, "itm_negatives=three: task vqa .* expected task=retrieval."),
    ],
)
def test_fine_tuning_refuses(options: dict[str, Any], message: str) -> None:
    line = refusal(check_finetune, FinetuneConfig(**options))
    assert re.match(message, line), line
    assert_clear(line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "oscar", "objectives": "mlm,qa"}, "objectives=qa: .* not model=oscar; .* some of mlm, itm."),
        ({"model": "vilbert", "objectives": "mrc_objects"}, "objectives=mrc_objects: .* expected model=lxmert, or "),
        ({"model": "clip_vil", "objectives": "mlm,mrc_objects"}, "objectives=mrc_objects: .* some of mlm, itm, qa."),
        ({"model": "lxmert", "objectives": "mrm"}, "objectives=mrm: .* expected model=vilbert, or some of mlm, itm, m"),
        ({"model": "oscar", "loss_weights": "mrm=0.5"}, "loss_weights=mrm: .* expected model=vilbert, or some of mlm,"),
        ({"model": "oscar", "frozen_text_layers": 1}, "frozen_text_layers=1: .* expected model=vilbert."),
        ({"model": "lxmert", "vision_width": 2}, "vision_width=2: .* reads pixels, .* expected model=clip_vil."),
        (
            {"model": "lxmert", "text_weights": "minilm"},
            "text_weights=minilm: .* not model=lxmert; expected none, since pretrain has",
        ),
    ],
)
def test_pre_training_refuses(options: dict[str, Any], message: str) -> None:
    line = refusal(check_pretrain, PretrainConfig(**options))
    assert re.match(message, line), line
    assert_clear(line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lxmert", "method": "pkd"}, "method=pkd: .* not model=lxmert; .*, or method=kd."),
        (
            {"model": "oscar", "method": "embedding"},
            "method=embedding: .* expected model=dual, or method=kd or pkd or ",
        ),
        ({"model": "dual", "task": "retrieval", "method": "mkd"}, "method=mkd: .* model=oscar, or method=kd or embed"),
        (
            {"model": "vilbert", "reptile": True},
            "reptile=true: .* not model=vilbert; expected model=oscar, or reptile=",
        ),
        ({"teacher": "a,b", "method": "tinybert"}, "method=tinybert: .* found 2; expected method=kd or mkd."),
        ({"teacher": "a,b", "model": "lxmert", "method": "pkd"}, "method=pkd: .* not model=lxmert; .*, or method=kd."),
        ({"teacher": "a,b", "model": "dual", "task": "retrieval", "method": "embedding"}, ".* expected method=kd."),
        ({"teacher": "a,b", "method": "mkd", "reptile": True}, "reptile=true: .* one teacher, found 2; give one."),
        (
            {"model": "lxmert", "student_hidden_size": 32, "student_init": "random"},
            "student_hidden_size=32: .* expected model=oscar.",
        ),
        ({"task": "retrieval", "unlabeled": True}, "unlabeled=true: task=retrieval .* expected unlabeled=false."),
        ({"task": "refcoco", "method": "mkd"}, "method=mkd: .* task=refcoco; expected method=kd or pkd or tinybert."),
        ({"model": "clip_vil", "task": "refcoco"}, "task=refcoco: .* expected model=oscar or lxmert or vilbert."),
        ({"model": "dual", "task": "nlvr2"}, "task=nlvr2: a dual encoder .* expected task=retrieval."),
        ({"text_weights": "minilm"}, "text_weights=minilm: .* expected model=dual."),
        ({"model": "vilbert", "student_layers": 1}, "student_layers=1: expected at least the 2 cross-modality layers."),
        ({"vision_layers": "1,1,1,2"}, "vision_layers=1,1,1,2: .* expected model=clip_vil."),
    ],
)
def test_distillation_refuses(options: dict[str, Any], message: str) -> None:
    line = refusal(check_distill, DistillConfig(**options))
    assert re.match(message, line), line
    assert_clear(line)


@pytest.mark.parametrize(
    ("options", "teacher", "message"),
    [
        ({}, "lxmert", "student_init=first: T is of lxmert, which has no layers for oscar; give student_init=random"),
        ({"method": "mkd"}, "lxmert", "method=mkd, .* T is of lxmert; expected method=kd and reptile=false."),
        ({"reptile": True}, "lxmert", "method=kd, reptile=True: T is of lxmert; expected method=kd and reptile=false."),
        ({"model": "clip_vil"}, "lxmert", "model=clip_vil: T is of lxmert, which reads regions; expected .* pixels."),
        ({"model": "dual", "method": "embedding"}, "oscar", "method=embedding, .* is of oscar; expected method=kd and"),
    ],
)
def test_a_teacher_of_another_architecture_is_refused(options: dict[str, Any], teacher: str, message: str) -> None:
    cfg = DistillConfig(**options)
    line = refusal(lambda cfg: check_teacher(cfg, load_spec(teacher), uri="T", is_first=True), cfg)
    assert re.match(message, line), line
    assert_clear(line)


def test_another_architecture_teaches_a_student_of_random_weights_or_beside_the_first() -> None:
    spec = load_spec("lxmert")
    check_teacher(DistillConfig(student_init="random"), spec, uri="T", is_first=True)
    check_teacher(DistillConfig(), spec, uri="T", is_first=False)
    check_teacher(DistillConfig(model="lxmert"), spec, uri="T", is_first=True)


def test_fine_tuning_offers_the_tasks_whose_heads_an_architecture_has() -> None:
    offered: dict[str, set[str]] = {}
    for cfg in finetunings():
        line = refusal(check_finetune, cfg)
        if line:
            assert_clear(line)
        else:
            offered.setdefault(cfg.model, set()).add(cfg.task)
    assert offered == TASKS_OF


def test_pre_training_offers_the_objectives_of_an_architecture() -> None:
    names = list(dict.fromkeys(name for row in OBJECTIVES_OF.values() for name in row))
    offered: dict[str, tuple[str, ...]] = {}
    for spec in all_specs():
        if "pretrain" not in spec.verbs:
            continue
        lines = {name: refusal(check_pretrain, PretrainConfig(model=spec.name, objectives=name)) for name in names}
        for line in filter(None, lines.values()):
            assert_clear(line)
        offered[spec.name] = spec.pretraining
        assert {name for name, line in lines.items() if not line} == set(spec.pretraining)
    assert offered == OBJECTIVES_OF


def test_distillation_offers_the_methods_of_an_architecture_and_reptile_for_oscar() -> None:
    offered: dict[str, set[str]] = {}
    for cfg in distillations():
        line = refusal(check_distill, cfg)
        if line:
            assert_clear(line)
            continue
        assert cfg.task in TASKS_OF[cfg.model] and (not cfg.reptile or cfg.model == "oscar")
        assert (cfg.method, cfg.task) != ("mkd", "refcoco")
        offered.setdefault(cfg.model, set()).add(cfg.method)
    assert offered == METHODS_OF


def test_an_architecture_without_a_verb_is_no_choice_of_it() -> None:
    for schema, model in ((FinetuneConfig, "vle"), (DistillConfig, "vle"), (PretrainConfig, "dual")):
        with pytest.raises(ConfigError, match=f"model={model}: expected one of "):
            schema(model=model)


# The rest trains two steps of every combination that is offered. Each task, architecture and kind of head is published
# at least once; the rest run as trials of a search, which are validated and measured but neither tested nor registered.
SMALL = {
    "hidden_size": 16, "layers": 2, "region_layers": 1, "cross_layers": 1, "heads": 2, "intermediate_size": 16,
    "vocab_size": 200, "steps": 2, "warmup_steps": 1, "batch_size": 8, "eval_every": 2, "checkpoint_every": 2,
    "corpus_size": 20, "limit": 16, "val_images": 4, "test_images": 4, "precision": "fp32",
}  # fmt: skip
TEACHER = {"teacher_steps": 1, "student_layers": 1, "train_examples": 0, "baseline": False}


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Corpora, one a task, and teachers that all trainings share."""
    return str(tmp_path_factory.mktemp("trained"))


def trial() -> tracking.Trial:
    return tracking.Trial(parent="", name="trial", tags={}, report=lambda *_: None)


def offered_tasks() -> list[tuple[str, str]]:
    return [(cfg.model, cfg.task) for cfg in finetunings() if not refusal(check_finetune, cfg)]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "task"), offered_tasks())
def test_fine_tuning_trains_what_it_offers(model: str, task: str, work_dir: str) -> None:
    publishes = model in ("oscar", "dual") or task == "vqa"
    cfg = FinetuneConfig(model=model, task=task, work_dir=work_dir, **SMALL)
    assert 0 <= finetune.main(cfg, None if publishes else trial()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options"),
    [
        {"model": "oscar", "task": "retrieval", "itm_negatives": "three"},
        {"model": "vilbert", "task": "vqa", "loss": "bce"},
        {"model": "lxmert", "task": "nlvr2", "loss": "bce"},
        {"model": "oscar", "task": "refcoco", "loss": "bce"},
        {"model": "clip_vil", "task": "vqa", "vision_lr": 0.01, "sampled_grid_features": 2},
    ],
    ids=str,
)
def test_fine_tuning_trains_with_the_options_of_a_task_or_an_architecture(
    options: dict[str, Any], work_dir: str
) -> None:
    assert 0 <= finetune.main(FinetuneConfig(work_dir=work_dir, **(SMALL | options)), trial()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "objectives"), [(model, choice) for model, names in OBJECTIVES_OF.items() for choice in (*names, "")]
)
def test_pre_training_trains_what_it_offers(model: str, objectives: str, work_dir: str) -> None:
    cfg = PretrainConfig(model=model, objectives=objectives, work_dir=work_dir, **(SMALL | {"corpus_size": 120}))
    assert pretrain.main(cfg, trial() if objectives else None) < 0


def offered_methods() -> list[tuple[str, str, str, bool]]:
    """One task a kind of head."""
    return [
        (cfg.model, cfg.task, cfg.method, cfg.reptile)
        for cfg in distillations()
        if cfg.task in (*HEADS.values(), "retrieval") and not refusal(check_distill, cfg)
        if cfg.task != "retrieval" or cfg.model == "dual"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "task", "method", "reptile"), offered_methods())
def test_distillation_trains_what_it_offers(model: str, task: str, method: str, reptile: bool, work_dir: str) -> None:
    options = SMALL | TEACHER | {"model": model, "task": task, "method": method, "reptile": reptile}
    publishes = task in ("vqa", "retrieval") and method in ("kd", "embedding")
    score = distill.main(DistillConfig(work_dir=work_dir, **options), None if publishes else trial())
    assert 0 <= score <= 1
