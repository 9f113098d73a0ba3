"""A model to train: new, from given weights, or from CLIP and BERT; with its vocabulary, head and preprocessing."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from vlx import checkpoints
from vlx.checkpoints import Loaded, LoadReport
from vlx.checkpoints.originals import module_of
from vlx.config import DistillConfig, FinetuneConfig, ModelFields, PixelFields, PretrainConfig, TrainFields
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError
from vlx.inputs.dataset import examples_of
from vlx.models.create import new_model, with_new_head
from vlx.models.dual import Dual
from vlx.models.heads import Head, qa_head
from vlx.models.spec import ModelSpec, load_spec
from vlx.preprocessing import Preprocessing
from vlx.recipes.data import uses_tags
from vlx.tasks.base import Task
from vlx.tokenization import WordPiece
from vlx.training.data import TrainingData
from vlx.training.loop import single_group, total_steps
from vlx.training.optim import Group, Optim, Schedule

log = logging.getLogger("vlx")
Trainable = FinetuneConfig | DistillConfig | PretrainConfig


def vocabulary(cfg: ModelFields, texts: Callable[[], Iterable[str]]) -> WordPiece:
    """The vocabulary that the options name, or one trained on the texts."""
    if file := checkpoints.vocab_file(cfg):
        return WordPiece.load(file)
    return WordPiece.train(texts(), size=cfg.vocab_size)


def training_texts(corpus: Corpus, task: Task, cfg: TrainFields) -> Callable[[], Iterable[str]]:
    return lambda: examples_of(corpus, task.name, cfg.train_split or task.splits.train)["text"]


def preprocessing_of(cfg: Trainable, corpus: Corpus, **facts: Any) -> Preprocessing:
    """How a model of these options reads this corpus. facts: task, answers and the like."""
    spec = load_spec(cfg.model)
    pixels: dict[str, Any] = {}
    if not spec.reads_regions:
        pixels = {
            "image_min_size": cfg.image_min_size,
            "image_max_size": cfg.image_max_size,
            "aspect_groups": cfg.aspect_groups,
            "region_dim": 0,
        }
    return Preprocessing(
        architecture=spec.name,
        max_text_tokens=cfg.max_text_tokens,
        max_regions=cfg.max_regions,
        detector=corpus.detector,
        object_tags=uses_tags(spec, cfg),
        data_fingerprint=corpus.fingerprint,
        **({"region_dim": corpus.region_dim} | pixels | facts),
    )


def task_preprocessing(cfg: Trainable, task: Task, corpus: Corpus) -> Preprocessing:
    return preprocessing_of(
        cfg, corpus, task=task.name, answers=tuple(task.answers), soft_targets=task.soft_targets,
        num_images=task.head.images,
    )  # fmt: skip


def initial_model(
    cfg: Trainable, head: Head, corpus: Corpus, tokenizer: WordPiece
) -> tuple[PreTrainedModel, LoadReport]:
    """A model of the options' sizes; its text encoder from `text_weights`, if given."""
    spec = load_spec(cfg.model)
    model = new_model(spec, head, cfg, vocab_size=len(tokenizer), region_dim=corpus.region_dim, seed=cfg.seed)
    if not cfg.text_weights:
        return model, LoadReport("from scratch")
    report = checkpoints.initialize_text_encoder(cast(Dual, model), checkpoints.bert_folder(cfg.text_weights))
    log.info("text encoder: %s", report.summary())
    return model, report


def from_clip_and_bert(
    cfg: PixelFields, spec: ModelSpec, *, vocab: str, seed: int
) -> tuple[PreTrainedModel, WordPiece, LoadReport]:
    """CLIP's network and BERT in one model whose heads are new, with BERT's vocabulary."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, report = module_of(spec).load_clip_and_bert(Path(cfg.clip_weights), Path(cfg.bert_weights))
    return model, WordPiece.load(Path(vocab or Path(cfg.bert_weights).parent / "vocab.txt")), report


def new_task_model(
    cfg: FinetuneConfig | DistillConfig, task: Task, corpus: Corpus, tokenizer: WordPiece | None = None
) -> Loaded:
    """A model without given weights; tokenizer: the given one, or that of the options."""
    preprocessing = task_preprocessing(cfg, task, corpus)
    if cfg.clip_weights:
        spec = load_spec(cfg.model)
        model, tokenizer, report = from_clip_and_bert(cfg, spec, vocab=cfg.vocab, seed=cfg.seed)
        return Loaded(with_new_head(spec, model, task.head, seed=cfg.seed), tokenizer, preprocessing, report)
    tokenizer = tokenizer or vocabulary(cfg, training_texts(corpus, task, cfg))
    model, report = initial_model(cfg, task.head, corpus, tokenizer)
    return Loaded(model, tokenizer, preprocessing, report)


def load_weights(cfg: FinetuneConfig | PretrainConfig, corpus: Corpus, *, new_head: bool) -> Loaded:
    """The model to start from. Raises ConfigError or CheckpointError unless the options and the corpus fit it."""
    loaded = check_regions(checkpoints.load(cfg.weights, new_head=new_head), corpus)
    architecture = loaded.preprocessing.architecture
    if architecture != cfg.model:
        raise ConfigError(f"model={cfg.model}: {cfg.weights} is of {architecture}; give model={architecture}.")
    limit = getattr(loaded.model.config, "max_position_embeddings", cfg.max_text_tokens)
    if cfg.max_text_tokens > limit:
        lengths = f"max_text_tokens={cfg.max_text_tokens}: {cfg.weights} reads {limit} tokens at most"
        raise ConfigError(f"{lengths}; give max_text_tokens={limit} or less.")
    return loaded


def start_from(cfg: FinetuneConfig, task: Task, corpus: Corpus) -> Loaded:
    """The given weights; for another task or other answers with a new head, or with the rows of pre-training's."""
    loaded = load_weights(cfg, corpus, new_head=True)
    preprocessing = loaded.preprocessing
    if (preprocessing.task, preprocessing.answers) == (task.name, tuple(task.answers)):
        return loaded
    spec = loaded.spec
    entries: dict[str, Any] = {}
    if spec.classifier_options:
        entries = {"classifier": cfg.classifier, "cls_hidden_scale": cfg.classifier_scale}
    model = with_new_head(spec, loaded.model, task.head, seed=cfg.seed, **entries)
    if cfg.load_qa_head:
        count = load_qa_head(model, loaded.model, preprocessing.answers, task.answers)
        log.info("%s: %d of %d answers are known from pre-training.", cfg.weights, count, len(task.answers))
    else:
        log.info("%s: its head is another task's; this one starts with a new head.", cfg.weights)
    return dataclasses.replace(loaded, model=model)


def initial_task_model(cfg: FinetuneConfig, task: Task, corpus: Corpus) -> Loaded:
    """The model that fine-tuning starts from: of the given weights, or new."""
    start = start_from(cfg, task, corpus) if cfg.weights else new_task_model(cfg, task, corpus)
    return dataclasses.replace(start, preprocessing=task_preprocessing(cfg, task, corpus))


def load_qa_head(
    model: PreTrainedModel, pretrained: PreTrainedModel, table: Sequence[str], answers: Sequence[str]
) -> int:
    """Copy the answer head of pre-training into the model's; the rows of its last layer by answer, zeros for a new one.

    table, answers: the answers of both heads, by row. Returns how many of `answers` are in the table. Raises
    ConfigError if a model has no such head (LXMERT, src/pretrain/qa_answer_table.py).
    """
    target, source = qa_head(model), qa_head(pretrained)
    if target is None or source is None or not same_shapes(target[:-1], source[:-1]):
        raise ConfigError("load_qa_head=True: expected weights with an answer head, and questions about one image.")
    target[:-1].load_state_dict(source[:-1].state_dict())
    rows = {name: checkpoints.answer_rows(tensor, table, answers) for name, tensor in source[-1].state_dict().items()}
    target[-1].load_state_dict(rows)
    return int(rows["weight"].any(1).sum())


def same_shapes(first: nn.Module, second: nn.Module) -> bool:
    shapes = [{name: tensor.shape for name, tensor in module.state_dict().items()} for module in (first, second)]
    return shapes[0] == shapes[1]


def check_regions(loaded: Loaded, corpus: Corpus) -> Loaded:
    """Raises CheckpointError if the model cannot read the corpus's regions."""
    region_dim = loaded.preprocessing.region_dim
    if loaded.spec.reads_regions and region_dim != corpus.region_dim:
        sizes = f"{region_dim} features a region, the corpus has {corpus.region_dim}"
        raise CheckpointError(f"{loaded.uri}: reads {sizes}; prepare the corpus with the features it was trained on.")
    return loaded


def check_task(loaded: Loaded, task: Task, corpus: Corpus) -> Loaded:
    """Raises CheckpointError if the model is another task's, or cannot read the corpus's regions."""
    preprocessing = loaded.preprocessing
    if preprocessing.task != task.name:
        shape = f"{preprocessing.num_images} images, {loaded.model.config.num_labels} answers"
        raise CheckpointError(
            f"{loaded.uri}: a model of another task ({preprocessing.task or shape}); expected one of task={task.name}."
        )
    return check_regions(loaded, corpus)


def parameter_groups(cfg: FinetuneConfig | DistillConfig | PretrainConfig, train: TrainingData) -> list[Group]:
    """One group, or with `vision_lr` the vision network with its own SGD, learning rate and milestones."""
    total = total_steps(cfg, train)
    if not cfg.vision_lr:
        return [single_group(cfg, total)]
    epoch = len(train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=0))
    sgd = Optim("sgd", cfg.vision_weight_decay, momentum=cfg.vision_momentum)
    schedule = Schedule("constant", 0, total, tuple(epoch * number for number in cfg.milestones()))
    vision = Group("vision", sgd, cfg.vision_lr, schedule, part=load_spec(cfg.model).vision_prefix)
    return [vision, single_group(cfg, total)]
