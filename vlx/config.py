"""What a user can set: one frozen, flat dataclass a verb. Order: defaults < preset < command line."""

import dataclasses
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from vlx.errors import ConfigError, UserError, did_you_mean
from vlx.options import TINY, Config, check_known, describe, keys_of, one_line, option
from vlx.pixel_options import PixelFields
from vlx.pretrain_options import PretrainFields

PRESETS = Path(__file__).parent / "presets"
WRONG_TYPE = re.compile(r'"(\w+)": Expected a <class \'(\w+)\'>. Got value: (.*)')
log = logging.getLogger("vlx")

TASKS = (
    *("nlvr2", "nlvr", "vqa", "gqa", "vqa_rad", "genome_qa", "retrieval", "snli_ve", "guesswhat"),
    *("refcoco", "refcoco+", "refcocog", "visual7w", "guesswhat_pointing", "vcr_q2a", "vcr_qa2r"),
)
ORIGINALS = ("oscar", "lxmert", "vilbert", "clip_vil", "vle")
SYSTEMS = (*ORIGINALS, "dual")
SEARCHED = ("distill", "finetune", "pretrain")
PRUNERS = ("auto", "asha", "hyperband", "median", "wilcoxon", "none")
NEGATIVES = ("one", "three")
OPTIMIZERS = ("adamw", "bert_adamw", "bert_adam", "lxmert_adam", "adamax")
METHODS = ("kd", "pkd", "tinybert", "mkd", "embedding")
# both: the mean of several layers; random: no weight at all
STARTS = ("first", "last", "skip", "both", "none", "random")


@dataclass(frozen=True, kw_only=True)
class RunFields(Config):
    preset: str = option("", "a file of vlx/presets without .yaml, or the path of your own YAML file of options")
    seed: int = option(0, "decides weights, order and dropout", low=0)
    work_dir: str = option("outputs", "where corpora, checkpoints and journals are kept")
    description: str = option("", "shown on the run's page in MLflow")


@dataclass(frozen=True, kw_only=True)
class DataFields(RunFields):
    task: str = option("nlvr2", "what the model must answer", choices=TASKS)
    corpus: str = option("scenes", "the built-in corpus, or the folder of a prepared one")
    source: str = option("", "folder of official files; prepared once, then kept under work_dir")
    format: str = option("", "official format of source, or several joined by +; empty: the task's own")
    dtype: str = option("float16", "of region features on disk", choices=("float16", "float32"))
    detector: str = option("", "of pictures without regions", choices=("", "components-v1", "efficientnet-lite0"))
    corpus_size: int = option(20_000, "training statements of the built-in corpus", low=20)
    corpus_seed: int = option(0, "seed of the built-in corpus", low=0)
    difficulty: str = option("normal", "of the built-in corpus", choices=("easy", "normal", "hard"))
    limit: int = option(0, "look at the first so many examples of every split only; 0: at all", low=0)
    val_images: int = option(100, "of retrieval and pre-training: pictures whose pairs are validated; 0: all", low=0)
    test_images: int = option(1_000, "of the same: pictures of the test, 1,000 or 5,000 as published; 0: all", low=0)


@dataclass(frozen=True, kw_only=True)
class ModelFields(Config):
    model: str = option("oscar", "the system", choices=SYSTEMS)
    hidden_size: int = option(64, "width H", low=8)
    layers: int = option(4, "encoder layers; of text, where text has its own", low=1)
    region_layers: int = option(2, "layers over regions alone, in LXMERT and dual", low=0)
    cross_layers: int = option(2, "layers between text and regions, in LXMERT and ViLBERT", low=1)
    heads: int = option(4, "attention heads", low=1)
    intermediate_size: int = option(256, "width of the feed-forward part", low=1)
    initializer_range: float = option(0.1, "spread of new weights; BERT's 0.02 is for width 768", low=TINY)
    dropout: float = option(0.0, "on embeddings, attention output, feed-forward output and head", low=0, high=0.99)
    attention_dropout: float = option(0.0, "on attention probabilities", low=0, high=0.99)
    classifier: str = option("mlp", "the head", choices=("linear", "mlp"))
    classifier_scale: int = option(2, "width of Oscar's mlp head, in hidden_size", low=1)
    text_weights: str = option("", "of dual: BERT folder, or minilm if installed, whose first layers its text has")
    vocab: str = option("", "a WordPiece vocab.txt; empty: that of text_weights, or trained on the corpus")
    vocab_size: int = option(2_000, "of a vocabulary trained on the corpus, at most", low=50)
    max_text_tokens: int = option(55, "statement length, [CLS] and [SEP] included", low=3)
    max_regions: int = option(40, "regions of an image, the detector's first", low=1)
    tags: bool = option(True, "Oscar reads the object tags of a picture, where it has any, after the text")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.heads:
            raise ConfigError(f"hidden_size={self.hidden_size}: expected a multiple of heads={self.heads}.")
        if self.text_weights and (self.model != "dual" or self.vocab):
            raise ConfigError(f"text_weights={self.text_weights}: expected model=dual, and no vocab but its own.")


@dataclass(frozen=True, kw_only=True)
class TrainFields(RunFields):
    resume: str = option("auto", "auto continues this same run where it stopped", choices=("auto", "never"))
    batch_size: int = option(64, "statements of one optimizer step", low=1)
    accumulation: int = option(1, "micro-batches of one optimizer step", low=1)
    lr: float = option(5e-4, "peak learning rate", low=TINY)
    steps: int = option(1_750, "optimizer steps; 0: count in epochs", low=0)
    epochs: int = option(0, "passes over the training split; only with steps=0", low=0)
    warmup_steps: int = option(100, "steps of rising learning rate", low=0)
    warmup_ratio: float = option(0.0, "the same as a share of all steps; only with warmup_steps=0", low=0, high=1)
    weight_decay: float = option(0.01, "not on biases and LayerNorms", low=0)
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", low=TINY)
    optimizer: str = option(
        "adamw", "torch's, fused; the originals', all but the first uncorrected; Adamax", choices=OPTIMIZERS
    )
    adam_eps: float = option(1e-8, "epsilon of the optimizer", low=TINY)
    schedule: str = option("linear", "of the learning rate after warm-up", choices=("linear", "constant"))
    precision: str = option("auto", "auto takes bf16 on a GPU that has it", choices=("auto", "fp32", "bf16"))
    train_examples: int = option(0, "use only this many labelled training statements; 0: all", low=0)
    train_split: str = option("", "splits of the corpus to learn from, joined by commas; empty: the task's own")
    val_split: str = option("", "the same to choose the best step by")
    test_split: str = option("", "the same to report on")
    listed: bool = option(
        True, "of retrieval: validate among captions listed for a picture, where they are; false: all"
    )
    patience: int = option(0, "evaluations without a better score after which training ends; 0: never", low=0)
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
class PrepareConfig(DataFields):
    """Turn official files into a corpus."""

    out: str = option("", "folder of the corpus, which must not be there; empty: kept under work_dir")
    check: bool = option(False, "examine every example and image, and fail where training would be wrong")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out and not self.source:
            raise ConfigError(f"out={self.out}: expected source too, the folder of official files to prepare from.")
        if self.out and not self.format:
            raise ConfigError(f"out={self.out}: expected format too, the official format of source.")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(PixelFields, TrainFields, ModelFields, DataFields):
    """Train one model on one task."""

    weights: str = option("", "model to start from: folder or models:/name@alias; empty: from scratch")
    loss: str = option("", "bce: each answer its own yes or no, as 12-in-1; empty: the task's own", choices=("", "bce"))
    negatives: str = option("one", "wrong pairs of retrieval; three, one of them hard, as 12-in-1", choices=NEGATIVES)
    load_qa_head: bool = option(False, "keep the rows of the pre-trained answer head, by answer; without: a new head")
    role: str = option("model", "the registered name is vlx-<task>-<role>", choices=("model", "teacher"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and self.text_weights:
            raise ConfigError(f"text_weights={self.text_weights}: expected no weights, which hold a text tower.")
        if self.model == "dual" and (self.loss or self.negatives != "one"):
            given = f"loss={self.loss}, negatives={self.negatives}"
            raise ConfigError(f"{given}: model=dual learns from the batch's other pairs; leave both out.")
        if self.load_qa_head and not self.weights:
            raise ConfigError("load_qa_head=True: expected weights too, a pre-trained model with an answer head.")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(PretrainFields, TrainFields, ModelFields, DataFields):
    """Let a model guess what is hidden of texts and pictures."""

    task: str = option("pretrain", "whose texts and pictures", choices=("pretrain", "captions", *TASKS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop_epoch > self.epochs:
            raise ConfigError(f"stop_epoch={self.stop_epoch}: expected at most epochs={self.epochs}.")


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainFields, ModelFields, DataFields):
    """Teach a small student what a large teacher knows. Model fields are the teacher's."""

    steps: int = option(500, "optimizer steps of the student; 0: count in epochs", low=0)
    warmup_steps: int = option(50, "steps of rising learning rate", low=0)
    train_examples: int = option(400, "labelled statements the student sees (the teacher sees all); 0: all", low=0)
    unlabelled: bool = option(False, "the student also reads the rest of train, which the teacher answers, not labels")
    teacher: str = option("", "folder or models:/name@alias, or several by commas; empty: trained here, once a corpus")
    teacher_steps: int = option(3_500, "optimizer steps of a teacher trained here", low=1)
    teacher_lr: float = option(5e-4, "peak learning rate of a teacher trained here", low=TINY)
    method: str = option(
        "kd", "vanilla; [CLS] of layers; all of layers; text, image and both; vectors", choices=METHODS
    )
    beta: float = option(0.0, "weight of comparing layers; 0: as published, 500 of pkd, 0.01 of tinybert", low=0)
    alpha: float = option(0.9, "weight of the distillation loss against the task loss", low=0, high=1)
    temperature: float = option(2.0, "softens both distributions", low=TINY)
    cache: bool = option(True, "of kd: keep a fixed teacher's logits under work_dir rather than ask again each epoch")
    student_layers: int = option(2, "encoder layers of the student", low=1)
    student_hidden_size: int = option(0, "its width; 0: the teacher's", low=0)
    student_init: str = option("first", "teacher layers it starts from; none: only the rest of it", choices=STARTS)
    baseline: bool = option(True, "also train the same student without distillation, to compare")
    reptile: bool = option(False, "the teacher learns too, towards the adapted student (Reptile)")
    meta_lr: float = option(5e-5, "learning rate of the teacher's Reptile update", low=TINY)
    inner_lr: str = option("constant", "lr; original: lr x warm-up factor 0", choices=("constant", "original"))
    strategy: str = option("skip", "teacher layers a student layer moves", choices=("first", "last", "skip", "both"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teacher and self.student_layers > self.layers:
            limit = f"expected at most the teacher's layers={self.layers}."
            raise ConfigError(f"student_layers={self.student_layers}: {limit}")
        several = "," in self.teacher
        oscar, towers = ("kd", "mkd") if several else METHODS[:4], ("kd",) if several else ("kd", "embedding")
        methods = {"oscar": oscar, "dual": towers}.get(self.model, ("kd",))
        moves = self.model == "oscar" and not several
        if self.method not in methods or (self.reptile and not moves):
            expected = f"expected method={' or '.join(methods)}{'' if moves else ', no reptile'}"
            raise ConfigError(f"model={self.model}, teacher={self.teacher}: {expected}.")
        if self.student_hidden_size and (self.reptile or self.model != "oscar" or self.student_init != "random"):
            own = f"student_hidden_size={self.student_hidden_size}: expected"
            raise ConfigError(f"{own} model=oscar and student_init=random, no reptile: no weight fits another width.")
        if self.unlabelled and (not self.train_examples or self.task == "retrieval"):
            raise ConfigError("unlabelled=true: expected train_examples above 0, so that some are left; no retrieval.")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(RunFields):
    """Register an original checkpoint as a model version."""

    system: str = option("lxmert", "whose checkpoint it is", choices=ORIGINALS)
    weights: str = option("", "the original file or folder")
    task: str = option("", "what it was fine-tuned for; empty: a pre-trained model", choices=("", *TASKS))
    vocab: str = option("", "BERT's vocab.txt; empty: beside the weights (VLE brings its own tokenizer)")
    answers: str = option("", "JSON of the answer of every label, as trainval_label2ans.json")
    detector: str = option("external", "that made the regions it reads")
    max_text_tokens: int = option(20, "text length it was trained with, [CLS] and [SEP] included", low=3)
    max_regions: int = option(36, "regions it was trained with", low=1)
    name: str = option("", "registered name; empty: vlx-<system>-original")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise ConfigError("weights: expected the original file or folder; give -P weights=PATH.")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DataFields):
    """Score a model on a split."""

    model: str = option("models:/vlx-nlvr2-student@champion", "folder, original checkpoint or registered version")
    split: str = option("", "a split of the corpus; empty: the task's test split")
    listed: bool = option(
        False, "of retrieval: rank the captions that a split lists for each picture; false: all pairs"
    )


@dataclass(frozen=True, kw_only=True)
class PredictConfig(EvaluateConfig):
    """Answer one text, or write the submission file of a split."""

    text: str = option("", "a question, statement or expression of one's own; empty: a whole split")
    images: str = option("", "what text is about: image ids of the corpus, joined by commas")
    features: str = option("", "or .npz files of regions: features [R,D], boxes [R,4] in 0..1; joined by commas")
    top: int = option(5, "answers shown", low=1)


@dataclass(frozen=True, kw_only=True)
class PromoteConfig(Config):
    """Move the alias champion to a better version."""

    name: str = option("vlx-nlvr2-student", "registered model")
    version: str = option("", "the challenger; empty: the newest")
    metric: str = option("val/accuracy", "what must be higher")
    margin: float = option(0.0, "by more than this", low=0)
    rollback: bool = option(False, "give the alias back to the champion before this one")


@dataclass(frozen=True, kw_only=True)
class SyncConfig(Config):
    """Send what a dead tracking server missed."""

    folder: str = option("outputs", "a run's folder, or one above many")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """Find better settings of a verb, whose own options may be given too."""

    verb: str = option("distill", "what is searched", choices=SEARCHED)
    space: str = option("", "what varies: a file of vlx/search/spaces without .yaml, or a path; empty: the verb's")
    trials: int = option(20, "settings to try; the first is the preset, or the defaults", low=1)
    sampler: str = option("tpe", "chooses settings", choices=("tpe", "gp", "cmaes", "random", "grid"))
    pruner: str = option("auto", "gives trials up; auto: asha, or wilcoxon of several seeds", choices=PRUNERS)
    seeds: int = option(1, "a setting's score is its mean over so many", low=1)
    second_objective: str = option("", "a cost to minimize beside the score", choices=("", "latency", "parameters"))
    study: str = option("", "name; the same goes on with the same study. Empty: made of all these options")
    storage: str = option("", "sqlite under work_dir if empty; journal: a file there; or the URL of any database")
    workers: int = option(1, "processes on this machine; the same command elsewhere joins the study", low=1)
    promote: bool = option(False, "train the best settings with fresh seeds, register the winner, promote if better")
    seed: int = option(0, "of the sampler, and the first of the trials'", low=0)
    work_dir: str = option("outputs", "where the study, corpora and checkpoints are kept")
    description: str = option("", "shown on the run's page in MLflow")
    options: str = option("", "filled with all that the verb is given; they are held at that")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pruner not in ("auto", "none") and (self.pruner == "wilcoxon") != (self.seeds > 1):
            raise ConfigError(f"pruner={self.pruner} and seeds={self.seeds}: wilcoxon is for several, others for one.")
        if self.second_objective and (self.pruner not in ("auto", "none") or self.sampler == "cmaes"):
            raise ConfigError(f"second_objective={self.second_objective}: expected pruner=none, and no sampler=cmaes.")
        if self.second_objective == "latency" and self.verb == "pretrain":
            raise ConfigError("second_objective=latency: pretrain does not measure it; expected parameters.")
        self.base()  # raises what is wrong with the verb's options

    def base(self) -> Config:
        """The verb's config, from which the search starts. Raises ConfigError."""
        shared = [f"--seed={self.seed}", f"--work_dir={self.work_dir}"]
        return parse(VERBS[self.verb], [*shlex.split(self.options), *shared])


VERBS: dict[str, type[Config]] = {
    "prepare": PrepareConfig, "pretrain": PretrainConfig, "finetune": FinetuneConfig, "distill": DistillConfig,
    "import": ImportConfig, "evaluate": EvaluateConfig, "predict": PredictConfig, "promote": PromoteConfig,
    "search": SearchConfig, "sync": SyncConfig,
}  # fmt: skip
C = TypeVar("C", bound=Config)


def parse(schema: type[C], argv: Sequence[str] | None = None) -> C:
    """Build a config from `--key=value` and `--key value` words, before anything is read. Raises ConfigError."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, description=schema.__doc__)
    names = [spec.name for spec in dataclasses.fields(schema)]
    words = hand_on(words, [name for name in names if name != "options"]) if schema is SearchConfig else words
    check_known([key for key in keys_of(words) if key != "help"], names, "option")
    for spec in dataclasses.fields(schema):
        parser.add_argument(f"--{spec.name}", type=spec.type, default=spec.default, help=describe(spec))
    try:
        given = parser.parse_args(words)
        preset = read_preset(given["preset"], names, given["task"]) if given.get("preset") else {}
        parser.set_defaults(preset)
        return schema(**vars(parser.parse_args(words)))
    except jsonargparse.ArgumentError as error:
        wrong = WRONG_TYPE.search(one_line(str(error)))
        if wrong is None:
            raise ConfigError(one_line(str(error))) from error
        article = "an" if wrong[2] == "int" else "a"
        raise ConfigError(f"{wrong[1]}={wrong[3]}: expected {article} {wrong[2]}.") from error


def hand_on(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """Options that are none of `names` become one, --options, for the verb that is searched."""
    parts: tuple[list[str], list[str]] = ([], [])
    chosen = parts[0]
    for word in words:
        chosen = parts[keys_of([word])[0] not in (*names, "help")] if word.startswith("--") else chosen
        chosen.append(word)
    known = [spec.name for verb in SEARCHED for spec in dataclasses.fields(VERBS[verb])]
    check_known(keys_of(parts[1]), [*names, *known], "option")
    return [*parts[0], f"--options={shlex.join(parts[1])}"]


def read_preset(name: str, names: Sequence[str], task: str) -> dict[str, Any]:
    """The options of a preset file. Its `task`, if it has one, says what it is for."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    known = sorted(file.stem for file in PRESETS.glob("*.yaml"))
    if not path.is_file():
        close = did_you_mean(name, known) or f" Expected one of {', '.join(known)}."
        raise ConfigError(f"preset={name}: no such preset.{close}")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file of options ({one_line(str(error))}).") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: expected `key: value` lines.")
    if options.pop("task", task) != task:
        raise ConfigError(f"preset={name}: made for another task than task={task}; choose a preset of this task.")
    check_known(list(options), names, f"option in {path.name}")
    return options


def launch(main: Callable[[C], Any], schema: type[C]) -> None:
    """Run an entry point: a user's mistake is one line on stderr and exit code 2; anything else keeps its traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("mlflow", "alembic", "httpx", "accelerate", "datasets", "transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        cfg = parse(schema)
        log.info("%s %s", schema.__name__, json.dumps(cfg.as_dict()))
        main(cfg)
    except UserError as error:
        sys.stderr.write(f"vlx: {one_line(str(error))}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:  # the run has said that it was stopped
        raise SystemExit(130) from None
