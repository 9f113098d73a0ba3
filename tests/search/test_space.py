"""The search space, and the options of a search."""

from pathlib import Path

import pytest

from vlx.config import VERBS, DistillConfig, SearchConfig, parse
from vlx.errors import ConfigError
from vlx.registry import TRAINING
from vlx.search.space import Dimension, read_space


def space_of(tmp_path: Path, text: str, **options: object) -> dict[str, Dimension]:
    (tmp_path / "mine.yaml").write_text(text)
    return read_space(str(tmp_path / "mine.yaml"), DistillConfig(**options), excluded=()).dimensions


@pytest.mark.parametrize("verb", TRAINING)
def test_every_searched_verb_has_a_space(verb: str) -> None:
    space = read_space(verb, VERBS[verb](), excluded=())
    assert "lr" in space.dimensions and space.fixed["eval_every"] < VERBS[verb]().steps


def test_a_given_option_is_excluded_and_a_range_is_extended_to_where_the_search_starts() -> None:
    space = read_space("distill", DistillConfig(lr=1e-6, temperature=12.0), excluded={"alpha", "baseline"})
    assert set(space.dimensions) == {"temperature", "lr"} and set(space.fixed) == {"eval_every"}
    assert (space.dimensions["lr"].low, space.dimensions["temperature"].high) == (1e-6, 12.0)
    with pytest.raises(ConfigError, match="nothing is left to vary"):
        read_space("distill", DistillConfig(), excluded={"alpha", "temperature", "lr"})


def test_a_conditional_option_varies_only_with_its_condition(tmp_path: Path) -> None:
    text = (
        "beta: {low: 0.1, high: 10, log: true, when: {method: [pkd, tinybert]}}\n"
        "method: {choices: [kd, pkd]}\nwarmup_steps: {low: 0, high: 2}"
    )
    (tmp_path / "mine.yaml").write_text(text)
    space, options = (
        read_space(str(tmp_path / "mine.yaml"), DistillConfig(warmup_steps=1), excluded=()),
        {"method": "kd"},
    )
    for method, names in {"kd": {"method", "warmup_steps"}, "pkd": {"method", "warmup_steps", "beta"}}.items():
        chosen = space.settings(
            options, lambda name, _, at=method: {"method": at, "beta": 1.0, "warmup_steps": 2}[name]
        )
        assert set(chosen) == names
    grid = space.grid(DistillConfig().as_dict())
    assert len(grid) == 3 + 3 * 5  # warmup_steps 0, 1, 2; with pkd five values of beta
    assert [cell for cell in grid if "beta" in cell][0]["beta"] == pytest.approx(0.1)


def test_choices_include_the_start_and_a_logarithmic_range_must_be_above_zero(tmp_path: Path) -> None:
    assert space_of(tmp_path, "method: {choices: [pkd]}")["method"].choices == ("pkd", "kd")
    with pytest.raises(ConfigError, match="beta=0.0: its range is logarithmic"):
        space_of(tmp_path, "beta: {low: 1, high: 10, log: true}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpah: {low: 0, high: 1}", "unknown option in mine.yaml: alpah. Did you mean alpha?"),
        ("alpha: {low: 0, high: 1.5}", "alpha=1.5: expected a value from 0 to 1."),
        ("alpha: {low: 1, high: 0}", "mine.yaml: alpha: expected low < high"),
        ("alpha: {low: 0, high: 1, log: true}", "low > 0 with log"),
        ("alpha: {low: 0}", "expected low and high of a number, or choices"),
        ("alpha: {low: a, high: 1}", "mine.yaml: alpha='a': expected type float."),
        ("alpha: {lo: 0, high: 1}", "unknown key of alpha in mine.yaml: lo. Did you mean low?"),
        ("alpha: {choices: [0.1], low: 0, high: 1}", "expected low and high of a number, or choices"),
        ("student_layers: {low: 1.0, high: 2.5}", "student_layers=1.0: expected type int."),
        ("method: {low: 0, high: 1}", "expected low and high of a number, or choices"),
        ("method: {choices: [kdd]}", "method=kdd: expected one of kd"),
        ("method: {choices: []}", "or choices: [value, ...]"),
        ("baseline: 1", "baseline=1: expected type bool."),
        ("lr: {low: 1e-4, high: 1, when: {methods: [kd]}}", "unknown option in when of lr in mine.yaml: methods."),
        ("lr: {low: 1e-4, high: 1, when: {method: [kdd]}}", "method=kdd"),
        ("seed: {choices: [1, 2]}", "mine.yaml: seed is not searched"),
        ("work_dir: here", "mine.yaml: work_dir is not searched"),
        ("- alpha", "expected lines as"),
        ("{", "expected one of distill, finetune, pretrain, or a .yaml file"),
    ],
)
def test_a_mistake_in_a_space_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        space_of(tmp_path, text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trails=3"], "unknown option: trails. Did you mean trials?"),
        (["--temprature=3"], "unknown option: temprature. Did you mean temperature?"),
        (["--verb=finetune", "--alpha=0.5"], "unknown option: alpha."),
        (["--alpha=1.5"], "alpha=1.5: expected a value from 0 to 1."),
        (["--pruner=asha", "--seeds=3"], "wilcoxon is for several, others for one"),
        (["--pruner=wilcoxon"], "wilcoxon is for several, others for one"),
        (
            ["--second_objective=latency", "--pruner=median"],
            "second_objective=latency: with two objectives expected pruner=none",
        ),
        (
            ["--second_objective=latency", "--verb=pretrain"],
            "pretrain does not measure it; expected second_objective=parameters.",
        ),
        (["--sampler=tpee"], "Did you mean tpe?"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(SearchConfig, words)
    assert message in str(error.value)


def test_options_of_the_verb_are_passed_on() -> None:
    cfg = parse(SearchConfig, ["--trials", "3", "--steps", "60", "--method=mkd", "--seed=4"])
    base = cfg.base()
    assert isinstance(base, DistillConfig) and cfg.trials == 3
    assert (base.steps, base.method, base.seed) == (60, "mkd", 4)
