"""The training loop: every stage, method and task runs through `fit`."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vlx import tracking
from vlx.batch import Batch
from vlx.config import TrainFields
from vlx.errors import TrainingError
from vlx.files import write_json
from vlx.objectives import Objective
from vlx.progress import meter
from vlx.training.data import TrainingData
from vlx.training.distributed import accelerator_for
from vlx.training.optim import Group, Optim, Schedule, build_optimizers
from vlx.training.reptile import Reptile
from vlx.training.state import Progress, load_checkpoint, save_checkpoint, save_weights

log = logging.getLogger("vlx")
Validate = Callable[[nn.Module], dict[str, float]]  # scores of the validation split, by metric
DONE = "done.json"  # of a finished stage: its best step and value


@dataclass(frozen=True)
class Best:
    """The step whose weights scored highest on the validation split, and that score."""

    value: float
    step: int


class Trainer:
    """Model, optimizers, hook and position. `step` makes one update from one global batch.

    groups: the parameter groups; empty for a single group of all weights, `model`.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, cfg: TrainFields, *, total: int, hook: Reptile | None = None,
        groups: Sequence[Group] = (),
    ) -> None:  # fmt: skip
        self.objective = objective
        self.cfg = cfg
        self.total = total
        self.hook = hook
        self.groups = groups or (single_group(cfg, total),)
        self.accelerator = accelerator_for(cfg.precision)
        self.modules = {"model": model}
        self.optimizers = build_optimizers(model, self.groups)
        self.model, *self.prepared = self.accelerator.prepare(model, *self.optimizers.values())
        if hook:
            self.modules["teacher"] = hook.teacher
            self.optimizers["teacher"] = hook.optimizer
        self.progress = Progress()

    def micro_batches(self, data: TrainingData, indices: list[int]) -> list[Batch]:
        """Return this process's share of a global batch, in at most `accumulation` parts, on the device."""
        share = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        parts = [share[start :: self.cfg.accumulation] for start in range(self.cfg.accumulation)]
        batches = []
        for part in parts:
            if part:
                batch = data.training_batch(part, seed=self.cfg.seed, epoch=self.progress.epoch)
                batches.append({name: tensor.to(self.accelerator.device) for name, tensor in batch.items()})
        return batches

    def step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Make one optimizer step. Returns the batch's mean losses and gradient norms. Raises TrainingError."""
        self.model.train()
        forward_model = self.model
        hook_metrics: dict[str, float] = {}
        if self.hook:
            forward_model, hook_metrics = self.hook.before_step(
                self.model, batches, step=self.progress.step, accelerator=self.accelerator
            )
        sums = self.backward(forward_model, batches)
        sums["grad_norm"] = self.accelerator.clip_grad_norm_(self.model.parameters(), self.cfg.max_grad_norm)
        metrics = dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True))
        self.update(metrics["loss"])
        return metrics | hook_metrics

    def backward(self, forward_model: nn.Module, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Accumulate gradients over micro-batches, weighted by their examples. Returns the mean losses."""
        examples = sum(len(batch["input_ids"]) for batch in batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            share = len(batch["input_ids"]) / examples
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    losses = self.objective(forward_model, batch)
                self.accelerator.backward(losses.total * share)
            for name, value in ({"loss": losses.total.detach()} | losses.parts).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value * share
        return sums

    def update(self, loss: float) -> None:
        """Step every optimizer. Raises TrainingError if the loss is not finite."""
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {self.progress.step + 1}; lower lr={self.cfg.lr:g}.")
        for group, optimizer in zip(self.groups, self.prepared, strict=True):
            group.set_lr(optimizer, self.progress.step)
            optimizer.step()
            optimizer.zero_grad()
        self.progress.step += 1

    def learning_rates(self) -> dict[str, float]:
        """Return every group's learning rate of the last step: `lr` of the group `model`, else `lr_GROUP`."""
        labels = {group.name: "lr" if group.name == "model" else f"lr_{group.name}" for group in self.groups}
        return {label: self.optimizers[name].param_groups[0]["lr"] for name, label in labels.items()}


class Throughput:
    """Examples a second since the last reading."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.examples = 0

    def count(self, batches: Sequence[Batch]) -> None:
        self.examples += sum(len(batch["input_ids"]) for batch in batches)

    def read(self) -> dict[str, float]:
        rate = self.examples / (time.monotonic() - self.started)
        self.started = time.monotonic()
        self.examples = 0
        return {"train/examples_per_second": rate}


@dataclass(frozen=True)
class Stage:
    """A trainer with its data, its run and the folder of its checkpoints."""

    trainer: Trainer
    train: TrainingData
    validate: Validate
    run: tracking.Run
    folder: Path
    title: str
    metric: str
    throughput: Throughput = field(default_factory=Throughput)

    def train_to_end(self) -> None:
        """Train from the trainer's position to the last step or to an early stop."""
        progress = self.trainer.progress
        with meter(self.title, self.trainer.total) as bar:
            bar.resume(progress.step)
            if progress.step:
                log.info("%s: continuing after step %d of %d.", self.title, progress.step, self.trainer.total)
            while progress.step < self.trainer.total:
                for indices in self.remaining_batches():
                    self.train_step(indices)
                    bar.advance(note=f"best {progress.best_value:.3f}" if progress.best_step >= 0 else "")
                    self.after_step()
                    if progress.step == self.trainer.total or early_stopping_reached(progress, self.trainer.cfg):
                        return
                progress.epoch += 1
                progress.batch = 0

    def remaining_batches(self) -> list[list[int]]:
        """Return the batches of this epoch that are not used yet."""
        cfg = self.trainer.cfg
        order = self.train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=self.trainer.progress.epoch)
        return order[self.trainer.progress.batch :]

    def train_step(self, indices: list[int]) -> None:
        batches = self.trainer.micro_batches(self.train, indices)
        metrics = self.trainer.step(batches)
        metrics["padding_share"] = padding_share(batches)
        self.trainer.progress.add(metrics)
        self.trainer.progress.batch += 1
        self.throughput.count(batches)

    def after_step(self) -> None:
        """Log, evaluate and save at their intervals, and log and evaluate after the last step."""
        cfg = self.trainer.cfg
        step = self.trainer.progress.step
        last = step == self.trainer.total
        if step % cfg.log_every == 0 or last:
            self.log_training()
        if step % cfg.eval_every == 0 or last:
            self.evaluate()
        if step % cfg.checkpoint_every == 0 and not last:
            self.save()
        self.run.stop_if_requested(self.save)

    def log_training(self) -> None:
        """Log the mean training metrics since the last call, learning rates and throughput."""
        progress = self.trainer.progress
        count = (progress.step - 1) % self.trainer.cfg.log_every + 1
        metrics = {f"train/{name}": value / count for name, value in progress.sums.items()}
        metrics |= {f"train/{name}": rate for name, rate in self.trainer.learning_rates().items()}
        self.run.log_metrics(metrics | self.throughput.read(), step=progress.step)
        progress.sums = {}

    def evaluate(self) -> None:
        """Score the validation split; save the weights if they are the best so far."""
        progress = self.trainer.progress
        scores = self.validate(self.trainer.model)
        self.run.log_metrics({f"val/{name}": value for name, value in scores.items()}, step=progress.step)
        if progress.best_step < 0 or scores[self.metric] > progress.best_value:
            progress.best_value = scores[self.metric]
            progress.best_step = progress.step
            save_weights(self.trainer.modules["model"], best_file(self.folder, progress.step))
        self.run.report(progress.best_value, step=progress.step, last=progress.step == self.trainer.total)

    def save(self) -> None:
        """Save a checkpoint. On a full disk training continues with the last good one."""
        trainer = self.trainer
        try:
            save_checkpoint(self.folder, trainer.progress, modules=trainer.modules, optimizers=trainer.optimizers)
        except OSError as error:
            log.warning("%s: no checkpoint at step %d (%s).", self.folder, trainer.progress.step, error)


def fit(
    model: nn.Module, objective: Objective, train: TrainingData, validate: Validate, cfg: TrainFields,
    run: tracking.Run, *, folder: Path, title: str, metric: str = "accuracy", hook: Reptile | None = None,
    groups: Sequence[Group] = (),
) -> Best:  # fmt: skip
    """Train `model` in place and leave it with its best weights; a hook's teacher ends with its last weights.

    folder: of the checkpoints. A later call with the same folder continues to the same bits, or returns at once if the
    stage is done. metric: the validation score that chooses the best step. groups: see Trainer.
    """
    if (folder / DONE).is_file():
        return restore_best(folder, model, hook=hook)
    trainer = Trainer(model, objective, cfg, total=total_steps(cfg, train), hook=hook, groups=groups)
    torch.manual_seed(cfg.seed + trainer.accelerator.process_index)  # dropout
    saved = load_checkpoint(folder, modules=trainer.modules, optimizers=trainer.optimizers)
    if saved:
        trainer.progress = saved
    Stage(trainer, train, validate, run, folder=folder, title=title, metric=metric).train_to_end()
    save_result(trainer, folder)
    return restore_best(folder, model, hook=hook)


def optim_of(cfg: TrainFields) -> Optim:
    return Optim(cfg.optimizer, cfg.weight_decay, cfg.adam_eps)


def schedule_of(cfg: TrainFields, total: int) -> Schedule:
    return Schedule(cfg.schedule, cfg.warmup_steps or round(cfg.warmup_ratio * total), total)


def single_group(cfg: TrainFields, total: int) -> Group:
    """Return the group of all weights."""
    return Group("model", optim_of(cfg), cfg.lr, schedule_of(cfg, total))


def total_steps(cfg: TrainFields, train: TrainingData) -> int:
    return cfg.steps or cfg.epochs * len(train.epoch_batches(cfg.batch_size, seed=cfg.seed, epoch=0))


def early_stopping_reached(progress: Progress, cfg: TrainFields) -> bool:
    """Whether `patience` evaluations have passed since the best one."""
    waited = progress.step - progress.best_step
    reached = bool(cfg.patience) and progress.best_step >= 0 and waited >= cfg.patience * cfg.eval_every
    if reached:
        log.info("stopped at step %d: best at step %d, none better since.", progress.step, progress.best_step)
    return reached


def save_result(trainer: Trainer, folder: Path) -> None:
    """Mark the stage as done; remove its checkpoints and all weights but the best."""
    if trainer.hook:
        save_weights(trainer.hook.teacher, folder / "teacher.safetensors")
    best = Best(trainer.progress.best_value, trainer.progress.best_step)
    write_json(folder / DONE, asdict(best))
    for checkpoint in folder.glob("step-*"):
        shutil.rmtree(checkpoint)
    for weights in folder.glob("best-*.safetensors"):
        if weights != best_file(folder, best.step):
            weights.unlink()


def restore_best(folder: Path, model: nn.Module, *, hook: Reptile | None) -> Best:
    best = Best(**json.loads((folder / DONE).read_text(encoding="utf-8")))
    model.load_state_dict(load_file(best_file(folder, best.step)))
    if hook:
        hook.teacher.load_state_dict(load_file(folder / "teacher.safetensors"))
    return best


def best_file(folder: Path, step: int) -> Path:
    return folder / f"best-{step:08d}.safetensors"


def padding_share(batches: Sequence[Batch]) -> float:
    """Return the share of positions that hold no token and no region; without a packing, of the tokens' positions."""
    masks = [batch["packing"] >= 0 if "packing" in batch else batch["text_mask"] for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)
