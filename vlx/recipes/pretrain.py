"""Pre-training: one stage of masked and matched texts and images."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import chain

from rich.console import Console
from rich.table import Table

from vlx import tracking
from vlx.checkpoints import Loaded
from vlx.config import PretrainConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.evaluation.pretraining import METRIC, mlm_samples, pretraining_validator
from vlx.inputs.dataset import examples_of
from vlx.models.create import for_pretraining
from vlx.models.heads import Head, PretrainingSizes
from vlx.models.spec import load_spec
from vlx.models.student import set_dropout
from vlx.objectives import pretraining_objective
from vlx.objectives.pretraining import OBJECTIVES, PretrainingSettings
from vlx.preprocessing import PRETRAINED
from vlx.recipes.build import (
    from_clip_and_bert,
    initial_model,
    load_qa_head,
    load_weights,
    parameter_groups,
    preprocessing_of,
    vocabulary,
)
from vlx.recipes.data import (
    corpora_images,
    log_datasets,
    open_pretraining_datasets,
    pretraining_splits,
    uses_tags,
)
from vlx.recipes.publish import Result, prefixed, publish
from vlx.training.loop import fit

ANSWERS = "answers"  # PretrainingObjective.label_source of questions


def pretrain(cfg: PretrainConfig, corpus: Corpus, run: tracking.Run, *, title: str) -> Result:
    """One stage: train, then publish the best weights."""
    names = objectives_of(cfg, corpus)
    loaded = start_from(cfg, corpus, names)
    datasets = open_pretraining_datasets(
        cfg, corpus, loaded.wordpiece, loaded.preprocessing, num_classes=region_classes(cfg, corpus)
    )
    train, validation, test = datasets
    log_datasets(run, datasets)
    weights = cfg.loss_weight_by_objective()
    settings = PretrainingSettings(cfg.region_loss_weight, cfg.mrm_loss, load_spec(cfg.model).itm_positive_class)
    objective = pretraining_objective(names, loss_weights=weights, settings=settings)
    validate = pretraining_validator(objective, names, weights, validation)
    report = pretraining_validator(objective, names, weights, test)
    set_dropout(loaded.model, cfg.dropout, cfg.attention_dropout)
    before = report(loaded.model) if run.publishes else {}
    run.log_metrics(prefixed("test", before), step=0)
    best = fit(
        loaded.model, objective, train, validate, stage_length(cfg), run,
        folder=run.folder / "training", title=title, metric=METRIC, groups=parameter_groups(cfg, train),
    )  # fmt: skip
    size = loaded.model.num_parameters()
    run.log_metrics({"model/parameters": float(size)}, step=best.step)
    result = Result(
        title=title, scores={}, validation=best.value, parameters=size, model=str(run.folder), run_id=run.id,
        registered="", version=None,
    )  # fmt: skip
    if not run.publishes:
        return result
    after = report(loaded.model)
    run.log_metrics(prefixed("test", after), step=best.step)
    if "mlm" in names:
        log_samples(run, mlm_samples(loaded.model, test), corpus, split=test.name)
    print_losses(names, before, after, title)
    return publish_stage(run, loaded, result, after, step=best.step)


def objectives_of(cfg: PretrainConfig, corpus: Corpus) -> tuple[str, ...]:
    """The given objectives, or all of the architecture for which the corpus has labels. Raises ConfigError if it lacks
    labels of a given one."""
    unlabeled = {
        name: objective.label_source
        for name, objective in OBJECTIVES.items()
        if objective.label_source and not label_classes(corpus, cfg.task, objective.label_source)
    }
    if cfg.mrm_loss == "kl" and not region_classes(cfg, corpus):
        unlabeled["mrm"] = "region classes"
    for name in cfg.objective_names():
        if name in unlabeled:
            raise ConfigError(f"objectives: {name}: {corpus.path} has no {unlabeled[name]} to train on.")
    chosen = cfg.objective_names() or load_spec(cfg.model).pretraining
    return tuple(name for name in load_spec(cfg.model).pretraining if name in chosen and name not in unlabeled)


def label_classes(corpus: Corpus, task: str, source: str) -> int:
    """How many labels a source has: the answers of a task, or a region field's classes."""
    return len(corpus.answers(task)) if source == ANSWERS else corpus.classes(source)


def region_classes(cfg: PretrainConfig, corpus: Corpus) -> int:
    """Classes of ViLBERT's distributions: the detector's, the background included; 0: the corpus has none."""
    objects = cfg.object_classes or corpus.classes("objects_id")
    return corpus.classes("class_probs") or (objects + 1 if corpus.classes("objects_id") else 0)


def head_sizes(cfg: PretrainConfig, corpus: Corpus, names: Sequence[str]) -> PretrainingSizes:
    sizes = {
        "qa": len(corpus.answers(cfg.task)),
        "mrc_objects": cfg.object_classes or corpus.classes("objects_id"),
        "mrc_attributes": cfg.attribute_classes or corpus.classes("attrs_id"),
        "mrfr": corpus.region_dim,
        "mrm": region_classes(cfg, corpus) if cfg.mrm_loss == "kl" else corpus.region_dim,
    }
    return PretrainingSizes(**{name: size for name, size in sizes.items() if name in names})


def start_from(cfg: PretrainConfig, corpus: Corpus, names: Sequence[str]) -> Loaded:
    """A new model with its vocabulary, or the given one, with the heads that this stage needs."""
    spec = load_spec(cfg.model)
    sizes = head_sizes(cfg, corpus, names)
    frozen = {"fixed_t_layer": cfg.frozen_text_layers} if "frozen_text_layers" in spec.capabilities else {}
    stage = 1
    if cfg.weights:
        loaded = load_weights(cfg, corpus, new_head=False)
        stage = loaded.preprocessing.stage + 1
        start = loaded.model
        tokenizer = loaded.wordpiece
        report = loaded.report
    elif cfg.clip_weights:
        start, tokenizer, report = from_clip_and_bert(cfg, spec, vocab=cfg.vocab, seed=cfg.seed)
    else:
        tokenizer = vocabulary(cfg, lambda: texts_and_tags(cfg, corpus))
        start, report = initial_model(cfg, Head("classify", 2), corpus, tokenizer)
    model = for_pretraining(spec, sizes, start, seed=cfg.seed, **frozen)
    if cfg.weights and loaded.preprocessing.is_pretrained and loaded.preprocessing.answers and sizes.qa:
        load_qa_head(model, loaded.model, loaded.preprocessing.answers, corpus.answers(cfg.task))
    preprocessing = preprocessing_of(
        cfg, corpus, task=PRETRAINED, stage=stage, objectives=tuple(names),
        answers=tuple(corpus.answers(cfg.task)) if "qa" in names else (),
    )  # fmt: skip
    return Loaded(model, tokenizer, preprocessing, report)


def texts_and_tags(cfg: PretrainConfig, corpus: Corpus) -> chain[str]:
    """The training texts, and the object tags of their images where the model reads them."""
    train, _, _ = pretraining_splits(cfg, corpus)
    texts = examples_of(corpus, cfg.task, train)["text"]
    images = corpora_images(corpus, cfg.task, train) if uses_tags(load_spec(cfg.model), cfg) else []
    return chain(texts, (" ".join(corpus.tags(image)) for image in images))


def stage_length(cfg: PretrainConfig) -> PretrainConfig:
    """The options of this stage alone: it may end before its schedule does."""
    return dataclasses.replace(cfg, epochs=cfg.stop_epoch) if cfg.stop_epoch else cfg


def log_samples(run: tracking.Run, rows: dict[str, list], corpus: Corpus, *, split: str) -> None:
    """The page and table of predicted tokens."""
    heading = f"{split}: predictions of [MASK]"
    for name, content in tracking.prediction_files(split, heading, rows, corpus.image).items():
        run.log_text(content, name)


def publish_stage(
    run: tracking.Run, loaded: Loaded, result: Result, scores: Mapping[str, float], *, step: int
) -> Result:
    """Register the model as vlx-pretrained-<architecture>, its stage among the tags."""
    preprocessing = loaded.preprocessing
    if "frozen_text_layers" in loaded.spec.capabilities:
        loaded.model.config.fixed_t_layer = 0  # later stages and fine-tuning train all layers
    facts = {
        "stage": preprocessing.stage,
        "objectives": ",".join(preprocessing.objectives),
        "data_fingerprint": preprocessing.data_fingerprint,
        f"val/{METRIC}": f"{result.validation:.6f}",
    }
    registered = f"vlx-pretrained-{preprocessing.architecture.replace('_', '-')}"
    version = publish(
        run, loaded, role="pretrained", registered=registered, title=result.title, facts=facts, scores=scores,
        step=step,
    )  # fmt: skip
    model = str(run.folder / "model")
    return dataclasses.replace(result, scores=dict(scores), model=model, registered=registered, version=version)


def print_losses(names: Sequence[str], before: Mapping[str, float], after: Mapping[str, float], title: str) -> None:
    """Print every loss and accuracy, before this stage and at its best step."""
    table = Table("", "before", "best step", title=title)
    for name in (*names, *(f"{name}_accuracy" for name in names)):
        if name in after:
            table.add_row(name, f"{before[name]:.3f}", f"{after[name]:.3f}")
    Console().print(table)
