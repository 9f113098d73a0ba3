"""Small stages of pre-training, on regions and on pixels."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from tests.training.toy import Recorder
from vlx import checkpoints
from vlx.checkpoints import Loaded
from vlx.config import PretrainConfig
from vlx.corpora import Corpus
from vlx.evaluation.compare import Validate
from vlx.evaluation.pretraining import METRIC, pretraining_validator
from vlx.inputs.pretraining import PretrainingDataset
from vlx.models.clip_vil import ClipVil, ClipVilConfig
from vlx.models.spec import load_spec
from vlx.models.student import set_dropout
from vlx.objectives import Objective, pretraining_objective
from vlx.objectives.pretraining import PretrainingSettings
from vlx.recipes.build import parameter_groups, preprocessing_of, vocabulary
from vlx.recipes.data import open_pretraining_datasets
from vlx.recipes.pretrain import objectives_of, region_classes, start_from, texts_and_tags
from vlx.tokenization import SPECIAL, WordPiece
from vlx.training.loop import fit

CLIP = "bert.encoder.visual_model."  # part of the names of CLIP's weights
SMALL = {"hidden_size": 16, "layers": 2, "region_layers": 1, "cross_layers": 1, "heads": 2, "intermediate_size": 16}
SHORT = {"steps": 9, "warmup_steps": 2, "batch_size": 32, "dropout": 0.1, "precision": "fp32", "max_text_tokens": 24}
OFTEN = {"eval_every": 4, "checkpoint_every": 3, "log_every": 2, "val_images": 4, "test_images": 4}
PIXELS = {
    "model": "clip_vil", "layers": 1, "vocab_size": 60, "vision_width": 2, "image_min_size": 32, "image_max_size": 64,
    "sampled_grid_features": 1, "aspect_groups": 0, "vision_lr": 0.01, "vision_momentum": 0.9, "vision_milestones": "1",
    "max_text_tokens": 12, "steps": 8, "batch_size": 8, "accumulation": 2,
}  # fmt: skip
TIMES = {"train/examples_per_second", "train/padding_share"}  # not the same after a resume


def config(model: str, **options: object) -> PretrainConfig:
    """9 steps; on the synthetic corpus four an epoch."""
    return PretrainConfig(**(SMALL | SHORT | OFTEN | {"model": model} | options))


def pixel_config(**options: object) -> PretrainConfig:
    """8 steps of 4 batches an epoch, each of two micro-batches."""
    return PretrainConfig(**(SMALL | SHORT | OFTEN | PIXELS | options))


def start(cfg: PretrainConfig, corpus: Corpus) -> Loaded:
    return start_from(cfg, corpus, objectives_of(cfg, corpus))


def open_splits(
    cfg: PretrainConfig, corpus: Corpus, tokenizer: WordPiece | None = None
) -> tuple[PretrainingDataset, PretrainingDataset, PretrainingDataset]:
    tokenizer = tokenizer or vocabulary(cfg, lambda: texts_and_tags(cfg, corpus))
    return open_pretraining_datasets(
        cfg, corpus, tokenizer, preprocessing_of(cfg, corpus), num_classes=region_classes(cfg, corpus)
    )


def open_train(corpus: Corpus, model: str, **options: object) -> PretrainingDataset:
    return open_splits(config(model, **options), corpus)[0]


def objective_of(cfg: PretrainConfig, corpus: Corpus) -> Objective:
    settings = PretrainingSettings(cfg.region_loss_weight, cfg.mrm_loss, load_spec(cfg.model).itm_positive_class)
    weights = cfg.loss_weight_by_objective()
    return pretraining_objective(objectives_of(cfg, corpus), loss_weights=weights, settings=settings)


def validator_of(cfg: PretrainConfig, corpus: Corpus, dataset: PretrainingDataset, **options: int) -> Validate:
    weights = cfg.loss_weight_by_objective()
    return pretraining_validator(objective_of(cfg, corpus), objectives_of(cfg, corpus), weights, dataset, **options)


def train_stage(cfg: PretrainConfig, corpus: Corpus, folder: Path, run: Recorder) -> Loaded:
    """Train a stage as the recipe does, without publishing."""
    loaded = start(cfg, corpus)
    train, validation, _ = open_splits(cfg, corpus, loaded.wordpiece)
    set_dropout(loaded.model, cfg.dropout, cfg.attention_dropout)
    fit(
        loaded.model, objective_of(cfg, corpus), train, validator_of(cfg, corpus, validation), cfg, run,
        folder=folder, title="toy", metric=METRIC, groups=parameter_groups(cfg, train),
    )  # fmt: skip
    return loaded


def save_new(corpus: Corpus, folder: Path, model: str, **options: object) -> tuple[Path, PreTrainedModel]:
    """A pre-training model that has not been trained, and its folder."""
    loaded = start(config(model, **options), corpus)
    return checkpoints.save(folder, loaded), loaded.model


def write_clip_and_bert(folder: Path) -> tuple[Path, Path, ClipVil]:
    """CLIP's weights as OpenAI names them, in half precision; BERT's with a vocab.txt of 50 entries, mostly letters;
    and the model of which both are parts."""
    torch.manual_seed(0)
    model = ClipVil(ClipVilConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=40, vision_layers=[1, 1, 1, 1], vision_width=2, pos_num=4, clip_places=5,
        clip_embed_dim=6, clip_text_width=8, clip_text_layers=2, clip_positions=5, clip_vocab_size=11,
        heads=["mlm", "itm"], unused_weights=True,
    ))  # fmt: skip
    weights = model.state_dict()
    clip = {name.removeprefix(CLIP): tensor for name, tensor in weights.items() if name.startswith(CLIP)}
    clip = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in clip.items()}
    bert = {name: tensor for name, tensor in weights.items() if not name.startswith("bert.encoder.vis")}
    torch.save(clip, folder / "RN50.pth")
    torch.save(bert, folder / "pytorch_model.bin")
    letters = [*"abcdefghijklmnopqrstuvwxyz?", *(f"##{letter}" for letter in "abcdefghijklmnopqr")]
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *letters]) + "\n")
    return folder / "RN50.pth", folder / "pytorch_model.bin", model


def assert_equal_metrics(actual: Recorder, expected: Recorder) -> None:
    """The metrics of a resumed run, at every step it has, without those of time."""
    for step, values in actual.metrics.items():
        metrics = {name: value for name, value in values.items() if name not in TIMES}
        assert metrics == {name: expected.metrics[step][name] for name in metrics}, step
