"""What distillation costs, as ratios: slow and fast take turns in one process and compute equal numbers.

COMMAND   python benchmarks/distillation_speed.py [--repeats 7] [--threads 1]

Times are processor time, best against best, so that other processes on the machine count less; the spread of the pairs
is shown.

A step: 16 examples, texts of 8 to 86 tokens and 20 to 50 regions of similar total length, an Oscar teacher of 8 layers
and a student of 4. The original's order of operations (Oscar-ReptileDistil, oscar/run_*.py) pads to 128 + 50, masks the
tokens that a view leaves out, copies the student anew in each step, runs copy and student separately, and has AdamW
loop over the weights; its attention is that of vlx.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from vlx.config import FinetuneConfig
from vlx.inputs.packing import joint_packing
from vlx.inputs.sampler import epoch_batches
from vlx.models.oscar import Oscar, OscarConfig
from vlx.models.student import layer_map, student_from, teacher_names
from vlx.objectives import cross_entropy, distillation, kd_loss
from vlx.objectives.distillation import KD, MKD, VIEW_WEIGHTS, DistillationMethod, modality_views, teacher_forward
from vlx.objectives.supervised import logits_of
from vlx.training.loop import Trainer, optim_of, schedule_of
from vlx.training.optim import decay_groups, set_lr
from vlx.training.reptile import Reptile

BATCH = 16
TEXT = 128  # tokens to which the original pads
REGIONS = 50  # to which the original pads too
DIM = 256  # of a region's features
ANSWERS = 100
TOTAL = 1000  # steps of the learning-rate schedule
ALPHA = 0.5
TEMPERATURE = 5.0
LR = 1e-4
META_LR = 5e-5
DECAY = 0.01
CLIP = 1.0
CFG = FinetuneConfig(lr=LR, steps=TOTAL, warmup_steps=0, weight_decay=DECAY, max_grad_norm=CLIP, precision="fp32")
Batch = dict[str, Tensor]
Step = Callable[[], object]


def padded_and_packed() -> tuple[Batch, Batch]:
    """Return a batch padded to 128 + 50, and its examples as vlx packs a length bucket."""
    random = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    texts = random.integers(8, 87, 1600)
    regions = random.integers(20, 51, 1600)
    rows = epoch_batches(texts + regions, BATCH, seed=0, epoch=0)[0]
    text_lengths = torch.from_numpy(texts[rows])
    region_lengths = torch.from_numpy(regions[rows])
    padded = {
        "input_ids": torch.randint(1, 1000, (BATCH, 1, TEXT), generator=generator),
        "text_mask": torch.arange(TEXT) < text_lengths[:, None, None],
        "regions": torch.rand(BATCH, 1, REGIONS, DIM, generator=generator),
        "boxes": torch.rand(BATCH, 1, REGIONS, 4, generator=generator),
        "region_mask": torch.arange(REGIONS) < region_lengths[:, None, None],
        "labels": torch.randint(0, ANSWERS, (BATCH,), generator=generator),
    }
    tokens = int(text_lengths.max())
    packed = dict(padded)
    for name in ("input_ids", "text_mask"):
        packed[name] = padded[name][:, :, :tokens]
    for name in ("regions", "boxes", "region_mask"):
        packed[name] = padded[name][:, :, : int(region_lengths.max())]
    packed["packing"] = joint_packing(text_lengths, region_lengths, tokens)
    return padded, packed


def models_of(dropout: float) -> tuple[Oscar, PreTrainedModel]:
    torch.manual_seed(0)
    teacher = Oscar(OscarConfig(
        vocab_size=1000, hidden_size=192, num_hidden_layers=8, num_attention_heads=6, intermediate_size=768,
        img_feature_dim=DIM + 6, num_labels=ANSWERS, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    ))  # fmt: skip
    return teacher, student_from(teacher, layers=4, init="skip", seed=0)


def trainer_of(method: DistillationMethod, *, dropout: float = 0.0, reptile: bool = False) -> Trainer:
    """Return the training loop of vlx."""
    teacher, student = models_of(dropout)
    objective = distillation(method, teacher, cross_entropy, alpha=ALPHA, temperature=TEMPERATURE)
    hook = Reptile(
        teacher, student, objective, reptile_layers="skip", meta_lr=META_LR, inner_lr=LR, optim=optim_of(CFG),
        schedule=schedule_of(CFG, TOTAL), max_grad_norm=CLIP,
    )  # fmt: skip
    return Trainer(student, objective, CFG, total=TOTAL, hook=hook if reptile else None)


class Original:
    """MKD + Reptile in the original's order of operations, with a teacher that moves as the paper describes."""

    def __init__(self) -> None:
        self.teacher, self.student = models_of(0.0)
        self.teacher_optimizer = looping_adamw(self.teacher, META_LR)
        self.student_optimizer = looping_adamw(self.student, LR)
        layers = layer_map("skip", 4, 8)
        weights = dict(self.teacher.named_parameters())
        names = [name for name, _ in self.student.named_parameters()]
        self.targets = {name: [weights[target] for target in teacher_names(name, layers)] for name in names}
        self.steps_done = 0

    def step(self, batch: Batch) -> float:
        factor = (TOTAL - self.steps_done) / TOTAL
        adapted_student = copy.deepcopy(self.student).train()
        self.loss(adapted_student, batch).backward()
        update(adapted_student, looping_adamw(adapted_student, LR), LR)
        for name, adapted in adapted_student.named_parameters():
            for weight in self.targets[name]:
                weight.grad = weight.detach() - adapted.detach()
        update(self.teacher, self.teacher_optimizer, META_LR * factor)
        loss = self.loss(self.student.train(), batch)
        loss.backward()
        update(self.student, self.student_optimizer, LR * factor)
        self.steps_done += 1
        return float(loss.detach())

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        views = masked_views(batch)
        logits = {name: logits_of(student, view) for name, view in views.items()}
        teacher_logits = {name: teacher_forward(self.teacher, view) for name, view in views.items()}
        kd = sum(
            weight * kd_loss(logits[name], teacher_logits[name], TEMPERATURE) for name, weight in VIEW_WEIGHTS.items()
        )
        return (1 - ALPHA) * cross_entropy(logits["full"], batch) + ALPHA * kd


def masked_views(batch: Batch) -> dict[str, Batch]:
    """Return the views at full length, as in the original."""
    text = batch | {"region_mask": torch.zeros_like(batch["region_mask"])}
    image = batch | {"text_mask": torch.zeros_like(batch["text_mask"])}
    return {"text": text, "image": image, "full": batch}


def looping_adamw(model: nn.Module, lr: float) -> AdamW:
    return AdamW(decay_groups(model.named_parameters(), DECAY), lr, foreach=False, fused=False)


def update(model: nn.Module, optimizer: AdamW, lr: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=False)
    set_lr(optimizer, lr)
    optimizer.step()
    optimizer.zero_grad()


def check_equal_losses(padded: Batch, packed: Batch) -> None:
    """Compare the losses of three steps. Raises RuntimeError."""
    original = Original()
    trainer = trainer_of(MKD, reptile=True)
    losses = [(original.step(padded), trainer.step([packed])["loss"]) for _ in range(3)]
    difference = max(abs(expected - actual) / expected for expected, actual in losses)
    print(f"losses of three steps, vlx against the original's order: a relative difference of {difference:.1e} at most")
    if difference > 1e-4:
        raise RuntimeError(f"vlx and the original's order compute different losses: {losses}")


def forwards(views: dict[str, Batch]) -> Step:
    """Return the student's forward passes of MKD."""
    student = models_of(0.0)[1].train()
    return lambda: [logits_of(student, view) for view in views.values()]


def steps(trainer: Trainer, batch: Batch) -> Step:
    return lambda: trainer.step([batch])


def print_ratio(
    name: str, *, slow: Step, fast: Step, repeats: int, at_least: float = 0.0, at_most: float = math.inf
) -> None:
    """Print slow / fast, each the least time of `repeats` pairs, the spread of the pairs, and the goal."""
    slow()
    fast()
    pairs = [(seconds(slow), seconds(fast)) for _ in range(repeats)]
    ratios = [first / second for first, second in pairs]
    best = min(first for first, _ in pairs) / min(second for _, second in pairs)
    goal = f"goal >= {at_least:g}" if at_least else f"goal <= {at_most:g}"
    verdict = "met" if at_least <= best <= at_most else "MISSED"
    print(f"{name:62s} x{best:.2f} [{min(ratios):.2f}..{max(ratios):.2f}]  {goal}: {verdict}", flush=True)


def seconds(step: Step) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def compare_views(padded: Batch, packed: Batch, repeats: int) -> None:
    fast = forwards({"separate": modality_views(packed), "full": packed})
    for name, batch in (("the whole bucket", packed), ("128 + 50", padded)):
        title = f"MKD's views, each with its own tokens, against {name}"
        print_ratio(title, slow=forwards(masked_views(batch)), fast=fast, repeats=repeats, at_least=1.3)


def compare_steps(padded: Batch, packed: Batch, repeats: int) -> None:
    kd = steps(trainer_of(KD), packed)
    logits = teacher_forward(models_of(0.0)[0], packed)
    cached = steps(trainer_of(KD), packed | {"teacher_logits": logits})
    print_ratio("KD with cached logits against KD", slow=kd, fast=cached, repeats=repeats, at_least=1.4)
    reptile = steps(trainer_of(MKD, reptile=True), packed)
    print_ratio("MKD + Reptile as a multiple of a KD step", slow=reptile, fast=kd, repeats=repeats, at_most=4)
    reptile_dropout = steps(trainer_of(MKD, dropout=0.1, reptile=True), packed)
    kd_dropout = steps(trainer_of(KD, dropout=0.1), packed)
    title = "the same with dropout .1: separate passes of copy and student"
    print_ratio(title, slow=reptile_dropout, fast=kd_dropout, repeats=repeats, at_most=4)
    original = Original()
    title = "MKD + Reptile against the original's order"
    print_ratio(title, slow=lambda: original.step(padded), fast=reptile, repeats=repeats, at_least=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    padded, packed = padded_and_packed()
    check_equal_losses(padded, packed)
    compare_views(padded, packed, options.repeats)
    compare_steps(padded, packed, options.repeats)


if __name__ == "__main__":
    main()
