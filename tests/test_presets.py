"""A preset parses for the verb of its command, names splits that its format has, makes a model of published size."""

import dataclasses
import re
import shlex
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import yaml
from transformers import PretrainedConfig, PreTrainedModel

from vlx import config, synthetic, tasks
from vlx.config import PRESETS, DistillConfig, FinetuneConfig, PretrainConfig, parse
from vlx.corpora.formats.annotations import lxmert, oscar, oscar_retrieval, vilbert, vle
from vlx.errors import ConfigError
from vlx.inputs.dataset import examples_of
from vlx.models.clip_vil import ClipVil, ClipVilConfig
from vlx.models.create import for_pretraining, new_model, with_new_head
from vlx.models.heads import Head, PretrainingSizes
from vlx.models.lxmert import LxmertConfig
from vlx.models.oscar import Oscar, OscarConfig
from vlx.models.spec import load_spec
from vlx.models.student import student_from
from vlx.models.vilbert import Vilbert, VilbertConfig
from vlx.models.vle import DEBERTA_V3_BASE, Vle, VleConfig
from vlx.recipes.build import task_preprocessing
from vlx.recipes.data import open_datasets
from vlx.registry import ARCHITECTURES, FORMATS, TRAINING
from vlx.tasks.base import Task
from vlx.tokenization import WordPiece
from vlx.training.loop import schedule_of
from vlx.training.optim import Optim

PATHS = sorted(PRESETS.glob("*.yaml"))
TRAINED = [path for path in PATHS if not path.stem.endswith(("-evaluate", "-tiny"))]
every = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
LABELS = {"oscar-gqa": 1853, "lxmert-gqa": 1842, "vilbert-gqa": 1533}  # answers; elsewhere 3,129
LAYER = 7_087_872  # of BERT
TOKENS = 20 * 768  # task tokens of the 12-in-1 model; a model with a new head has none
Q_DENSE = 6 * (1024 * 1024 + 1024 + 768 * 1024 + 768)  # unused weights of ViLBERT's co-attention, not in vlx
PARAMETERS = {  # as in the originals' logs; the student of retrieval is the teacher without six layers
    "oscar-vqa-finetune": 113_466_681, "oscar-vqa-distill": 70_939_449,
    "oscar-gqa-finetune": 112_485_437, "oscar-gqa-distill": 69_958_205,
    "oscar-nlvr2-finetune": 114_606_338, "oscar-nlvr2-distill": 72_079_106,
    "oscar-retrieval-finetune": 111_062_018, "oscar-retrieval-distill": 111_062_018 - 6 * LAYER,
    "clip_vil-stage-one-pretrain": 135_311_260, "clip_vil-stage-two-pretrain": 151_097_016,
    "lxmert-pretrain": 228_051_752, "lxmert-stage-two-pretrain": 228_051_752,
}  # fmt: skip
ENCODER = {"lxmert": 207_936_768, "vilbert": 246_742_016 - Q_DENSE}  # without head; ViLBERT's with 20 task tokens
MILLIONS = {"clip_vil-vqa-finetune": 65.6, "vle-vqa-base-finetune": 385.7, "vle-vqa-large-finetune": 943.4}


def settings(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(path: Path) -> list[list[str]]:
    """Return the words of each command in the header."""
    lines = [line[13:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return [shlex.split(line) for line in "\n".join(lines).replace("\\\n", "").splitlines() if "mlflow run" in line]


def verb_of(path: Path) -> str:
    return "pretrain" if path.stem.endswith("-tiny") else path.stem.rsplit("-", 1)[1]


def architecture_of(path: Path) -> str:
    return str(settings(path).get("model", "oscar"))


def can_train(path: Path) -> bool:
    """Whether vlx trains the architecture; published settings may be there before."""
    return verb_of(path) not in TRAINING or verb_of(path) in ARCHITECTURES[architecture_of(path)].verbs


def parse_command(words: list[str]) -> config.Config:
    options = [words[position + 1] for position, word in enumerate(words) if word == "-P"]
    return parse(config.VERBS[words[4]], [f"--{pair}" for pair in options])


def parsed(path: Path) -> config.Config:
    """The preset's config; with another architecture where vlx does not train the preset's."""
    if can_train(path):
        return parse_command(commands(path)[-1])
    return FinetuneConfig(**(settings(path) | {"model": "oscar"}))


@every
def test_its_commands_are_entry_points_with_their_options(path: Path) -> None:
    for words in commands(path):
        assert words[:4] == ["mlflow", "run", ".", "-e"]
        if can_train(path):
            parse_command(words)
        else:
            with pytest.raises(ConfigError, match=f"^{path.name}: model={architecture_of(path)}: expected one of"):
                parse_command(words)
    assert words[4] == verb_of(path) and f"preset={path.stem}" in words


@every
def test_its_header_names_command_source_result_and_hardware(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    titles = [line[2:12].strip() for line in header if re.match("# [A-Z]{6,9}  ", line)]
    assert titles == ["COMMAND", "SOURCE", "PUBLISHED", "HARDWARE"]


@every
def test_its_splits_are_the_formats(path: Path) -> None:
    cfg = parsed(path)
    assert cfg.format in FORMATS or (cfg.format, cfg.task) == ("", "nlvr2") or path.stem.endswith("-tiny")
    options = [getattr(cfg, name, "") for name in ("train_split", "val_split", "test_split", "split")]
    names = {name for option in options if option for name in option.split(",")}
    assert names <= set(splits_of(cfg.format, cfg.task))


def splits_of(format: str, task: str) -> tuple[str, ...]:
    """The splits of a format; empty: the default of nlvr2."""
    original = format.partition("-")[0]
    if original in ("lxmert", "clip"):
        files = {"vqa": lxmert.VQA_FILES, "gqa": lxmert.GQA_FILES, "nlvr2": lxmert.NLVR2_FILES}
        return files.get(task, lxmert.PRETRAIN_FILES).splits
    if original == "oscar":
        splits = {"vqa": oscar.VQA_YEARS, "gqa": oscar.GQA_SPLITS, "nlvr2": oscar.NLVR2_SPLITS}
        return (*splits.get(task, oscar_retrieval.SPLITS), "test_1k")
    return {"vle": (*vle.SPLITS,), "vilbert": vilbert.SPLITS, "": oscar.NLVR2_SPLITS}[original]


def size(part: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())


def task_of(path: Path, cfg: config.Config) -> Task:
    labels = LABELS.get("-".join(path.stem.replace("-12in1", "").split("-")[:2]), 3129)
    answers = [str(label) for label in range(labels)]
    if isinstance(cfg, FinetuneConfig):
        return tasks.load(cfg.task, answers, loss=cfg.loss, itm_negatives=cfg.itm_negatives)
    return tasks.load(cfg.task, answers)


@lru_cache
def tuned_vilbert(head: Head, *, tokens: bool) -> PreTrainedModel:
    model = Vilbert(VilbertConfig(task_specific_tokens=tokens))
    assert size(model.bert) == ENCODER["vilbert"] - TOKENS * (not tokens)
    return with_new_head(load_spec("vilbert"), model, head, seed=0)


def new(path: Path) -> PreTrainedModel:
    """The model that the preset describes; ViLBERT's sizes are those of its weights."""
    cfg = parsed(path)
    spec = load_spec(cfg.model)
    if isinstance(cfg, PretrainConfig):
        targets = {"qa": 9_500, "mrc_objects": 1_600, "mrc_attributes": 400, "mrfr": 2_048, "mrm": 1_601}
        names = cfg.objective_names() or targets
        sizes = PretrainingSizes(**{name: size for name, size in targets.items() if name in names})
        return for_pretraining(spec, sizes, pretraining_start(cfg), seed=0)
    head = task_of(path, cfg).head
    if architecture_of(path) == "vilbert":
        return tuned_vilbert(head, tokens="12in1" in path.stem)
    return published_size(cfg, head)


def pretraining_start(cfg: PretrainConfig) -> PreTrainedModel:
    if cfg.model == "vilbert":
        return tuned_vilbert(tasks.load("nlvr2").head, tokens=False)
    return published_size(cfg, Head("classify", 2))


def published_size(cfg: config.ModelFields, head: Head) -> PreTrainedModel:
    """With BERT's vocabulary and 512 positions; regions of 2048 features."""
    options = dataclasses.replace(cfg, max_text_tokens=512)
    return new_model(load_spec(cfg.model), head, options, vocab_size=30522, region_dim=2048, seed=0)


def pixel_model(path: Path) -> PreTrainedModel:
    """As published: RN50x4, and the sizes of VLE."""
    if path.stem.startswith("clip"):
        return ClipVil(ClipVilConfig(vision_layers=(4, 6, 10, 6), vision_width=80, heads=("qa",), num_labels=3129))
    if "large" not in path.stem:
        return Vle(VleConfig(num_labels=3129))
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    encoders = {"text_config": DEBERTA_V3_BASE | large, "vision_config": large | {"patch_size": 14, "image_size": 384}}
    return Vle(VleConfig(num_labels=3129, **(encoders | large | {"num_hidden_layers": 6})))


def stacks_of(sizes: PretrainedConfig) -> tuple[int, ...]:
    """The numbers of text, region and cross-modality layers, of those that the architecture has."""
    if sizes.model_type == VilbertConfig.model_type:
        return sizes.num_hidden_layers, sizes.v_num_hidden_layers, len(sizes.v_biattention_id)
    if sizes.model_type == LxmertConfig.model_type:
        return sizes.num_hidden_layers, sizes.region_layers, sizes.cross_layers
    if sizes.model_type == VleConfig.model_type:
        return sizes.text_config.num_hidden_layers, sizes.vision_config.num_hidden_layers, sizes.num_hidden_layers
    return (sizes.num_hidden_layers,)


def assert_same_sizes(cfg: config.ModelFields, sizes: PretrainedConfig) -> None:
    """The preset gives the sizes of the weights that it starts from."""
    assert (cfg.hidden_size, cfg.heads) == (sizes.hidden_size, sizes.num_attention_heads)
    assert cfg.intermediate_size == sizes.intermediate_size
    stacks = stacks_of(sizes)
    assert (cfg.layers, cfg.region_layers, cfg.cross_layers)[: len(stacks)] == stacks


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_its_model_has_the_published_size(path: Path) -> None:
    cfg = parsed(path)
    with torch.device("meta"):
        if path.stem in MILLIONS:
            model = pixel_model(path)
            part = model.bert.encoder.visual_model if isinstance(model, ClipVil) else model.vle
            assert round(size(part) / 1e6, 1) == MILLIONS[path.stem]
            assert_same_sizes(cfg, model.config)
        elif isinstance(cfg, DistillConfig):
            teacher = new(path.with_stem(path.stem.replace("-distill", "-finetune")))
            student = student_from(teacher, layers=cfg.student_layers, init=cfg.student_init, seed=0)
            assert size(student) == PARAMETERS[path.stem]
        else:
            model = new(path)
            encoder = ENCODER.get(cfg.model, size(model.bert)) - TOKENS * (cfg.model == "vilbert")
            assert size(model.bert) == encoder and model.num_parameters() == PARAMETERS.get(
                path.stem, model.num_parameters()
            )
            assert_same_sizes(cfg, model.config)
            assert size(model) > encoder and {weight.device.type for weight in model.parameters()} == {"meta"}


def test_weights_of_another_task_get_the_head_that_the_preset_describes() -> None:
    cfg = parsed(PRESETS / "oscar-nlvr2-finetune.yaml")
    with torch.device("meta"):
        pretrained = Oscar(OscarConfig())
        options = {"classifier": cfg.classifier, "cls_hidden_scale": cfg.classifier_scale}
        model = with_new_head(load_spec("oscar"), pretrained, tasks.load("nlvr2").head, seed=0, **options)
    assert model.num_parameters() == PARAMETERS["oscar-nlvr2-finetune"]


def test_splits_joined_by_commas_are_one_after_the_other(tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "made", size=20)
    test1, dev = (corpus.examples("nlvr2", name)["identifier"][:] for name in ("test1", "dev"))
    assert examples_of(corpus, "nlvr2", "test1,dev")["identifier"][:] == [*test1, *dev]
    cfg = FinetuneConfig(train_split="dev,test1", val_split="train", test_split="dev")
    tokenizer = WordPiece.train(corpus.examples("nlvr2", "dev")["text"], size=300)
    task = tasks.load("nlvr2")
    datasets = open_datasets(corpus, task, tokenizer, task_preprocessing(cfg, task, corpus), cfg)
    assert [(dataset.name, len(dataset)) for dataset in datasets] == [
        ("dev-test1", len(test1) + len(dev)),
        ("train", 20),
        ("dev", len(dev)),
    ]


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


def test_the_page_of_published_settings_has_a_row_for_every_preset_and_task(root: Path) -> None:
    page = (root / "docs" / "published.md").read_text(encoding="utf-8")
    table = page.partition("## Commands")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")][
        1:
    ]
    table_presets = dict[str, tuple[str, str]]()
    for cell, _, presets, command in rows:
        verb = shlex.split(command.strip("`"))[1]
        for task in re.findall(r"[\w+]+", cell.partition(" (")[0]):
            table_presets |= {name.replace("TASK", task): (task, verb) for name in re.findall("`(.+?)`", presets)}
    choices = {spec.name: spec for spec in dataclasses.fields(config.PretrainConfig)}["task"].metadata["choices"]
    assert table_presets == {path.stem: (parsed(path).task, verb_of(path)) for path in PATHS}
    assert {task for row in rows for task in re.findall(r"[\w+]+", row[0].partition(" (")[0])} == set(choices)
