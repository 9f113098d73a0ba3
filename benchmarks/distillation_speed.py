"""What distillation costs, as ratios: both sides of a pair run in turn in one process, at equal numbers.

COMMAND   python benchmarks/distillation_speed.py [--repeats 7] [--threads 1]

Times are processor time, best against best, so that others on the machine count less; the spread of the pairs is shown.

A step: 16 examples, texts of 8 to 86 tokens and 20 to 50 regions of like total length, an Oscar teacher of 8 layers and
a student of 4. The original order of operations pads to 128 + 50, masks what a view may not see, copies the student
anew in each step, asks copy and student apart, and has AdamW loop over the weights; its attention is ours.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import PreTrainedModel
from vlx.training.batching import epoch_batches, joint_layout

from vlx.config import FinetuneConfig
from vlx.models.oscar import Oscar, OscarConfig
from vlx.models.student import layer_map, renamed, student_from
from vlx.objectives import cross_entropy, distillation, kd_loss
from vlx.objectives.distillation import VIEW_WEIGHTS, teach, views_apart
from vlx.objectives.supervised import logits_of
from vlx.training.loop import Trainer, optim_of, schedule_of
from vlx.training.optim import decay_groups, set_lr
from vlx.training.reptile import Reptile

BATCH, TEXT, REGIONS, DIM, ANSWERS, TOTAL = 16, 128, 50, 256, 100, 1000
ALPHA, TEMPERATURE, LR, META_LR, DECAY, CLIP = 0.5, 5.0, 1e-4, 5e-5, 0.01, 1.0
CFG = FinetuneConfig(lr=LR, steps=TOTAL, warmup_steps=0, weight_decay=DECAY, max_grad_norm=CLIP, precision="fp32")
Batch = dict[str, Tensor]
Step = Callable[[], object]


def batches_of() -> tuple[Batch, Batch]:
    """The same examples padded to 128 + 50, and as a length bucket of ours packs them."""
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    texts, regions = random.integers(8, 87, 1600), random.integers(20, 51, 1600)
    rows = epoch_batches(texts + regions, BATCH, seed=0, epoch=0)[0]
    text_lengths, region_lengths = torch.from_numpy(texts[rows]), torch.from_numpy(regions[rows])
    padded = {
        "input_ids": torch.randint(1, 1000, (BATCH, 1, TEXT), generator=generator),
        "text_mask": torch.arange(TEXT) < text_lengths[:, None, None],
        "regions": torch.rand(BATCH, 1, REGIONS, DIM, generator=generator),
        "boxes": torch.rand(BATCH, 1, REGIONS, 4, generator=generator),
        "region_mask": torch.arange(REGIONS) < region_lengths[:, None, None],
        "labels": torch.randint(0, ANSWERS, (BATCH,), generator=generator),
    }
    most = {"input_ids": int(text_lengths.max()), "regions": int(region_lengths.max())}
    most |= {"text_mask": most["input_ids"], "boxes": most["regions"], "region_mask": most["regions"]}
    cut = {name: x[:, :, : most[name]] if name in most else x for name, x in padded.items()}
    return padded, cut | {"layout": joint_layout(text_lengths, region_lengths, most["input_ids"])}


def models_of(dropout: float) -> tuple[Oscar, PreTrainedModel]:
    torch.manual_seed(0)
    teacher = Oscar(OscarConfig(
        vocab_size=1000, hidden_size=192, num_hidden_layers=8, num_attention_heads=6, intermediate_size=768,
        img_feature_dim=DIM + 6, num_labels=ANSWERS, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    ))  # fmt: skip
    return teacher, student_from(teacher, layers=4, init="skip", seed=0)


def ours(method: str, *, dropout: float = 0.0, moving: bool = False) -> Trainer:
    """The product's own loop; moving: with Reptile."""
    teacher, student = models_of(dropout)
    objective = distillation(method, teacher, cross_entropy, alpha=ALPHA, temperature=TEMPERATURE)
    hook = Reptile(
        teacher, student, objective, reptile_layers="skip", meta_lr=META_LR, inner_lr=LR, optim=optim_of(CFG),
        schedule=schedule_of(CFG, TOTAL), max_grad_norm=CLIP,
    )  # fmt: skip
    return Trainer(student, objective, CFG, total=TOTAL, hook=hook if moving else None)


class Original:
    """MKD + Reptile in the original's order of operations, with the teacher moving as it was meant to."""

    def __init__(self) -> None:
        self.teacher, self.student = models_of(0.0)
        self.teaching, self.learning = looping(self.teacher, META_LR), looping(self.student, LR)
        layers, weights = layer_map("skip", 4, 8), dict(self.teacher.named_parameters())
        names = [name for name, _ in self.student.named_parameters()]
        self.targets = {name: [weights[other] for other in renamed(name, layers)] for name in names}
        self.done = 0

    def step(self, batch: Batch) -> float:
        factor = (TOTAL - self.done) / TOTAL
        fast = copy.deepcopy(self.student).train()
        self.loss(fast, batch).backward()
        update(fast, looping(fast, LR), LR)
        for name, adapted in fast.named_parameters():
            for weight in self.targets[name]:
                weight.grad = weight.detach() - adapted.detach()
        update(self.teacher, self.teaching, META_LR * factor)
        loss = self.loss(self.student.train(), batch)
        loss.backward()
        update(self.student, self.learning, LR * factor)
        self.done += 1
        return float(loss.detach())

    def loss(self, student: nn.Module, batch: Batch) -> Tensor:
        views = masked_views(batch)
        logits = {name: logits_of(student, view) for name, view in views.items()}
        soft = {name: teach(self.teacher, view) for name, view in views.items()}
        kd = sum(weight * kd_loss(logits[name], soft[name], TEMPERATURE) for name, weight in VIEW_WEIGHTS.items())
        return (1 - ALPHA) * cross_entropy(logits["full"], batch) + ALPHA * kd


def masked_views(batch: Batch) -> dict[str, Batch]:
    """At full length, as the original has them."""
    text = batch | {"region_mask": torch.zeros_like(batch["region_mask"])}
    image = batch | {"text_mask": torch.zeros_like(batch["text_mask"])}
    return {"text": text, "image": image, "full": batch}


def looping(model: nn.Module, lr: float) -> AdamW:
    return AdamW(decay_groups(model.named_parameters(), DECAY), lr, foreach=False, fused=False)


def update(model: nn.Module, optimizer: AdamW, lr: float) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=False)
    set_lr(optimizer, lr)
    optimizer.step()
    optimizer.zero_grad()


def check_equal_numbers(padded: Batch, packed: Batch) -> None:
    """Three steps of both must agree in every loss. Raises RuntimeError."""
    theirs, mine = Original(), ours("mkd", moving=True)
    losses = [(theirs.step(padded), mine.step([packed])["loss"]) for _ in range(3)]
    apart = max(abs(one - other) / one for one, other in losses)
    print(f"losses of three steps, ours against the original's order: at most {apart:.1e} apart")
    if apart > 1e-4:
        raise RuntimeError(f"the two are not the same computation: {losses}")


def forwards(views: dict[str, Batch]) -> Step:
    """The student's three forwards of MKD."""
    student = models_of(0.0)[1].train()
    return lambda: [logits_of(student, view) for view in views.values()]


def steps(trainer: Trainer, batch: Batch) -> Step:
    return lambda: trainer.step([batch])


def ratio(name: str, slow: Step, fast: Step, *, repeats: int, least: float = 0.0, most: float = math.inf) -> None:
    """Print slow / fast, the least time of each in `repeats` pairs, the spread of the pairs, and what was wanted."""
    slow(), fast()
    pairs = [(seconds(slow), seconds(fast)) for _ in range(repeats)]
    ratios, (one, other) = [first / second for first, second in pairs], map(min, zip(*pairs, strict=True))
    best = one / other
    wanted = f"wanted >= {least:g}" if least else f"wanted <= {most:g}"
    verdict = "met" if least <= best <= most else "MISSED"
    print(f"{name:62s} x{best:.2f} [{min(ratios):.2f}..{max(ratios):.2f}]  {wanted}: {verdict}", flush=True)


def seconds(step: Step) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    padded, packed = batches_of()
    check_equal_numbers(padded, packed)
    compare = partial(ratio, repeats=options.repeats)
    own = forwards({"apart": views_apart(packed), "full": packed})
    compare("MKD's views on their own tokens against the whole bucket", forwards(masked_views(packed)), own, least=1.3)
    compare("MKD's views on their own tokens against 128 + 50", forwards(masked_views(padded)), own, least=1.3)
    vanilla = steps(ours("kd"), packed)
    cached = steps(ours("kd"), packed | {"taught": teach(models_of(0.0)[0], packed)})
    compare("KD of kept logits against asking the teacher", vanilla, cached, least=1.4)
    moving = steps(ours("mkd", moving=True), packed)
    compare("MKD + Reptile as a multiple of a KD step", moving, vanilla, most=4)
    apart = steps(ours("mkd", dropout=0.1, moving=True), packed), steps(ours("kd", dropout=0.1), packed)
    compare("the same with dropout .1, copy and student asked apart", *apart, most=4)
    original = Original()
    compare("MKD + Reptile against the original's order", lambda: original.step(padded), moving, least=3)


if __name__ == "__main__":
    main()
