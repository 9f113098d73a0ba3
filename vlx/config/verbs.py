"""The options of each verb: one frozen, flat dataclass a verb."""

import dataclasses
import shlex
from dataclasses import dataclass
from typing import ClassVar

from vlx.config.base import TINY, Config, check_exclusive, check_known, keys_of, option
from vlx.config.groups import DataFields, ModelFields, PixelFields, PretrainFields, RunFields, TrainFields
from vlx.config.parse import parse
from vlx.errors import ConfigError
from vlx.registry import ARCHITECTURES, METHODS, TASKS, TRAINING, summaries

PRUNERS = ("auto", "asha", "hyperband", "median", "wilcoxon", "none")


def architectures(verb: str) -> tuple[str, ...]:
    """Return the names of the architectures that have a verb."""
    return tuple(name for name, entry in ARCHITECTURES.items() if verb in entry.verbs)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(DataFields):
    """Turn official files into a corpus."""

    SECTION: ClassVar[str] = "preparation"

    out: str = option("", "new folder for the corpus; empty = under work_dir")
    check: bool = option(False, "validate every example and image, and fail on errors that would spoil training")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out and not self.source:
            raise ConfigError(f"out={self.out}: expected source too, the folder of official files to prepare from.")
        if self.out and not self.format:
            raise ConfigError(f"out={self.out}: expected format too, the official format of source.")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainFields, PixelFields, ModelFields, DataFields):
    """Train one model on one task."""

    SECTION: ClassVar[str] = "fine-tuning"

    model: str = option("oscar", "architecture", choices=architectures("finetune"))
    weights: str = option("", "initial model, a folder or models:/name@alias; empty = random initialization")
    loss: str = option(
        "", "bce = binary cross-entropy of each answer, as in 12-in-1; empty = the task's default", choices=("", "bce")
    )
    itm_negatives: str = option(
        "one", "retrieval: negatives per pair; three, of which one is hard, as in 12-in-1", choices=("one", "three")
    )
    load_qa_head: bool = option(False, "initialize the answer head from the pre-trained one, by answer text")
    role: str = option("model", "part of the registered name vlx-<task>-<role>", choices=("model", "teacher"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exclusive(self, "weights", "text_weights")
        check_exclusive(self, "weights", "clip_weights")
        if self.load_qa_head and not self.weights:
            raise ConfigError("load_qa_head=True: expected weights too, a pre-trained model with an answer head.")


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(PretrainFields, TrainFields, PixelFields, ModelFields, DataFields):
    """Pre-train a model on pairs of images and texts."""

    model: str = option("lxmert", "architecture", choices=architectures("pretrain"))
    task: str = option("pretrain", "examples to pre-train on", choices=("pretrain", "captions", *TASKS))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exclusive(self, "weights", "clip_weights")
        if self.stop_epoch > self.epochs:
            raise ConfigError(f"stop_epoch={self.stop_epoch}: expected at most epochs={self.epochs}.")


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainFields, PixelFields, ModelFields, DataFields):
    """Distil a large teacher into a small student. The options of the model are the teacher's."""

    SECTION: ClassVar[str] = "distillation"

    model: str = option("oscar", "architecture", choices=architectures("distill"))
    steps: int = option(500, "optimizer steps of the student; 0 = count in epochs", low=0)
    warmup_steps: int = option(50, "steps of linear learning-rate warm-up", low=0)
    train_examples: int = option(400, "labeled examples of the student; the teacher trains on all; 0 = all", low=0)
    unlabeled: bool = option(False, "distil on the other training examples too, without their labels")
    teacher: str = option(
        "", "folder or models:/name@alias, several joined by commas; empty = train one, once per corpus"
    )
    teacher_steps: int = option(3_500, "optimizer steps of a teacher trained here", low=1)
    teacher_lr: float = option(5e-4, "peak learning rate of a teacher trained here", low=TINY)
    method: str = option("kd", summaries(METHODS), choices=tuple(METHODS))
    beta: float = option(
        0.0, "weight of the loss between layers; 0 = as published: 500 for pkd, 0.01 for tinybert", low=0
    )
    alpha: float = option(0.9, "weight of the distillation loss; the task loss has 1 - alpha", low=0, high=1)
    temperature: float = option(2.0, "softmax temperature of both distributions", low=TINY)
    cache_logits: bool = option(True, "store the logits of a fixed teacher under work_dir and reuse them each epoch")
    student_layers: int = option(2, "transformer layers of the student", low=1)
    student_hidden_size: int = option(0, "hidden size of the student; 0 = the teacher's", low=0)
    student_init: str = option(
        "first",
        "teacher layers copied to the student, mean = averaged; none = copy all other weights; random = copy nothing",
        choices=("first", "last", "skip", "mean", "none", "random"),
    )
    baseline: bool = option(True, "also train the same student without distillation, for comparison")
    reptile: bool = option(False, "update the teacher towards the adapted student (Reptile)")
    meta_lr: float = option(5e-5, "learning rate of the teacher's Reptile update", low=TINY)
    inner_lr: str = option(
        "constant",
        "Reptile's inner learning rate: lr, or as in the original lr times the first warm-up factor",
        choices=("constant", "original"),
    )
    reptile_layers: str = option(
        "skip", "teacher layers that a student layer updates in Reptile", choices=("first", "last", "skip", "mean")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_exclusive(self, "teacher", "clip_weights")
        if not self.teacher and self.student_layers > self.layers:
            limit = f"expected at most the teacher's layers={self.layers}."
            raise ConfigError(f"student_layers={self.student_layers}: {limit}")
        if self.student_hidden_size and (self.reptile or self.student_init != "random"):
            size = f"student_hidden_size={self.student_hidden_size}"
            raise ConfigError(f"{size}: expected student_init=random and no reptile: no weight fits another width.")
        if self.unlabeled and not self.train_examples:
            raise ConfigError("unlabeled=true: expected train_examples above 0, so that some examples are left.")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(RunFields):
    """Register an original checkpoint as a model version."""

    SECTION: ClassVar[str] = "checkpoint"

    model: str = option("lxmert", "architecture of the checkpoint", choices=architectures("import"))
    weights: str = option("", "original file or folder")
    task: str = option("", "task of a fine-tuned checkpoint; empty = a pre-trained one", choices=("", *TASKS))
    vocab: str = option("", "BERT's vocab.txt; empty = beside the weights (VLE has its own tokenizer)")
    answers: str = option("", "JSON file with the answer of every label, such as trainval_label2ans.json")
    detector: str = option("external", "name of the detector that made the regions")
    max_text_tokens: int = option(20, "text length in its training, [CLS] and [SEP] included", low=3)
    max_regions: int = option(36, "regions per image in its training", low=1)
    name: str = option("", "registered name; empty = vlx-<model>-original")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weights:
            raise ConfigError("weights: expected the original file or folder; give -P weights=PATH.")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DataFields):
    """Score a model on a split."""

    SECTION: ClassVar[str] = "evaluation"

    model: str = option("models:/vlx-nlvr2-student@champion", "folder, original checkpoint or models:/name@alias")
    split: str = option("", "split of the corpus; empty = the task's test split")
    candidates_only: bool = option(
        False, "retrieval: rank only the candidate captions that the split lists per image; false = all pairs"
    )


@dataclass(frozen=True, kw_only=True)
class PredictConfig(EvaluateConfig):
    """Answer one text, or write the submission file of a split."""

    SECTION: ClassVar[str] = "prediction"

    text: str = option("", "question, statement or expression to answer; empty = a whole split")
    images: str = option("", "images of the text: image ids of the corpus, joined by commas")
    features: str = option("", "or .npz files of regions, joined by commas: features [R,D], boxes [R,4] in 0..1")
    top_k: int = option(5, "number of answers to show", low=1)


@dataclass(frozen=True, kw_only=True)
class PromoteConfig(Config):
    """Move the alias champion to a better version."""

    SECTION: ClassVar[str] = "promotion"

    name: str = option("vlx-nlvr2-student", "registered model")
    version: str = option("", "version to promote; empty = the newest")
    metric: str = option("val/accuracy", "metric that must be higher than the champion's")
    margin: float = option(0.0, "required difference of the metric", low=0)
    rollback: bool = option(False, "give the alias back to the previous champion")


@dataclass(frozen=True, kw_only=True)
class SyncConfig(Config):
    """Send the runs that a tracking server missed."""

    SECTION: ClassVar[str] = "synchronization"

    folder: str = option("outputs", "folder of a run, or a folder above several")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """Search the options of a verb. Options of the verb may be given too; the search does not vary these."""

    SECTION: ClassVar[str] = "search"

    verb: str = option("distill", "verb whose options are searched", choices=TRAINING)
    space: str = option("", "name or path of a YAML file of ranges; empty = the verb's default space")
    trials: int = option(20, "number of trials; the first has the preset's or default options", low=1)
    sampler: str = option("tpe", "sampling algorithm", choices=("tpe", "gp", "cmaes", "random", "grid"))
    pruner: str = option("auto", "pruning algorithm; auto = asha, or wilcoxon for several seeds", choices=PRUNERS)
    seeds: int = option(1, "seeds per trial, whose mean is its score", low=1)
    second_objective: str = option("", "objective to minimize beside the score", choices=("", "latency", "parameters"))
    study: str = option("", "study name; an existing study is continued; empty = computed from the options")
    storage: str = option("", "database URL, or journal for a file; empty = sqlite under work_dir")
    workers: int = option(1, "processes on this machine; the same command on another machine joins the study", low=1)
    promote: bool = option(False, "retrain the best options with new seeds, register them, and promote if better")
    seed: int = option(0, "seed of the sampler, and first seed of the trials", low=0)
    work_dir: str = option("outputs", "folder of the study, corpora and checkpoints")
    description: str = option("", "text shown on the run's page in MLflow")
    options: str = option("", "options of the verb; computed from the command line")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pruner not in ("auto", "none") and (self.pruner == "wilcoxon") != (self.seeds > 1):
            raise ConfigError(f"pruner={self.pruner} and seeds={self.seeds}: wilcoxon is for several, others for one.")
        objective = f"second_objective={self.second_objective}"
        if self.second_objective and (self.pruner not in ("auto", "none") or self.sampler == "cmaes"):
            raise ConfigError(f"{objective}: with two objectives expected pruner=none and not sampler=cmaes.")
        if self.second_objective == "latency" and self.verb == "pretrain":
            raise ConfigError(f"{objective}: pretrain does not measure it; expected second_objective=parameters.")
        self.base()  # raises what is wrong with the verb's options

    def base(self) -> Config:
        """Return the verb's config, from which the search starts. Raises ConfigError."""
        shared = [f"--seed={self.seed}", f"--work_dir={self.work_dir}"]
        return parse(VERBS[self.verb], [*shlex.split(self.options), *shared])

    @classmethod
    def arrange(cls, arguments: list[str]) -> list[str]:
        """Return search's own arguments, and those of the verb as the one argument `--options=...`."""
        search_names = [spec.name for spec in dataclasses.fields(cls) if spec.name != "options"]
        verb_names = [spec.name for verb in TRAINING for spec in dataclasses.fields(VERBS[verb])]
        check_known([key for key in keys_of(arguments) if key != "help"], [*search_names, *verb_names], "option")
        search_arguments: list[str] = []
        verb_arguments: list[str] = []
        target = search_arguments
        for argument in arguments:
            if argument.startswith("--"):  # a value without -- goes with the option before it
                is_verb_option = keys_of([argument])[0] not in (*search_names, "help")
                target = verb_arguments if is_verb_option else search_arguments
            target.append(argument)
        return [*search_arguments, f"--options={shlex.join(verb_arguments)}"]


VERBS: dict[str, type[Config]] = {
    "prepare": PrepareConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "distill": DistillConfig,
    "import": ImportConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "promote": PromoteConfig,
    "search": SearchConfig,
    "sync": SyncConfig,
}
