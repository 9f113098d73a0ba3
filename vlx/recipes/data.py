"""Corpora and datasets of a run's options."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from vlx import tasks, tracking
from vlx.checkpoints import Loaded
from vlx.config import (
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    ModelFields,
    PretrainConfig,
)
from vlx.corpora import Corpus
from vlx.corpora.writer import Detect
from vlx.inputs.dataset import TaskDataset, TaskDatasets, open_task_dataset
from vlx.inputs.image_input import ImageInput
from vlx.inputs.image_processor import ImageProcessor
from vlx.inputs.masking import MaskingConfig
from vlx.inputs.pixels import DecodedImages, PixelInput
from vlx.inputs.pretraining import PretrainingDataset, open_pretraining_dataset
from vlx.inputs.region_masking import MASKINGS, MaskedRegionInput, RegionMasking
from vlx.inputs.regions import RegionInput, RegionSource
from vlx.models.spec import ModelSpec, load_spec
from vlx.preprocessing import Preprocessing
from vlx.recipes.requirements import training_task
from vlx.tasks.base import Task
from vlx.tokenization import WordPiece

PRETRAINING_SPLITS = {  # of the formats made for pre-training: the training splits that exist, and validation
    "pretrain": (("mscoco_train", "mscoco_nominival", "vgnococo"), "mscoco_minival"),
    "captions": (("train",), "val"),
}


class NamedDataset(Protocol):
    """What the run's log needs of a dataset."""

    @property
    def name(self) -> str: ...
    @property
    def corpus(self) -> Corpus: ...
    def __len__(self) -> int: ...
    def profile(self) -> dict[str, int]: ...


def uses_tags(spec: ModelSpec, cfg: ModelFields) -> bool:
    return cfg.object_tags and "object_tags" in spec.capabilities


def image_input(
    preprocessing: Preprocessing, source: Any, *, sampled_grid_features: int = 0, detect: Detect | None = None
) -> ImageInput:
    """The image input of a model. source: a corpus, or InMemoryRegions."""
    spec = load_spec(preprocessing.architecture)
    return IMAGE_INPUTS[spec.input](preprocessing, source, sampled_grid_features, detect)


def region_input(
    preprocessing: Preprocessing, source: RegionSource, sampled_grid_features: int, detect: Detect | None
) -> RegionInput:
    return RegionInput(source, preprocessing.max_regions, detect)


def pixel_input(
    preprocessing: Preprocessing, source: Corpus, sampled_grid_features: int, detect: Detect | None
) -> PixelInput:
    sizes = (preprocessing.image_min_size, preprocessing.image_max_size)
    processor = ImageProcessor(*sizes) if all(sizes) else ImageProcessor()  # of an imported model: as published
    return PixelInput(DecodedImages(source, processor), preprocessing.aspect_groups, sampled_grid_features)


IMAGE_INPUTS: dict[str, Callable[..., ImageInput]] = {
    "regions": region_input,
    "pixels": pixel_input,
}  # by ModelSpec.input


def open_datasets(
    corpus: Corpus, task: Task, tokenizer: WordPiece, preprocessing: Preprocessing,
    cfg: FinetuneConfig | DistillConfig,
) -> TaskDatasets:  # fmt: skip
    """The task's splits. Training reads `train_examples`, or with `unlabeled` all, of which so many are labeled."""
    spec = load_spec(cfg.model)
    labeled = min(cfg.train_examples or cfg.limit, cfg.limit or cfg.train_examples)
    unlabeled = isinstance(cfg, DistillConfig) and cfg.unlabeled
    inputs = image_input(preprocessing, corpus)
    training_inputs = image_input(preprocessing, corpus, sampled_grid_features=cfg.sampled_grid_features)
    opened = partial(open_task_dataset, corpus, max_text_tokens=cfg.max_text_tokens, object_tags=uses_tags(spec, cfg))
    train = opened(
        training_task(spec, task), cfg.train_split or task.splits.train, tokenizer, training_inputs,
        limit=cfg.limit if unlabeled else labeled,
    )  # fmt: skip
    if unlabeled:
        train = train.with_labels(labeled)
    validation = opened(
        task, cfg.val_split or task.splits.validation, tokenizer, inputs,
        limit=cfg.limit, num_images=cfg.val_images, candidates_only=cfg.candidates_only,
    )  # fmt: skip
    test = opened(
        task, cfg.test_split or task.splits.test, tokenizer, inputs, limit=cfg.limit, num_images=cfg.test_images
    )
    return TaskDatasets(train, validation, test)


def open_for_evaluation(loaded: Loaded, corpus: Corpus, task: Task, cfg: EvaluateConfig) -> TaskDataset:
    """A split as the model reads it."""
    preprocessing = loaded.preprocessing
    return open_task_dataset(
        corpus, task, cfg.split or task.splits.test, loaded.wordpiece, image_input(preprocessing, corpus),
        max_text_tokens=preprocessing.max_text_tokens, object_tags=preprocessing.object_tags, limit=cfg.limit,
        num_images=cfg.test_images, candidates_only=cfg.candidates_only,
    )  # fmt: skip


def pretraining_splits(cfg: PretrainConfig, corpus: Corpus) -> tuple[str, str, str]:
    """Training, validation and test splits: those of the options, of the pre-training format, or of the task."""
    if cfg.task in PRETRAINING_SPLITS:
        training, held_out = PRETRAINING_SPLITS[cfg.task]
        train = ",".join(name for name in training if name in corpus.splits(cfg.task))
    else:
        train, held_out, _ = tasks.load(cfg.task, corpus.answers(cfg.task)).splits
    validation = cfg.val_split or held_out
    return cfg.train_split or train, validation, cfg.test_split or validation


def open_pretraining_datasets(
    cfg: PretrainConfig, corpus: Corpus, tokenizer: WordPiece, preprocessing: Preprocessing, *, num_classes: int
) -> tuple[PretrainingDataset, PretrainingDataset, PretrainingDataset]:
    """The training, validation and test splits. num_classes: of the detector's class distributions."""
    spec = load_spec(cfg.model)
    objectives = cfg.objective_names() or spec.pretraining
    negatives = cfg.itm_negative_probability if "itm" in objectives else 0.0
    masking = MaskingConfig(cfg.mlm_probability, negatives, cfg.mask_positives_only)
    train, validation, test = pretraining_splits(cfg, corpus)
    inputs, training_inputs = pretraining_inputs(cfg, corpus, preprocessing, train, num_classes=num_classes)
    opened = partial(
        open_pretraining_dataset, corpus, cfg.task,
        max_text_tokens=cfg.max_text_tokens, object_tags=uses_tags(spec, cfg),
    )  # fmt: skip
    return (
        opened(train, tokenizer, training_inputs, masking, limit=cfg.train_examples or cfg.limit),
        opened(validation, tokenizer, inputs, masking, limit=cfg.limit, num_images=cfg.val_images),
        opened(test, tokenizer, inputs, masking, limit=cfg.limit, num_images=cfg.test_images),
    )


def pretraining_inputs(
    cfg: PretrainConfig, corpus: Corpus, preprocessing: Preprocessing, train: str, *, num_classes: int
) -> tuple[ImageInput, ImageInput]:
    """Image input of evaluation and of training. Regions are masked in both."""
    spec = load_spec(cfg.model)
    plain = image_input(preprocessing, corpus)
    if not isinstance(plain, RegionInput):
        return plain, image_input(preprocessing, corpus, sampled_grid_features=cfg.sampled_grid_features)
    rows = corpora_images(corpus, cfg.task, train)
    masking = RegionMasking(cfg.mrm_probability, rows, cfg.mrm_loss, num_classes, cfg.nce_negatives)
    masked = MaskedRegionInput(corpus, cfg.max_regions, masking=masking, mask=MASKINGS[spec.region_masking])
    return masked, masked


def corpora_images(corpus: Corpus, task: str, names: str) -> list[str]:
    """The image ids of splits joined by commas, each once."""
    rows = [row for name in names.split(",") for row in corpus.examples(task, name)["image_ids"]]
    return list(dict.fromkeys(image for row in rows for image in row))


def log_datasets(run: tracking.Run, datasets: Iterable[NamedDataset]) -> None:
    """Log training, validation and test data by name and fingerprint."""
    for dataset, context in zip(datasets, ("train", "validation", "test"), strict=True):
        fingerprint = dataset.corpus.fingerprint
        run.log_input(
            name=f"{dataset.corpus.path.name}/{dataset.name}",
            digest=f"{fingerprint[:12]}-{dataset.name}-{len(dataset)}",
            source=dataset.corpus.path,
            context=context,
            profile={"split": dataset.name, "fingerprint": fingerprint} | dataset.profile(),
        )
