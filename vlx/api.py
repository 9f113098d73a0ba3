"""The public API: what a notebook needs, with `import vlx` alone. Entry points are made of the same parts.

A model is a `Loaded`: the network, its tokenizer and its preprocessing.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from vlx import checkpoints, tasks, tracking, workspace
from vlx.checkpoints import Loaded
from vlx.config import FinetuneConfig
from vlx.corpora import Corpus
from vlx.evaluation.compare import validator
from vlx.evaluation.predict import predict
from vlx.inputs.dataset import TaskDataset, TaskDatasets, open_task_dataset
from vlx.models.student import student_from
from vlx.objectives import Objective, distillation
from vlx.recipes.build import new_task_model
from vlx.recipes.corpus import fetch_corpus
from vlx.recipes.data import image_input
from vlx.recipes.finetune import supervised_objective
from vlx.recipes.requirements import check_task, load_method, method_needs, require, training_task
from vlx.tasks.base import Task
from vlx.training.loop import Best
from vlx.training.loop import fit as fit_loop

current_run: ContextVar[tracking.Run | None] = ContextVar("current_run", default=None)


def corpus(
    path: str = "synthetic", *, task: str = "", source: str = "", format: str = "", detector: str = "",
    size: int = 20_000, seed: int = 0, difficulty: str = "normal", work_dir: str | Path = "outputs",
) -> Corpus:  # fmt: skip
    """A corpus: synthetic, the folder of a prepared one, or prepared from the official files in `source`. It is kept
    under work_dir. task: that it must hold; size, seed, difficulty: of the synthetic corpus. Raises CorpusError."""
    return fetch_corpus(
        task, path, source, work_dir, format=format, detector=detector, size=size, seed=seed, difficulty=difficulty
    )


@dataclasses.dataclass(frozen=True)
class TaskOfCorpus:
    """A task with the answers of a corpus."""

    task: Task

    def datasets(
        self, corpus: Corpus, *, like: Loaded, train_examples: int = 0, limit: int = 0, num_images: int = 1_000
    ) -> TaskDatasets:
        """Training, validation and test split as the model `like` reads them. train_examples, limit: maximum examples
        of training, of every split; num_images: of retrieval's validation and test; 0: all."""
        preprocessing = like.preprocessing
        splits = self.task.splits

        def opened(name: str, task: Task, limit: int) -> TaskDataset:
            return open_task_dataset(
                corpus, task, name, like.wordpiece, image_input(preprocessing, corpus),
                max_text_tokens=preprocessing.max_text_tokens, object_tags=preprocessing.object_tags, limit=limit,
                num_images=num_images,
            )  # fmt: skip

        return TaskDatasets(
            opened(splits.train, training_task(like.spec, self.task), train_examples or limit),
            opened(splits.validation, self.task, limit),
            opened(splits.test, self.task, limit),
        )


def task(name: str, corpus: Corpus, *, loss: str = "", itm_negatives: str = "one") -> TaskOfCorpus:
    """A task of the registry. loss, itm_negatives: as the options of finetune. Raises ConfigError or CorpusError."""
    return TaskOfCorpus(tasks.load(name, corpus.answers(name), loss=loss, itm_negatives=itm_negatives))


def load(uri: str | Path) -> Loaded:
    """A model folder, an original Oscar folder, or models:/name@alias. Raises CheckpointError or RegistryError."""
    return checkpoints.load(uri)


def model(architecture: str, task: TaskOfCorpus, corpus: Corpus, **options: Any) -> Loaded:
    """A new model. options: those of finetune, such as layers, hidden_size or seed. Raises ConfigError."""
    cfg = FinetuneConfig(model=architecture, task=task.task.name, **options)
    loaded = new_task_model(cfg, task.task, corpus)
    check_task(task.task, loaded.spec, verb="finetune")
    return loaded


def student(teacher: Loaded, *, layers: int, init: str = "first", hidden_size: int = 0, seed: int = 0) -> Loaded:
    """A copy of the teacher with fewer layers (models.student.student_from). Raises ConfigError."""
    network = student_from(teacher.model, layers=layers, init=init, seed=seed, hidden_size=hidden_size)
    return dataclasses.replace(teacher, model=network, uri="")


def supervised(model: Loaded, task: TaskOfCorpus) -> Objective:
    """The task's loss on labels."""
    return supervised_objective(model.spec, task.task)


def distillation_method(name: str) -> Callable[..., Objective]:
    """The public function of a distillation method."""

    def objective(
        teacher: Loaded, task: TaskOfCorpus, *, alpha: float = 0.9, temperature: float = 2.0, beta: float = 0.0
    ) -> Objective:
        method = load_method(name)
        require(teacher.spec, method_needs(method), subject=f"method={name}", verb="distill")
        if teacher.spec.dual_encoder and method.contrastive:
            return method.contrastive(teacher.model, alpha=alpha, temperature=temperature)
        loss = task.task.loss
        return distillation(method, teacher.model, loss, alpha=alpha, temperature=temperature, beta=beta)

    objective.__name__ = name
    objective.__doc__ = (
        f"The objective of method={name} with this teacher. alpha: weight of the teacher's loss; beta: "
        "weight of the loss between layers, 0 = the method's default. Raises ConfigError."
    )
    return objective


kd = distillation_method("kd")
pkd = distillation_method("pkd")
tinybert = distillation_method("tinybert")
mkd = distillation_method("mkd")
embedding = distillation_method("embedding")


def fit(
    model: Loaded, objective: Objective, train: TaskDataset, validation: TaskDataset, *, steps: int, lr: float,
    folder: str | Path | None = None, **options: Any,
) -> Best:  # fmt: skip
    """Train in place and leave the weights of the best validation step. Inside `with vlx.run(...)` metrics are logged
    to MLflow and checkpoints are kept in the run's folder; else nothing is kept, unless a folder is given.

    options: further training options of finetune. Raises ConfigError or TrainingError.
    """
    defaults: dict[str, Any] = {"warmup_steps": min(100, steps // 10), "eval_every": max(1, min(250, steps // 4))}
    cfg = FinetuneConfig(model=model.spec.name, task=validation.task.name, steps=steps, lr=lr, **(defaults | options))
    run = current_run.get()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or (run.folder / "training" if run else temporary))
        log = run or cast(tracking.Run, tracking.UntrackedRun(place))
        return fit_loop(
            model.model, objective, train, validator(validation), cfg, log,
            folder=place, title="training", metric=validation.task.metric,
        )  # fmt: skip


def evaluate(model: Loaded, dataset: TaskDataset) -> dict[str, float]:
    """The task's official scores on a split."""
    scores = dataset.task.score(dataset.examples, predict(model.model, dataset))
    if (run := current_run.get()) is not None:
        run.log_metrics({f"{dataset.name}/{name}": value for name, value in scores.items()}, step=0)
    return scores


@contextmanager
def run(name: str, *, description: str = "", work_dir: str | Path = "outputs") -> Iterator[tracking.Run]:
    """A run of MLflow around the block; `fit` and `evaluate` log to it."""
    cfg = FinetuneConfig(description=description, work_dir=str(work_dir))
    stem = f"notebook-{workspace.options_hash({'name': name})}"
    with (
        workspace.run_folder(Path(work_dir) / "runs", stem, resume=False) as folder,
        tracking.run(cfg, name=name, folder=folder, description=description) as tracked,
    ):
        token = current_run.set(tracked)
        try:
            yield tracked
        finally:
            current_run.reset(token)
