"""The one training loop. Every stage, method and task runs through `fit`."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlx import tracking
from vlx.config import TrainFields
from vlx.errors import TrainingError
from vlx.files import write_json
from vlx.objectives import Objective
from vlx.progress import meter
from vlx.training.batching import TrainingData
from vlx.training.device import accelerator_for
from vlx.training.optim import Group, Optim, Schedule, optimizers_of
from vlx.training.reptile import Reptile
from vlx.training.state import Progress, load_checkpoint, save_checkpoint, save_weights

log = logging.getLogger("vlx")
Batch = dict[str, Tensor]
Validate = Callable[[nn.Module], dict[str, float]]  # must hold the metric by which the best step is chosen


@dataclass(frozen=True)
class Best:
    """The step whose weights scored highest on the validation split, and that score."""

    value: float
    step: int


class Trainer:
    """Model, optimizer, hook and position. `step` makes one update from one global batch."""

    def __init__(
        self, model: nn.Module, objective: Objective, cfg: TrainFields, *, total: int, hook: Reptile | None = None,
        groups: Sequence[Group] = (),
    ) -> None:  # fmt: skip
        """groups: of the weights; without any, all of them are one, `model`."""
        self.accelerator = accelerator_for(cfg.precision)
        self.groups = groups or (whole(cfg, total),)
        self.modules, self.optimizers = {"model": model}, optimizers_of(model, self.groups)
        self.model, *self.prepared = self.accelerator.prepare(model, *self.optimizers.values())
        self.objective, self.cfg, self.total, self.hook = objective, cfg, total, hook
        if hook:
            self.modules["teacher"], self.optimizers["teacher"] = hook.teacher, hook.optimizer
        self.progress = Progress()

    def micro_batches(self, data: TrainingData, indices: list[int]) -> list[Batch]:
        """This process's share of a global batch, in at most `accumulation` parts, on the device."""
        mine = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        parts = [part for part in (mine[j :: self.cfg.accumulation] for j in range(self.cfg.accumulation)) if part]
        batches = (data.training_batch(part, seed=self.cfg.seed, epoch=self.progress.epoch) for part in parts)
        return [{name: x.to(self.accelerator.device) for name, x in batch.items()} for batch in batches]

    def step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step. Returns the batch's mean losses and norms. Raises TrainingError."""
        self.model.train()
        asked, moved = self.model, dict[str, float]()
        if self.hook:
            asked, moved = self.hook.before_step(self.model, batches, self.progress.step, self.accelerator)
        examples = sum(len(batch["input_ids"]) for batch in batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            share = len(batch["input_ids"]) / examples
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    losses = self.objective(asked, batch)
                self.accelerator.backward(losses.total * share)
            for name, value in ({"loss": losses.total.detach()} | losses.parts).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * share
        sums["grad_norm"] = self.accelerator.clip_grad_norm_(self.model.parameters(), self.cfg.max_grad_norm)
        metrics = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)) | moved
        self.update(metrics["loss"])
        return metrics

    def update(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {self.progress.step + 1}; lower lr={self.cfg.lr:g}.")
        for group, optimizer in zip(self.groups, self.prepared, strict=True):
            group.set_lr(optimizer, self.progress.step)
            optimizer.step()
            optimizer.zero_grad()
        self.progress.step += 1

    def rates(self) -> dict[str, float]:
        """The learning rate of every group in the last step."""
        names = {group.name: "lr" if group.name == "model" else f"lr_{group.name}" for group in self.groups}
        return {label: self.optimizers[name].param_groups[0]["lr"] for name, label in names.items()}

    def add(self, metrics: dict[str, float]) -> None:
        sums = self.progress.sums
        self.progress.sums = {name: sums.get(name, 0.0) + value for name, value in metrics.items()}


def fit(
    model: nn.Module, objective: Objective, train: TrainingData, validate: Validate, cfg: TrainFields,
    run: tracking.Run, *, folder: Path, title: str, metric: str = "accuracy", hook: Reptile | None = None,
    groups: Sequence[Group] = (),
) -> Best:  # fmt: skip
    """Train `model` in place and leave it with its best weights; a hook's teacher keeps its last.

    `folder` holds the checkpoints: the same folder again continues to the same bits, and returns at once when done.
    """
    if (folder / "done.json").is_file():
        return restore_best(folder, model, hook)
    trainer = Trainer(model, objective, cfg, total=total_steps(cfg, train), hook=hook, groups=groups)
    torch.manual_seed(cfg.seed + trainer.accelerator.process_index)  # dropout
    trainer.progress = load_checkpoint(folder, trainer.modules, trainer.optimizers) or trainer.progress
    train_to_end(trainer, train, validate, run, folder=folder, title=title, metric=metric)
    save_result(trainer, folder)
    return restore_best(folder, model, hook)


def optim_of(cfg: TrainFields) -> Optim:
    return Optim(cfg.optimizer, cfg.weight_decay, cfg.adam_eps)


def schedule_of(cfg: TrainFields, total: int) -> Schedule:
    return Schedule(cfg.schedule, cfg.warmup_steps or round(cfg.warmup_ratio * total), total)


def whole(cfg: TrainFields, total: int) -> Group:
    """All weights."""
    return Group("model", optim_of(cfg), cfg.lr, schedule_of(cfg, total))


def total_steps(cfg: TrainFields, train: TrainingData) -> int:
    return cfg.steps or cfg.epochs * len(train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=0))


def train_to_end(
    trainer: Trainer,
    train: TrainingData,
    validate: Validate,
    run: tracking.Run,
    *,
    folder: Path,
    title: str,
    metric: str,
) -> None:
    progress, cfg = trainer.progress, trainer.cfg
    speed = Speed()
    with meter(title, trainer.total) as bar:
        bar.resume(progress.step)
        if progress.step:
            log.info("%s: continuing after step %d of %d.", title, progress.step, trainer.total)
        while progress.step < trainer.total:
            order = train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=progress.epoch)
            for indices in order[progress.batch :]:
                batches = trainer.micro_batches(train, indices)
                trainer.add(trainer.step(batches) | {"padding_share": padding_share(batches)})
                speed.count(batches)
                progress.batch += 1
                bar.advance(note=f"best {progress.best_value:.3f}" if progress.best_step >= 0 else "")
                after_step(trainer, validate, run, speed, folder, metric)
                if progress.step == trainer.total or gave_up(progress, cfg):
                    return
            progress.epoch, progress.batch = progress.epoch + 1, 0


def gave_up(progress: Progress, cfg: TrainFields) -> bool:
    """Whether `patience` evaluations have passed since the best one."""
    waited = progress.step - progress.best_step
    over = bool(cfg.patience) and progress.best_step >= 0 and waited >= cfg.patience * cfg.eval_every
    if over:
        log.info("stopped at step %d: best at step %d, none better since.", progress.step, progress.best_step)
    return over


def after_step(
    trainer: Trainer, validate: Validate, run: tracking.Run, speed: "Speed", folder: Path, metric: str
) -> None:
    """Log, evaluate and save where the step number asks for it."""
    progress, cfg = trainer.progress, trainer.cfg
    step, last = progress.step, progress.step == trainer.total
    if step % cfg.log_every == 0 or last:
        count = (step - 1) % cfg.log_every + 1
        means = {f"train/{name}": value / count for name, value in progress.sums.items()}
        rates = {f"train/{name}": rate for name, rate in trainer.rates().items()}
        run.log_metrics(means | rates | speed.read(), step=step)
        progress.sums = {}
    if step % cfg.eval_every == 0 or last:
        scores = validate(trainer.model)
        run.log_metrics({f"val/{name}": value for name, value in scores.items()}, step=step)
        if progress.best_step < 0 or scores[metric] > progress.best_value:
            progress.best_value, progress.best_step = scores[metric], step
            save_weights(trainer.modules["model"], best_file(folder, step))
        run.report(progress.best_value, step=step, last=last)
    save = lambda: checkpoint(trainer, folder)  # noqa: E731
    if step % cfg.checkpoint_every == 0 and not last:
        save()
    run.stop_if_asked(save)


def checkpoint(trainer: Trainer, folder: Path) -> None:
    """A full disk does not stop training: it goes on with the last good checkpoint."""
    try:
        save_checkpoint(folder, trainer.progress, trainer.modules, trainer.optimizers)
    except OSError as error:
        log.warning("%s: no checkpoint at step %d (%s).", folder, trainer.progress.step, error)


def save_result(trainer: Trainer, folder: Path) -> None:
    """Mark the stage as done; its checkpoints are no longer needed, its best weights are."""
    if trainer.hook:
        save_weights(trainer.hook.teacher, folder / "teacher.safetensors")
    best = Best(trainer.progress.best_value, trainer.progress.best_step)
    write_json(folder / "done.json", asdict(best))
    for old in [*folder.glob("step-*"), *folder.glob("best-*.safetensors")]:
        if old != best_file(folder, best.step):
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def restore_best(folder: Path, model: nn.Module, hook: Reptile | None) -> Best:
    best = Best(**json.loads((folder / "done.json").read_text(encoding="utf-8")))
    model.load_state_dict(load_file(best_file(folder, best.step)))
    if hook:
        hook.teacher.load_state_dict(load_file(folder / "teacher.safetensors"))
    return best


def best_file(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}.safetensors"


def padding_share(batches: Sequence[Batch]) -> float:
    """The share of places that hold no token and no region; without a layout, of those of tokens."""
    seen = [batch["layout"] >= 0 if "layout" in batch else batch["text_mask"] for batch in batches]
    return 1 - sum(int(places.sum()) for places in seen) / sum(places.numel() for places in seen)


class Speed:
    """Examples a second since the last reading."""

    def __init__(self) -> None:
        self.started, self.examples = time.monotonic(), 0

    def count(self, batches: Sequence[Batch]) -> None:
        self.examples += sum(len(batch["input_ids"]) for batch in batches)

    def read(self) -> dict[str, float]:
        rate = self.examples / (time.monotonic() - self.started)
        self.started, self.examples = time.monotonic(), 0
        return {"train/examples_per_second": rate}
