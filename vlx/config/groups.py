"""The options that several verbs share, in groups. SECTION is the title of a group in --help."""

import re
from dataclasses import dataclass
from typing import ClassVar

from vlx.config.base import TINY, Config, option
from vlx.errors import ConfigError, did_you_mean
from vlx.registry import ARCHITECTURES, TASKS

STRIDE = 32  # pixels per grid feature, each way
INTEGERS = re.compile(r"(\d+(,\d+)*)?")
NUMBER = re.compile(r"\d+(\.\d+)?")
OPTIMIZERS = ("adamw", "bert_adamw", "bert_adam", "lxmert_adam", "adamax")
OBJECTIVES = ("mlm", "itm", "mrc_objects", "mrc_attributes", "mrfr", "mrm", "qa")


@dataclass(frozen=True, kw_only=True)
class RunFields(Config):
    SECTION: ClassVar[str] = "run"

    preset: str = option("", "name of a file in vlx/presets, or path of a YAML file of options")
    seed: int = option(0, "seed of initial weights, data order and dropout", low=0)
    work_dir: str = option("outputs", "folder of corpora, checkpoints and journals")
    description: str = option("", "text shown on the run's page in MLflow")


@dataclass(frozen=True, kw_only=True)
class DataFields(RunFields):
    SECTION: ClassVar[str] = "data"

    task: str = option("nlvr2", "vision-and-language task", choices=tuple(TASKS))
    corpus: str = option("synthetic", "synthetic, or the folder of a prepared corpus")
    source: str = option("", "folder of official files; prepared once, then read from work_dir")
    format: str = option("", "official format of source, several joined by +; empty = the task's default")
    dtype: str = option("float16", "type of region features on disk", choices=("float16", "float32"))
    detector: str = option(
        "", "detector for images without regions; empty = none", choices=("", "components-v1", "efficientnet-lite0")
    )
    corpus_size: int = option(20_000, "training examples of the synthetic corpus", low=20)
    corpus_seed: int = option(0, "seed of the synthetic corpus", low=0)
    difficulty: str = option("normal", "difficulty of the synthetic corpus", choices=("easy", "normal", "hard"))
    limit: int = option(0, "maximum examples per split; 0 = all", low=0)
    val_images: int = option(100, "retrieval, pre-training: maximum images in validation; 0 = all", low=0)
    test_images: int = option(
        1_000, "retrieval, pre-training: maximum images in the test; published: 1000 or 5000; 0 = all", low=0
    )


@dataclass(frozen=True, kw_only=True)
class ModelFields(Config):
    SECTION: ClassVar[str] = "model"

    model: str = option("oscar", "architecture", choices=tuple(ARCHITECTURES))
    hidden_size: int = option(64, "hidden size H", low=8)
    layers: int = option(4, "transformer layers; of the text encoder where text has its own", low=1)
    region_layers: int = option(2, "LXMERT, ViLBERT, dual: layers over regions (ViLBERT: cross_layers or more)", low=0)
    cross_layers: int = option(2, "LXMERT, ViLBERT: cross-modality layers", low=1)
    heads: int = option(4, "attention heads per layer", low=1)
    intermediate_size: int = option(256, "width of the feed-forward layers", low=1)
    initializer_range: float = option(
        0.1, "standard deviation of initial weights; BERT's 0.02 suits hidden_size=768", low=TINY
    )
    dropout: float = option(
        0.0, "dropout of embeddings, attention output, feed-forward output and head", low=0, high=0.99
    )
    attention_dropout: float = option(0.0, "dropout of attention probabilities", low=0, high=0.99)
    classifier: str = option("mlp", "type of the classification head", choices=("linear", "mlp"))
    classifier_scale: int = option(2, "Oscar: width of the mlp head, as a multiple of hidden_size", low=1)
    text_weights: str = option(
        "", "dual: BERT folder, or minilm if installed, whose first layers initialize the text encoder"
    )
    vocab: str = option("", "WordPiece vocab.txt; empty = that of text_weights, or one trained on the corpus")
    vocab_size: int = option(2_000, "maximum size of a vocabulary trained on the corpus", low=50)
    max_text_tokens: int = option(55, "maximum text length, [CLS] and [SEP] included", low=3)
    max_regions: int = option(40, "maximum regions per image, in the detector's order", low=1)
    object_tags: bool = option(True, "Oscar: append the object tags of an image, where it has any, to the text")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.heads:
            raise ConfigError(f"hidden_size={self.hidden_size}: expected a multiple of heads={self.heads}.")
        if self.text_weights and self.vocab:
            raise ConfigError(f"text_weights={self.text_weights}: expected no vocab; text_weights has its own.")


@dataclass(frozen=True, kw_only=True)
class PixelFields(Config):
    SECTION: ClassVar[str] = "image input, for architectures that read pixels"

    clip_weights: str = option(
        "", "CLIP checkpoint, OpenAI's or open_clip's, that initializes the image encoder; requires bert_weights"
    )
    bert_weights: str = option(
        "", "BERT checkpoint beside its vocab.txt that initializes the transformer; requires clip_weights"
    )
    vision_layers: str = option("1,1,1,1", "blocks in the four stages of the image encoder; RN50: 3,4,6,3")
    vision_width: int = option(16, "channels of the image encoder's stem; RN50: 64", low=2)
    image_min_size: int = option(64, "pixels of a resized image's shorter side; published: 384", low=STRIDE)
    image_max_size: int = option(64, "maximum pixels of a resized image's longer side; published: 640", low=STRIDE)
    aspect_groups: int = option(
        5, "N > 0 groups batches by 2N ranges of aspect ratio from 1:2 to 2:1; 0 = by wide or tall", low=0
    )
    sampled_grid_features: int = option(
        0, "grid features sampled per image in training; published: 100; 0 = all", low=0
    )
    vision_lr: float = option(
        0.0, "learning rate of the image encoder, which then uses SGD; 0 = lr and optimizer of the other layers", low=0
    )
    vision_momentum: float = option(0.0, "momentum of the image encoder's SGD", low=0, high=0.999)
    vision_weight_decay: float = option(4e-4, "weight decay of the image encoder's SGD", low=0)
    vision_milestones: str = option(
        "", "epochs, counted from 0 and joined by commas, at which vision_lr drops to a tenth"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vision_layers", "vision_milestones"):
            if not INTEGERS.fullmatch(getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)}: expected numbers joined by commas.")
        if len(self.stages()) != 4 or 0 in self.stages() or self.vision_width % 2:
            encoder = f"vision_layers={self.vision_layers}, vision_width={self.vision_width}"
            raise ConfigError(f"{encoder}: expected four stages of a block or more, and an even width.")
        if bool(self.clip_weights) != bool(self.bert_weights):
            weights = f"clip_weights={self.clip_weights}, bert_weights={self.bert_weights}"
            raise ConfigError(f"{weights}: expected both, or neither.")
        smaller, larger = self.image_min_size, self.image_max_size
        if smaller % STRIDE or larger % STRIDE or smaller > larger:
            sizes = f"image_min_size={smaller}, image_max_size={larger}"
            raise ConfigError(f"{sizes}: expected multiples of {STRIDE}, image_min_size at most image_max_size.")
        grid_features = smaller * larger // STRIDE**2
        if self.sampled_grid_features > grid_features:
            sampled = f"sampled_grid_features={self.sampled_grid_features}"
            raise ConfigError(f"{sampled}: expected at most the {grid_features} of an image.")

    def stages(self) -> tuple[int, ...]:
        return integers(self.vision_layers)

    def milestones(self) -> tuple[int, ...]:
        return integers(self.vision_milestones)


def integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


@dataclass(frozen=True, kw_only=True)
class TrainFields(RunFields):
    SECTION: ClassVar[str] = "training"

    resume: str = option("auto", "auto = continue an unfinished run with the same options", choices=("auto", "never"))
    batch_size: int = option(64, "examples per optimizer step", low=1)
    accumulation: int = option(1, "micro-batches per optimizer step", low=1)
    lr: float = option(5e-4, "peak learning rate", low=TINY)
    steps: int = option(1_750, "optimizer steps; 0 = count in epochs", low=0)
    epochs: int = option(0, "passes over the training split; requires steps=0", low=0)
    warmup_steps: int = option(100, "steps of linear learning-rate warm-up", low=0)
    warmup_ratio: float = option(0.0, "warm-up as a share of all steps; requires warmup_steps=0", low=0, high=1)
    weight_decay: float = option(0.01, "weight decay, not applied to biases and LayerNorm", low=0)
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", low=TINY)
    optimizer: str = option(
        "adamw",
        "adamw, adamax: torch's; bert_adamw, bert_adam, lxmert_adam: as in the original code, the last two without "
        "bias correction",
        choices=OPTIMIZERS,
    )
    adam_eps: float = option(1e-8, "epsilon of the optimizer", low=TINY)
    schedule: str = option("linear", "learning-rate schedule after warm-up", choices=("linear", "constant"))
    precision: str = option("auto", "auto = bf16 on a GPU that supports it", choices=("auto", "fp32", "bf16"))
    train_examples: int = option(0, "maximum labeled training examples; 0 = all", low=0)
    train_split: str = option("", "training splits, joined by commas; empty = the task's default")
    val_split: str = option("", "validation splits, which select the best step; empty = the task's default")
    test_split: str = option("", "test splits; empty = the task's default")
    candidates_only: bool = option(
        True,
        "retrieval: validate on the candidate captions listed per image, if the split lists any; false = all pairs",
    )
    patience: int = option(0, "evaluations without a better score before training stops; 0 = never", low=0)
    eval_every: int = option(250, "steps between evaluations on the validation split", low=1)
    checkpoint_every: int = option(100, "steps between checkpoints", low=1)
    log_every: int = option(25, "steps between logged training metrics", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.steps) == bool(self.epochs):
            raise ConfigError(f"steps={self.steps} and epochs={self.epochs}: expected exactly one of them above 0.")
        if self.steps and self.warmup_steps > self.steps:
            raise ConfigError(f"warmup_steps={self.warmup_steps}: expected at most steps={self.steps}.")
        if self.warmup_steps and self.warmup_ratio:
            raise ConfigError(f"warmup_ratio={self.warmup_ratio:g}: expected 0, or warmup_steps=0 beside it.")
        if self.accumulation > self.batch_size:
            raise ConfigError(f"accumulation={self.accumulation}: expected at most batch_size={self.batch_size}.")


@dataclass(frozen=True, kw_only=True)
class PretrainFields(Config):
    SECTION: ClassVar[str] = "pre-training"

    weights: str = option("", "initial model, a folder or models:/name@alias; empty = random initialization")
    objectives: str = option(
        "", f"some of {', '.join(OBJECTIVES)}, joined by commas; empty = all that architecture and corpus support"
    )
    loss_weights: str = option("", "weights of the objectives, such as qa=2,mrm=0.5; 1 where none is given")
    mlm_probability: float = option(0.15, "probability that a text token is masked", low=0, high=1)
    mrm_probability: float = option(0.15, "probability that a region is masked", low=0, high=1)
    itm_negative_probability: float = option(
        0.5, "itm: probability that an image is shown with the text, or the object tags, of another", low=0, high=1
    )
    mask_positives_only: bool = option(False, "leave texts and images that do not match out of all but the itm loss")
    region_loss_weight: str = option(
        "confidence",
        "LXMERT: a region's weight in mrc_objects and mrc_attributes, by detector confidence, by mask, or by both",
        choices=("confidence", "masked", "both"),
    )
    mrm_loss: str = option(
        "kl",
        "ViLBERT: kl = match a masked region's class distribution, mse = its features, nce = contrast its features",
        choices=("kl", "mse", "nce"),
    )
    nce_negatives: int = option(128, "negative regions of mrm_loss=nce", low=2)
    object_classes: int = option(0, "object classes of the detector; 0 = as many as the corpus has", low=0)
    attribute_classes: int = option(0, "attribute classes of the detector; 0 = as many as the corpus has", low=0)
    stop_epoch: int = option(
        0, "stop after this epoch, with the learning-rate schedule of all epochs; 0 = do not stop early", low=0
    )
    frozen_text_layers: int = option(
        0, "ViLBERT: number of first text layers that stay frozen, with the embeddings; 0 = none", low=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weight_pairs = self.loss_weight_pairs()
        weighted_names = [name for name, _ in weight_pairs]
        for key, names in (("objectives", self.objective_names()), ("loss_weights", weighted_names)):
            for name in names:
                if name not in OBJECTIVES:
                    close = did_you_mean(name, OBJECTIVES)
                    raise ConfigError(f"{key}: found {name}, expected some of {', '.join(OBJECTIVES)}.{close}")
        for name, number in weight_pairs:
            if not NUMBER.fullmatch(number):
                raise ConfigError(f"loss_weights: {name}={number}: expected a number of at least 0.")

    def objective_names(self) -> list[str]:
        """Return the objectives that are given, in their order; [] where the choice is left to the architecture."""
        return self.objectives.split(",") if self.objectives else []

    def loss_weight_by_objective(self) -> dict[str, float]:
        """Return the weights that are given."""
        return {name: float(number) for name, number in self.loss_weight_pairs()}

    def loss_weight_pairs(self) -> list[tuple[str, str]]:
        """Return (objective, weight) as written."""
        pairs = [pair.partition("=") for pair in self.loss_weights.split(",") if pair]
        return [(name, number) for name, _, number in pairs]
