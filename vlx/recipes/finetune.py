"""Fine-tuning: one model, one task, labels."""

from torch import nn

from vlx import tracking
from vlx.config import DistillConfig, FinetuneConfig
from vlx.corpora import Corpus
from vlx.evaluation.compare import Validate, validator
from vlx.inputs.dataset import TaskDatasets
from vlx.models.spec import ModelSpec, load_spec
from vlx.models.student import set_dropout
from vlx.objectives import Objective, contrastive, supervised
from vlx.recipes.build import initial_task_model, parameter_groups
from vlx.recipes.data import log_datasets, open_datasets
from vlx.recipes.publish import Result, publish_task_model
from vlx.tasks.base import Task
from vlx.training.loop import Best, fit
from vlx.training.reptile import Reptile


def finetune(cfg: FinetuneConfig, task: Task, corpus: Corpus, run: tracking.Run, *, title: str) -> Result:
    """Train on labels, then publish the best step."""
    loaded = initial_task_model(cfg, task, corpus)
    datasets = open_datasets(corpus, task, loaded.wordpiece, loaded.preprocessing, cfg)
    log_datasets(run, datasets)
    objective = supervised_objective(load_spec(cfg.model), task)
    best = train(loaded.model, objective, datasets, cfg, run, title=title)
    return publish_task_model(run, loaded, datasets, best, role=cfg.role, title=title)


def supervised_objective(spec: ModelSpec, task: Task) -> Objective:
    """The task's loss; of a dual encoder the contrastive loss."""
    return contrastive() if spec.dual_encoder else supervised(task.loss)


def train(
    model: nn.Module, objective: Objective, datasets: TaskDatasets, cfg: FinetuneConfig | DistillConfig,
    run: tracking.Run, *, title: str, hook: Reptile | None = None, validate: Validate | None = None,
) -> Best:  # fmt: skip
    """Train in the run's own folder; the validation split chooses the best step."""
    set_dropout(model, cfg.dropout, cfg.attention_dropout)
    return fit(
        model, objective, datasets.train, validate or validator(datasets.validation), cfg, run,
        folder=run.folder / "training", title=title, metric=datasets.validation.task.metric, hook=hook,
        groups=parameter_groups(cfg, datasets.train),
    )  # fmt: skip
