"""A preset parses for the verb of its command, names splits that its format has, makes a model of published size."""

import dataclasses
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig, PreTrainedModel

from vlx import config, models, synthetic, tasks
from vlx.config import PRESETS, DistillConfig, FinetuneConfig, parse
from vlx.corpora.formats import FORMATS, lxmert, oscar, vilbert, vle
from vlx.errors import ConfigError
from vlx.models import Head, Sizes
from vlx.models.clip_vil import ClipVil, ClipVilConfig
from vlx.models.oscar import Oscar, OscarConfig
from vlx.models.student import student_from
from vlx.models.vilbert import Vilbert, VilbertConfig
from vlx.models.vle import DEBERTA_V3_BASE, Vle, VleConfig
from vlx.tokenization import WordPiece
from vlx.training import recipes
from vlx.training.batching import examples_of, open_data
from vlx.training.loop import schedule_of
from vlx.training.optim import Optim

PATHS = sorted(PRESETS.glob("*.yaml"))
TRAINED = [path for path in PATHS if not path.stem.endswith(("-evaluate", "-tiny"))]
every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
LABELS = {"oscar-gqa": 1853, "lxmert-gqa": 1842, "vilbert-gqa": 1533}  # answers; elsewhere 3,129
LAYER = 7_087_872  # of BERT
TOKENS = 20 * 768  # of tasks, in the 12-in-1 model; a new head goes without
Q_DENSE = 6 * (1024 * 1024 + 1024 + 768 * 1024 + 768)  # of ViLBERT's bridges, which nothing reads: not kept
WHOLE = {  # parameters that the originals' logs state; the student of retrieval is the teacher without six layers
    "oscar-vqa-finetune": 113_466_681, "oscar-vqa-distill": 70_939_449,
    "oscar-gqa-finetune": 112_485_437, "oscar-gqa-distill": 69_958_205,
    "oscar-nlvr2-finetune": 114_606_338, "oscar-nlvr2-distill": 72_079_106,
    "oscar-retrieval-finetune": 111_062_018, "oscar-retrieval-distill": 111_062_018 - 6 * LAYER,
    "clip_vil-stage-one-pretrain": 135_311_260, "clip_vil-stage-two-pretrain": 151_097_016,  # as used
    "lxmert-pretrain": 228_051_752, "lxmert-stage-two-pretrain": 228_051_752,
}  # fmt: skip
TRUNK = {"lxmert": 207_936_768, "vilbert": 246_742_016 - Q_DENSE}  # under the head; ViLBERT's with 20 task tokens
MILLIONS = {"clip_vil-vqa-finetune": 65.6, "vle-vqa-base-finetune": 385.7, "vle-vqa-large-finetune": 943.4}


def commands(path: Path) -> list[list[str]]:
    """The words of the commands at its head."""
    lines = [line[13:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return [shlex.split(line) for line in "\n".join(lines).replace("\\\n", "").splitlines() if "mlflow run" in line]


def verb_of(path: Path) -> str:
    return "pretrain" if path.stem.endswith("-tiny") else path.stem.rsplit("-", 1)[1]


def parsed(path: Path) -> config.Config:
    words = commands(path)[-1]
    given = [words[at + 1] for at, word in enumerate(words) if word == "-P"]
    return parse(config.VERBS[words[4]], [f"--{pair}" for pair in given])


@every
def test_its_commands_are_entry_points_with_their_options(path: Path) -> None:
    for words in commands(path):
        assert words[:4] == ["mlflow", "run", ".", "-e"]
        parse(config.VERBS[words[4]], [f"--{words[at + 1]}" for at, word in enumerate(words) if word == "-P"])
    assert words[4] == verb_of(path) and f"preset={path.stem}" in words


@every
def test_its_head_says_where_it_is_from(path: Path) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    found = [line[2:12].strip() for line in head if re.match("# [A-Z]{6,9}  ", line)]
    assert found == ["COMMAND", "SOURCE", "PUBLISHED", "HARDWARE"]


@every
def test_its_splits_are_the_formats(path: Path) -> None:
    cfg = parsed(path)
    assert cfg.format in FORMATS or (cfg.format, cfg.task) == ("", "nlvr2") or path.stem.endswith("-tiny")
    named = [getattr(cfg, name, "") for name in ("train_split", "val_split", "test_split", "split")]
    splits = {
        "lxmert": lxmert.SPLITS.get({"pretrain": "lxmert"}.get(cfg.task, cfg.task), ()),
        "vle": vle.SPLITS,
        "vilbert": vilbert.SPLITS,
    }
    splits |= {"clip": splits["lxmert"], "oscar": {*oscar.FILES.get(cfg.format, ()), "test_1k"}, "": oscar.NLVR2}
    assert {one for name in named if name for one in name.split(",")} <= {*splits[cfg.format.split("-")[0]]}


def size(part: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def task_of(path: Path, cfg: config.Config) -> tasks.Task:
    labels = LABELS.get("-".join(path.stem.replace("-12in1", "").split("-")[:2]), 3129)
    learnt = {name: getattr(cfg, name) for name in ("loss", "negatives") if hasattr(cfg, name)}
    return tasks.load(cfg.task, [str(label) for label in range(labels)], **learnt)


@lru_cache
def tuned_vilbert(head: Head, *, tokens: bool) -> PreTrainedModel:
    model = Vilbert(VilbertConfig(task_specific_tokens=tokens))
    assert size(model.bert) == TRUNK["vilbert"] - TOKENS * (not tokens)
    return models.with_new_head(model, "vilbert", head, seed=0)


def new(path: Path) -> PreTrainedModel:
    """Of a system that reads regions, as the preset describes it; ViLBERT's sizes are those of its weights."""
    cfg = parsed(path)
    if verb_of(path) == "pretrain":
        targets = {"answers": 9_500, "objects": 1_600, "attributes": 400, "features": 2_048, "regions": 1_601}
        kept = cfg.chosen() or targets
        heads = models.Targets(**{name: size for name, size in targets.items() if name in kept})
        sizes = sizes_of(cfg)._replace(vision_layers=cfg.stages(), vision_width=cfg.vision_width)
        start = tuned_vilbert(tasks.NLVR2.head, tokens=False) if cfg.model == "vilbert" else sizes
        return models.for_pretraining(cfg.model, heads, start, seed=0)
    head = task_of(path, cfg).head
    if cfg.model == "vilbert":
        return tuned_vilbert(head, tokens="12in1" in path.stem)
    return models.build(cfg.model, head, sizes_of(cfg), seed=0)


def sizes_of(cfg: config.ModelFields) -> Sizes:
    return Sizes(
        30522, 512, 2048, cfg.hidden_size, cfg.layers, cfg.region_layers, cfg.cross_layers, cfg.heads,
        cfg.intermediate_size, cfg.initializer_range, cfg.dropout, cfg.attention_dropout, cfg.classifier,
        cfg.classifier_scale,
    )  # fmt: skip


def pixel_model(path: Path) -> PreTrainedModel:
    """As published: RN50x4, and the sizes of VLE."""
    if path.stem.startswith("clip"):
        return ClipVil(ClipVilConfig(vision_layers=(4, 6, 10, 6), vision_width=80, heads=("answers",), num_labels=3129))
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    towers = {"text_config": DEBERTA_V3_BASE | large, "vision_config": large | {"patch_size": 14, "image_size": 384}}
    return Vle(
        VleConfig(num_labels=3129, **(towers | large | {"num_hidden_layers": 6} if "large" in path.stem else {}))
    )


def assert_sizes_of(cfg: FinetuneConfig, own: PretrainedConfig) -> None:
    """What the preset says of the model is what the weights it starts from have."""
    given = cfg.hidden_size, cfg.heads, cfg.intermediate_size
    assert given == (own.hidden_size, own.num_attention_heads, own.intermediate_size)
    stacks = {
        "vilbert": lambda: (own.num_hidden_layers, own.v_num_hidden_layers, len(own.v_biattention_id)),
        "lxmert": lambda: (own.num_hidden_layers, own.region_layers, own.cross_layers),
        "vle": lambda: (own.text_config.num_hidden_layers, own.vision_config.num_hidden_layers, own.num_hidden_layers),
    }
    other = lambda: (own.num_hidden_layers, cfg.region_layers, cfg.cross_layers)  # noqa: E731
    assert (cfg.layers, cfg.region_layers, cfg.cross_layers) == stacks.get(cfg.model, other)()


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_its_model_has_the_published_size(path: Path) -> None:
    cfg = parsed(path)
    with torch.device("meta"):
        if path.stem in MILLIONS:
            model = pixel_model(path)
            part = model.vle if cfg.model == "vle" else model.bert.encoder.visual_model
            assert round(size(part) / 1e6, 1) == MILLIONS[path.stem]
            assert_sizes_of(cfg, model.config)
        elif path.stem.endswith("-distill"):
            teacher = new(path.with_stem(path.stem.replace("-distill", "-finetune")))
            student = student_from(teacher, layers=cfg.student_layers, init=cfg.student_init, seed=0)
            assert size(student) == WHOLE[path.stem]
        else:
            model = new(path)
            trunk = TRUNK.get(cfg.model, size(model.bert)) - TOKENS * (cfg.model == "vilbert")
            assert size(model.bert) == trunk and model.num_parameters() == WHOLE.get(path.stem, model.num_parameters())
            assert_sizes_of(cfg, model.config)
            assert size(model) > trunk and {weight.device.type for weight in model.parameters()} == {"meta"}


def test_weights_of_another_task_get_the_head_that_the_preset_describes() -> None:
    cfg = parsed(PRESETS / "oscar-nlvr2-finetune.yaml")
    with torch.device("meta"):
        pretrained = Oscar(OscarConfig())
        options = {"classifier": cfg.classifier, "cls_hidden_scale": cfg.classifier_scale}
        model = models.with_new_head(pretrained, "oscar", tasks.load("nlvr2").head, seed=0, **options)
    assert model.num_parameters() == WHOLE["oscar-nlvr2-finetune"]


@pytest.mark.parametrize(
    "cfg",
    [parsed(PRESETS / "vle-vqa-base-finetune.yaml"), DistillConfig(model="clip_vil")],
    ids=lambda cfg: cfg.model,
)
def test_training_on_pixels_is_refused_in_one_line_where_it_is_not_there_yet(cfg: Any) -> None:
    with pytest.raises(ConfigError, match=r"^model=(clip_vil|vle): reads pixels; training it so comes later, expected"):
        recipes.corpus_of(cfg)


def test_splits_joined_by_commas_are_one_after_the_other(tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "made", size=20)
    test1, dev = (corpus.examples("nlvr2", name)["identifier"][:] for name in ("test1", "dev"))
    assert examples_of(corpus, "nlvr2", "test1,dev")["identifier"][:] == [*test1, *dev]
    cfg = FinetuneConfig(train_split="dev,test1", val_split="train", test_split="dev")
    words = WordPiece.train(corpus.examples("nlvr2", "dev")["text"], size=300)
    found = [(split.name, len(split)) for split in open_data(corpus, tasks.load("nlvr2"), words, cfg)]
    assert found == [("dev-test1", len(test1) + len(dev)), ("train", 20), ("dev", len(dev))]


def test_warm_up_is_a_number_of_steps_or_a_share_of_them() -> None:
    share = FinetuneConfig(warmup_steps=0, warmup_ratio=0.1)
    assert [schedule_of(share, 200).factor(step) for step in (0, 10, 20, 110, 200)] == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert schedule_of(FinetuneConfig(warmup_steps=7), 200).warmup == 7
    with pytest.raises(ConfigError, match=r"warmup_ratio=0.1: expected 0, or warmup_steps=0"):
        FinetuneConfig(warmup_ratio=0.1)


@pytest.mark.parametrize(("name", "moved"), [("bert_adam", 0.1 / 0.001**0.5), ("bert_adamw", 1.0)])
def test_the_first_step_with_and_without_correction_of_bias(name: str, moved: float) -> None:
    """g=2: m = 0.1 g = 0.2, v = 0.001 g^2 = 0.004; m / sqrt(v) = 0.1 / sqrt(0.001) = 3.162, corrected 1."""
    layer = torch.nn.Linear(1, 1, bias=False)
    before, optim = layer.weight.item(), Optim(name, weight_decay=0.0, eps=1e-12)
    optimizer = optim.build(layer.named_parameters(), 0.01)
    layer.weight.grad = torch.full((1, 1), 2.0)
    optimizer.step()
    assert before - layer.weight.item() == pytest.approx(0.01 * moved, rel=1e-4)


def test_the_readme_has_a_row_for_every_preset_and_task(root: Path) -> None:
    table = (root / "README.md").read_text(encoding="utf-8").partition("## Published settings")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")][
        1:
    ]
    found = dict[str, tuple[str, str]]()
    for shown, _, presets, command in rows:
        verb = shlex.split(command.strip("`"))[1]
        for task in re.findall(r"[\w+]+", shown.partition(" (")[0]):
            found |= {name.replace("TASK", task): (task, verb) for name in re.findall("`(.+?)`", presets)}
    known = {spec.name: spec for spec in dataclasses.fields(config.PretrainConfig)}["task"].metadata["choices"]
    assert found == {path.stem: (parsed(path).task, verb_of(path)) for path in PATHS}
    assert {task for row in rows for task in re.findall(r"[\w+]+", row[0].partition(" (")[0])} == set(known)
