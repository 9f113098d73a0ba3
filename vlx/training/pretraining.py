"""The stages of pre-training: what is learnt from which corpus, from where, and what is told of it."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from rich.table import Table
from torch import nn

from vlx import checkpoints, models, tasks, tracking
from vlx.checkpoints import Loaded, LoadReport
from vlx.config import PretrainConfig
from vlx.corpora import Corpus
from vlx.corpora.pixels import canvas_of
from vlx.errors import ConfigError
from vlx.models import Targets
from vlx.models.student import set_dropout
from vlx.objectives import Objective
from vlx.objectives.stages import pretraining
from vlx.pretrain_options import PRETRAINING
from vlx.tokenization import WordPiece
from vlx.training.batching import examples_of, reads_tags
from vlx.training.evaluation import EVAL_BATCH
from vlx.training.loop import Validate, fit
from vlx.training.pair_pixels import Pixels
from vlx.training.pair_regions import Regions
from vlx.training.pairs import Hiding, Pairs, PictureSide, open_pairs
from vlx.training.pixel_training import canvases_of, from_clip, groups_of, told_of
from vlx.training.recipes import log_inputs, reading, sizes_of, take_answers
from vlx.training.results import Result, prefixed

METRIC = "negative_loss"  # of the best step, which has the lowest loss
LACKS = {"answers": "answers of questions", "objects": "objects_id", "attributes": "attrs_id"}
OWN_SPLITS = {  # of formats made for pre-training: to learn from, as far as they are there, and to validate on
    "pretrain": (("mscoco_train", "mscoco_nominival", "vgnococo"), "mscoco_minival"),
    "captions": (("train",), "val"),
}


def pretrain(cfg: PretrainConfig, corpus: Corpus, run: tracking.Run, *, title: str) -> Result:
    """One stage: learn, then publish the best weights."""
    names = objectives_of(cfg, corpus)
    start = start_from(cfg, corpus, names)
    train, validation, test = open_splits(cfg, corpus, start.words)
    log_inputs(run, (train, validation, test))
    objective = pretraining(
        cfg.model, names, weights=cfg.weighed(), visual_loss_mask=cfg.visual_loss_mask, visual_target=cfg.visual_target
    )
    validate, report = (validator(objective, names, cfg.weighed(), pairs) for pairs in (validation, test))
    set_dropout(start.model, cfg.dropout, cfg.attention_dropout)
    before = report(start.model) if run.publishes else {}
    run.log_metrics(prefixed("test", before), step=0)
    best = fit(
        start.model, objective, train, validate, until(cfg), run,
        folder=run.folder / "training", title=title, metric=METRIC, groups=groups_of(cfg, train),
    )  # fmt: skip
    size = start.model.num_parameters()
    run.log_metrics({"model/parameters": float(size)}, step=best.step)
    if not run.publishes:
        return Result(title, {}, best.value, size, 0.0, str(run.folder), run.id, "", None)
    after = report(start.model)
    run.log_metrics(prefixed("test", after), step=best.step)
    if "words" in names:
        rows, heading = guesses(start.model, test), f"{test.name}: the words that [MASK] hides"
        for name, content in tracking.prediction_files(test.name, heading, rows, corpus.image).items():
            run.log_text(content, name)
    show(names, before, after, title)
    return publish(run, start, title=title, scores=after, validation=best.value, step=best.step)


def objectives_of(cfg: PretrainConfig, corpus: Corpus) -> tuple[str, ...]:
    """Those asked for, or all for which the corpus has labels. Raises ConfigError if it lacks one that is asked for."""
    lacking = {name for name, field in LACKS.items() if name != "answers" and not corpus.classes(field)}
    lacking |= set() if corpus.answers(cfg.task) else {"answers"}
    if cfg.visual_target == 0 and not corpus.classes("class_probs") and "objects" in lacking:
        lacking.add("regions")
    for name in lacking & set(cfg.chosen()):
        raise ConfigError(f"objectives: {name}: {corpus.path} has no {LACKS.get(name, 'classes of regions')} to learn.")
    return tuple(name for name in PRETRAINING[cfg.model] if name in cfg.wanted() and name not in lacking)


def targets_of(cfg: PretrainConfig, corpus: Corpus, names: Sequence[str]) -> Targets:
    """The sizes of the heads."""
    sizes = {
        "answers": len(corpus.answers(cfg.task)),
        "objects": cfg.object_classes or corpus.classes("objects_id"),
        "attributes": cfg.attribute_classes or corpus.classes("attrs_id"),
        "features": corpus.region_dim,
        "regions": corpus.region_dim if cfg.visual_target else region_classes(cfg, corpus),
    }
    return Targets(**{name: size for name, size in sizes.items() if name in names})


def region_classes(cfg: PretrainConfig, corpus: Corpus) -> int:
    """ViLBERT's: the detector's and the background."""
    return corpus.classes("class_probs") or (cfg.object_classes or corpus.classes("objects_id")) + 1


def start_from(cfg: PretrainConfig, corpus: Corpus, names: Sequence[str]) -> Loaded:
    """A new model with its vocabulary, or the given one with the heads that this stage needs."""
    targets, stage = targets_of(cfg, corpus, names), 1
    fixed = {"fixed_t_layer": cfg.fixed_text_layers} if cfg.model == "vilbert" else {}
    if cfg.weights:
        given = reading(checkpoints.load(cfg.weights), corpus)
        if given.meta["system"] != cfg.model:
            raise ConfigError(f"weights={cfg.weights}: of {given.meta['system']}, expected model={cfg.model}.")
        stage = given.meta.get("stage", 0) + 1
        model = models.for_pretraining(cfg.model, targets, given.model, seed=cfg.seed, **fixed)
        if given.meta["task"] == checkpoints.PRETRAINED and given.meta["answers"] and targets.answers:
            take_answers(model, given.model, (given.meta["answers"], corpus.answers(cfg.task)))
        words, report = given.words, given.report
    elif cfg.clip:
        model, words, report = from_clip(cfg)
        model = models.for_pretraining(cfg.model, targets, model, seed=cfg.seed)
    else:
        words, report = vocabulary(cfg, corpus), LoadReport("from scratch")
        model = models.for_pretraining(cfg.model, targets, sizes_of(cfg, words, corpus), seed=cfg.seed, **fixed)
    return Loaded(model, words, meta_of(cfg, corpus, names, stage), report)


def meta_of(cfg: PretrainConfig, corpus: Corpus, names: Sequence[str], stage: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"system": cfg.model, "task": checkpoints.PRETRAINED, "num_images": 1, "stage": stage}
    meta |= {"answers": corpus.answers(cfg.task) if "answers" in names else [], "soft_targets": False}
    meta |= {"tags": reads_tags(cfg), "max_text_tokens": cfg.max_text_tokens, "max_regions": cfg.max_regions}
    meta |= {
        "detector": corpus.detector,
        "region_dim": corpus.region_dim,
        "data_fingerprint": corpus.fingerprint,
        **(told_of(cfg) if cfg.model in models.PIXELS else {}),
    }
    return meta | {"objectives": list(names)}


def splits_of(cfg: PretrainConfig, corpus: Corpus) -> tuple[str, str, str]:
    """To learn from, to choose the best step by, to report on: as published, or those of another task."""
    if cfg.task in OWN_SPLITS:
        learnt, held_out = OWN_SPLITS[cfg.task]
        train = ",".join(name for name in learnt if name in corpus.splits(cfg.task))
    else:
        train, held_out, _ = tasks.load(cfg.task, corpus.answers(cfg.task)).splits
    validation = cfg.val_split or held_out
    return cfg.train_split or train, validation, cfg.test_split or validation


def vocabulary(cfg: PretrainConfig, corpus: Corpus) -> WordPiece:
    """The given one, or one trained on the texts to learn from and the tags of their pictures."""
    if cfg.vocab:
        return WordPiece.load(Path(cfg.vocab))
    rows = examples_of(corpus, cfg.task, splits_of(cfg, corpus)[0])
    images = {image for found in rows["image_ids"] for image in found} if reads_tags(cfg) else set[str]()
    return WordPiece.train([*rows["text"], *(" ".join(corpus.tags(image)) for image in images)], size=cfg.vocab_size)


def open_splits(cfg: PretrainConfig, corpus: Corpus, words: WordPiece) -> tuple[Pairs, Pairs, Pairs]:
    """The splits to learn from, to validate and to report on."""
    learnt, held_out, told = splits_of(cfg, corpus)
    images = [image for found in examples_of(corpus, cfg.task, learnt)["image_ids"] for image in found]
    swapped = cfg.swapped if "matched" in cfg.wanted() else 0.0
    hiding = Hiding(cfg.word_mask, swapped, cfg.only_matched)
    side, whole = sides_of(cfg, corpus, list(dict.fromkeys(images)))

    def opened(name: str, side: PictureSide, examples: int, images: int) -> Pairs:
        return open_pairs(
            corpus, cfg.task, name, words, side, hiding,
            limit=cfg.max_text_tokens, tags=reads_tags(cfg), examples=examples, images=images,
        )  # fmt: skip

    return (
        opened(learnt, side, cfg.train_examples or cfg.limit, 0),
        opened(held_out, whole, cfg.limit, cfg.val_images),
        opened(told, whole, cfg.limit, cfg.test_images),
    )


def sides_of(cfg: PretrainConfig, corpus: Corpus, images: list[str]) -> tuple[PictureSide, PictureSide]:
    """How pictures are read to learn from, and to validate and report on. images: to learn from."""
    if cfg.model in models.PIXELS:
        canvas = canvas_of(vars(cfg))
        canvases = canvases_of(corpus, canvas)
        return Pixels(canvases, canvas.aspect_groups, cfg.kept_places), Pixels(canvases, canvas.aspect_groups)
    side = Regions(
        corpus, cfg.model, images, cfg.max_regions, share=cfg.region_mask,
        visual_target=cfg.visual_target, classes=region_classes(cfg, corpus), negatives=cfg.negatives,
    )  # fmt: skip
    return side, side


def until(cfg: PretrainConfig) -> PretrainConfig:
    """As long as the stage is to last: its schedule may be of more epochs."""
    return dataclasses.replace(cfg, epochs=cfg.stop_epoch) if cfg.stop_epoch else cfg


def validator(objective: Objective, names: Sequence[str], weights: dict[str, float], pairs: Pairs) -> Validate:
    """What the loop calls: each loss and accuracy over the split, of the same masks every time."""

    @torch.no_grad()
    def validate(model: nn.Module) -> dict[str, float]:
        model.eval()
        state, device = PartialState(), next(model.parameters()).device
        sums, counts = defaultdict[str, float](float), defaultdict[str, float](float)
        for indices in pairs.ordered_batches(EVAL_BATCH)[state.process_index :: state.num_processes]:
            losses = objective(model, {name: x.to(device) for name, x in pairs.fixed_batch(indices).items()})
            for name, count in losses.counts.items():
                sums[name] += float(losses.parts[name] * count)
                counts[name] += float(count)
        found = gather_object([(sums, counts)]) if state.num_processes > 1 else [(sums, counts)]
        means = {name: sum(s[name] for s, _ in found) / max(sum(c[name] for _, c in found), 1) for name in sums}
        loss = sum(weights.get(name, 1.0) * means[name] for name in names)
        more = {"perplexity": math.exp(min(means["words"], 100.0))} if "words" in names else {}
        return means | more | {"loss": loss, METRIC: -loss}

    return validate


@torch.no_grad()
def guesses(model: nn.Module, pairs: Pairs) -> dict[str, list[Any]]:
    """A row a text of which words are hidden, for the page and the table of predictions."""
    model.eval()
    device, words = next(model.parameters()).device, pairs.tokenizer.words
    rows = defaultdict[str, list[Any]](list)
    for indices in pairs.ordered_batches(EVAL_BATCH):
        batch = {name: x.to(device) for name, x in pairs.fixed_batch(indices).items()}
        probabilities = model(batch, heads=("words",)).scores["words"].float().softmax(-1)
        owner, best = batch["word_places"] // batch["input_ids"].shape[1], probabilities.max(-1)
        for place, index in enumerate(indices):
            own, row = owner == place, pairs.texts[index]
            if own.any():
                label = batch["word_labels"][place]
                hidden, found = words(label[label >= 0].tolist()), words(best.indices[own].tolist())
                text = " ".join(words(batch["input_ids"][place][batch["text_mask"][place]].tolist()))
                told: dict[str, Any] = {
                    "identifier": row.identifier,
                    "text": text,
                    "category": "",
                    "image_ids": [row.image_id],
                }
                told |= {"label": " ".join(hidden), "prediction": " ".join(found), "right": hidden == found}
                for name, value in (told | {"score": round(float(best.values[own].mean()), 4)}).items():
                    rows[name].append(value)
    return dict(rows)


def publish(
    run: tracking.Run, learner: Loaded, *, title: str, scores: dict[str, float], validation: float, step: int
) -> Result:
    """Log the model with its card and register it as vlx-pretrained-<system>, its stage among the tags."""
    meta, size = learner.meta, learner.model.num_parameters()
    if meta["system"] == "vilbert":
        learner.model.config.fixed_t_layer = 0  # of this stage alone
    folder = checkpoints.save(run.folder / "model", learner.model, learner.tokenizer, meta)
    facts = {
        **{"task": meta["task"], "system": meta["system"], "role": "pretrained", "stage": meta["stage"]},
        **{"objectives": ",".join(meta["objectives"]), "data_fingerprint": meta["data_fingerprint"]},
        f"val/{METRIC}": f"{validation:.6f}",
        **{f"test/{name}": f"{value:.6f}" for name, value in scores.items()},
    }
    run.set_tags({f"vlx.{name}": value for name, value in facts.items()})
    run.log_text(tracking.model_card(title, facts), "model_card.md")
    run.log_model(folder, name="pretrained", task=meta["task"], metrics=prefixed("test", scores), step=step)
    name = f"vlx-pretrained-{meta['system'].replace('_', '-')}"
    version = run.register(name, tags=facts)
    return Result(title, scores, validation, size, 0.0, str(folder), run.id, name, version)


def show(names: Sequence[str], before: dict[str, float], after: dict[str, float], title: str) -> None:
    """The table of every loss and accuracy, before this stage and at its best step."""
    table = Table("", "before", "best step", title=title)
    for name in (*names, *(f"{name}_accuracy" for name in names)):
        if name in after:
            table.add_row(name, f"{before[name]:.3f}", f"{after[name]:.3f}")
    Console().print(table)
