"""The public API: what a notebook needs, with `import vlx` alone. Entry points are made of the same parts.

A model is a `Loaded`: the network, its tokenizer and its preprocessing.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from vlx import checkpoints, tasks, tracking, workspace
from vlx.checkpoints import Loaded
from vlx.config import Config, FinetuneConfig, ModelFields, PixelFields, TrainFields
from vlx.corpora import Corpus
from vlx.errors import ConfigError, TrainingError, did_you_mean
from vlx.evaluation.compare import validator
from vlx.evaluation.predict import predict
from vlx.inputs.dataset import TaskDataset, TaskDatasets, open_task_dataset
from vlx.models.student import student_from
from vlx.objectives import Objective
from vlx.recipes.build import check_task, initial_task_model
from vlx.recipes.corpus import fetch_corpus
from vlx.recipes.data import image_input
from vlx.recipes.distill import distillation_objective
from vlx.recipes.finetune import supervised_objective
from vlx.recipes.requirements import check_finetune, check_method, load_method, training_task
from vlx.tasks.base import Task
from vlx.training.distributed import training_device
from vlx.training.loop import Best
from vlx.training.loop import fit as fit_loop

ARCHITECTURE_OPTIONS = {spec.name for group in (ModelFields, PixelFields) for spec in dataclasses.fields(group)}
MODEL_OPTIONS = sorted(ARCHITECTURE_OPTIONS - {"model"} | {"load_qa_head", "seed", "weights"})
TRAINING_OPTIONS = (
    "accumulation", "adam_eps", "batch_size", "checkpoint_every", "eval_every", "log_every", "max_grad_norm",
    "optimizer", "patience", "precision", "schedule", "seed", "warmup_ratio", "warmup_steps", "weight_decay",
)  # fmt: skip

current_run: ContextVar[tracking.Run | None] = ContextVar("current_run", default=None)


def corpus(
    path: str | Path = "synthetic", *, task: str = "", source: str | Path = "", format: str = "", detector: str = "",
    size: int = 20_000, seed: int = 0, difficulty: str = "normal", work_dir: str | Path = "outputs",
) -> Corpus:  # fmt: skip
    """A corpus: synthetic, the folder of a prepared one, or prepared from the official files in `source`. It is kept
    under work_dir. task: that it must hold; size, seed, difficulty: of the synthetic corpus. Raises CorpusError."""
    return fetch_corpus(
        task, str(path), str(source), work_dir,
        format=format, detector=detector, size=size, seed=seed, difficulty=difficulty,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskOfCorpus:
    """A task with the answers of a corpus."""

    task: Task

    def datasets(
        self, corpus: Corpus, *, like: Loaded, train_examples: int = 0, limit: int = 0, num_images: int = 1_000
    ) -> TaskDatasets:
        """Training, validation and test split as the model `like` reads them, with its answers. train_examples, limit:
        maximum examples of training, of every split; num_images: of retrieval's validation and test; 0: all. Raises
        CheckpointError if the model is another task's."""
        check_task(like, self.task, corpus)
        preprocessing = like.preprocessing
        task = self.task.with_answers(preprocessing.answers or self.task.answers)

        def opened(name: str, task: Task, limit: int, *, num_images: int) -> TaskDataset:
            return open_task_dataset(
                corpus, task, name, like.wordpiece, image_input(preprocessing, corpus),
                max_text_tokens=preprocessing.max_text_tokens, object_tags=preprocessing.object_tags, limit=limit,
                num_images=num_images,
            )  # fmt: skip

        return TaskDatasets(
            opened(task.splits.train, training_task(like.spec, task), train_examples or limit, num_images=0),
            opened(task.splits.validation, task, limit, num_images=num_images),
            opened(task.splits.test, task, limit, num_images=num_images),
        )


def task(name: str, corpus: Corpus, *, loss: str = "", itm_negatives: str = "one") -> TaskOfCorpus:
    """A task of the registry. loss, itm_negatives: as the options of finetune. Raises ConfigError or CorpusError."""
    return TaskOfCorpus(tasks.load(name, corpus.answers(name), loss=loss, itm_negatives=itm_negatives))


def load(uri: str | Path) -> Loaded:
    """A model folder, an original Oscar folder, or models:/name@alias. Raises CheckpointError or RegistryError."""
    return checkpoints.load(uri)


def model(architecture: str, task: TaskOfCorpus, corpus: Corpus, **options: Any) -> Loaded:
    """A model to train. options: of MODEL_OPTIONS, such as layers, hidden_size, weights or seed, with the defaults of
    finetune. Raises ConfigError or CheckpointError."""
    check_names(options, MODEL_OPTIONS, function="model")
    cfg = FinetuneConfig(model=architecture, task=task.task.name, **options)
    check_finetune(cfg)
    return initial_task_model(cfg, task.task, corpus)


def student(teacher: Loaded, *, layers: int, init: str = "first", hidden_size: int = 0, seed: int = 0) -> Loaded:
    """A copy of the teacher with fewer layers (models.student.student_from). Raises ConfigError."""
    network = student_from(teacher.model, layers=layers, init=init, seed=seed, hidden_size=hidden_size)
    return dataclasses.replace(teacher, model=network, uri="")


def supervised(model: Loaded, task: TaskOfCorpus) -> Objective:
    """The task's loss on labels."""
    return supervised_objective(model.spec, task.task)


def distillation_method(name: str) -> Callable[..., Objective]:
    """The public function of a distillation method of the registry."""

    def objective(
        teacher: Loaded, task: TaskOfCorpus, *, alpha: float = 0.9, temperature: float = 2.0, beta: float = 0.0
    ) -> Objective:
        method = load_method(name)
        check_method(method, teacher.spec, task.task)
        network: Any = teacher.model
        network.to(training_device())
        return distillation_objective(
            method, teacher.spec, task.task, network, alpha=alpha, temperature=temperature, beta=beta
        )

    objective.__name__ = name
    objective.__doc__ = (
        f"The objective of method={name} with this teacher. alpha: weight of the teacher's loss; beta: "
        "weight of the loss between layers, 0 = the method's default. Raises ConfigError."
    )
    return objective


def fit(
    model: Loaded, objective: Objective, train: TaskDataset, validation: TaskDataset, *, steps: int, lr: float,
    **options: Any,
) -> Best:  # fmt: skip
    """Train in place and leave the weights of the best validation step. Inside `with vlx.run(...)`, one model a run,
    options and metrics are logged to MLflow and checkpoints are kept in the run's folder; else nothing is kept.

    options: of TRAINING_OPTIONS, with the defaults of finetune. Raises ConfigError or TrainingError.
    """
    check_names(options, TRAINING_OPTIONS, function="fit")
    defaults: dict[str, Any] = {"warmup_steps": min(100, steps // 10), "eval_every": max(1, min(250, steps // 4))}
    cfg = TrainFields(steps=steps, lr=lr, **(defaults | options))
    with training_run() as log:
        folder = log.folder / "training"
        if folder.exists():
            raise TrainingError(f"{folder}: a model was trained in this run; open another vlx.run for the next one.")
        log.log_options({name: getattr(cfg, name) for name in ("steps", "lr", *TRAINING_OPTIONS)})
        return fit_loop(
            model.model, objective, train, validator(validation), cfg, log,
            folder=folder, title="training", metric=validation.task.metric,
        )  # fmt: skip


def evaluate(model: Loaded, dataset: TaskDataset) -> dict[str, float]:
    """The task's official scores on a split; empty if its labels are not published."""
    if not dataset.task.is_labeled(dataset.examples):
        return {}
    scores = dataset.task.score(dataset.examples, predict(model.model, dataset))
    if (log := current_run.get()) is not None:
        log.log_metrics({f"{dataset.name}/{name}": value for name, value in scores.items()}, step=0)
    return scores


@contextmanager
def run(name: str, *, description: str = "", work_dir: str | Path = "outputs") -> Iterator[tracking.Run]:
    """A run of MLflow around the block; `fit` and `evaluate` log to it."""
    stem = f"notebook-{workspace.options_hash({'name': name})}"
    with (
        workspace.run_folder(Path(work_dir) / "runs", stem, resume=False) as folder,
        tracking.run(Config(), name=name, folder=folder, description=description) as tracked,
    ):
        token = current_run.set(tracked)
        try:
            yield tracked
        finally:
            current_run.reset(token)


@contextmanager
def training_run() -> Iterator[tracking.Run]:
    """The run around the block, or one that logs nothing, in a folder that is removed."""
    if (tracked := current_run.get()) is not None:
        yield tracked
        return
    with tempfile.TemporaryDirectory() as folder:
        yield cast(tracking.Run, tracking.UntrackedRun(Path(folder)))


def check_names(options: Mapping[str, Any], names: Sequence[str], *, function: str) -> None:
    """Raises ConfigError if an option is not one of the names."""
    for name in options:
        if name not in names:
            close = did_you_mean(name, names) or f" Expected some of {', '.join(names)}."
            raise ConfigError(f"{function}: no option {name}.{close}")
