"""What a user types becomes a checked config, or one line that says what is wrong."""

import dataclasses
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from vlx.config import VERBS, DistillConfig, FinetuneConfig, ImportConfig, PretrainConfig, launch, parse
from vlx.errors import ConfigError
from vlx.registry import ARCHITECTURES, METHODS, TASKS


def test_command_line_beats_preset_beats_default(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("task: nlvr2\nlr: 0.5\nalpha: 0.25\n")
    cfg = parse(DistillConfig, [f"--preset={preset}", "--alpha", "0.75"])
    assert (cfg.lr, cfg.alpha, cfg.temperature) == (0.5, 0.75, DistillConfig().temperature)


@pytest.mark.parametrize("spelling", ["true", "True", "yes", "on"])
def test_booleans_take_the_usual_spellings(spelling: str, tmp_path: Path) -> None:
    assert parse(DistillConfig, [f"--reptile={spelling}"]).reptile is True
    assert parse(DistillConfig, ["--baseline=no"]).baseline is False
    (tmp_path / "mine.yaml").write_text(f"reptile: {spelling}\nbaseline: 'no'\n")
    cfg = parse(DistillConfig, [f"--preset={tmp_path / 'mine.yaml'}"])
    assert (cfg.reptile, cfg.baseline) == (True, False)


@pytest.mark.parametrize("text", ["", "--dash", "12", "null", "[1]", '50 % "quoted"', "ünïcode"])
def test_strings_stay_as_they_are(text: str, tmp_path: Path) -> None:
    assert parse(DistillConfig, [f"--description={text}"]).description == text
    (tmp_path / "mine.yaml").write_text(f"description: '{text}'\n", encoding="utf-8")
    assert parse(DistillConfig, [f"--preset={tmp_path / 'mine.yaml'}"]).description == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alpah=1"], "unknown option: alpah. Did you mean alpha?"),
        (["--alpha=1.5"], "alpha=1.5: expected a value from 0 to 1."),
        (["--temperature=0"], "temperature=0.0: expected a value above 0."),
        (["--lr=abc"], "lr=abc: expected a float."),
        (["--lr=1e-5x"], "lr=1e-5x: expected a float."),
        (["--lr=-1e-3"], "lr=-0.001: expected a value above 0."),
        (["--lr=inf"], "lr=inf: expected a float."),
        (["--lr=nan"], "lr=nan: expected a float."),
        (["--lr="], "lr=: expected a float."),
        (["--lr=1\n2"], "lr=1 2: expected a float."),
        (["--lr"], "argument --lr: expected one argument"),
        (["--seed=1.5"], "seed=1.5: expected an int."),
        (["--batch_size=x"], "batch_size=x: expected an int."),
        (["--batch_size=0"], "batch_size=0: expected a value of at least 1."),
        (["--reptile=maybe"], "reptile=maybe: expected a bool."),
        (["--task=nlvr3"], "task=nlvr3: expected one of nlvr2, nlvr, vqa, gqa, "),
        (["--epochs=2"], "steps=500 and epochs=2: expected exactly one of them above 0."),
        (["--warmup_steps=900"], "warmup_steps=900: expected at most steps=500."),
        (["--student_layers=9"], "student_layers=9: expected at most the teacher's layers=4."),
        (["--hidden_size=66"], "hidden_size=66: expected a multiple of heads=4."),
        (["--student_hidden_size=32"], "student_hidden_size=32: expected student_init=random and no reptile"),
        (["--unlabeled=true", "--train_examples=0"], "unlabeled=true: expected train_examples above 0"),
        (["--text_weights=minilm", "--vocab=v.txt"], "text_weights=minilm: expected no vocab"),
        (["--teacher=t", "--clip_weights=c", "--bert_weights=b"], "teacher=t, clip_weights=c: expected one of them."),
        (["--preset=oscar-nlvr2-distil"], "Did you mean oscar-nlvr2-distill?"),
        (["stray"], "stray"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(DistillConfig, arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": "mlm,mrc_object"}, "objectives: found mrc_object, expected some of mlm, itm, mrc_objects, "),
        ({"objectives": "mlm,"}, "objectives: found , expected some of mlm"),
        ({"loss_weights": "answers=2"}, "loss_weights: found answers, expected some of mlm"),
        ({"loss_weights": "mlm"}, "loss_weights: mlm=: expected a number of at least 0."),
        ({"loss_weights": "mlm=-1"}, "loss_weights: mlm=-1: expected a number of at least 0."),
        ({"mrm_loss": "0"}, "mrm_loss=0: expected one of kl, mse, nce."),
        ({"steps": 0, "epochs": 2, "warmup_steps": 0, "stop_epoch": 3}, "stop_epoch=3: expected at most epochs=2."),
        (
            {"weights": "m", "clip_weights": "c", "bert_weights": "b"},
            "weights=m, clip_weights=c: expected one of them.",
        ),
        ({"clip_weights": "c"}, "clip_weights=c, bert_weights=: expected both, or neither."),
        ({"image_min_size": 96}, "image_min_size=96, image_max_size=64: expected multiples of 32"),
        ({"sampled_grid_features": 5}, "sampled_grid_features=5: expected at most the 4 of an image."),
        ({"vision_layers": "1,1,1"}, "vision_layers=1,1,1, vision_width=16: expected four stages"),
        ({"vision_milestones": "2;4"}, "vision_milestones=2;4: expected numbers joined by commas."),
    ],
)
def test_a_mistake_of_pretraining_is_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        PretrainConfig(**options)
    assert message in str(error.value)


def test_objectives_and_their_weights_are_those_that_are_given() -> None:
    cfg = PretrainConfig(objectives="qa,mlm", loss_weights="qa=2,mrm=0.5")
    assert cfg.objective_names() == ["qa", "mlm"] and cfg.loss_weight_by_objective() == {"qa": 2.0, "mrm": 0.5}
    assert PretrainConfig().objective_names() == [] and PretrainConfig().loss_weight_by_objective() == {}


@pytest.mark.parametrize("other", ["text_weights", "clip_weights"])
def test_a_model_starts_from_one_set_of_weights(other: str) -> None:
    options = {"weights": "m", other: "w"} | ({"bert_weights": "b"} if other == "clip_weights" else {})
    with pytest.raises(ConfigError, match=f"weights=m, {other}=w: expected one of them."):
        FinetuneConfig(**options)


def test_a_preset_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="made for another task than task=nlvr"):
        parse(DistillConfig, ["--preset=oscar-nlvr2-distill", "--task=nlvr"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1", "unknown option in bad.yaml: learning_rate. "),
        ("lr: 0,001", "bad.yaml: lr=0,001: expected a float."),
        ("train_examples: 1k", "bad.yaml: train_examples=1k: expected an int."),
        ("reptile: never", "bad.yaml: reptile=never: expected a bool."),
        ("lr: -1", "bad.yaml: lr=-1.0: expected a value above 0."),
        ("seed: 1.5", "bad.yaml: seed=1.5: expected an int."),
        ("method: kdd", "bad.yaml: method=kdd: expected one of kd, pkd, tinybert, mkd, embedding. Did you mean kd?"),
        ("lr: [1, 2]", "bad.yaml: lr: expected one value, found a list or a mapping."),
        ("1: 2", "unknown option in bad.yaml: 1."),
        ("? [a]\n: 2", "not a YAML file of options"),
        ("- lr", "expected `key: value` lines."),
        ("", "expected `key: value` lines."),
        ("lr: {", "not a YAML file of options"),
    ],
)
def test_a_mistake_in_a_preset_is_one_line_that_names_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError) as error:
        parse(DistillConfig, [f"--preset={tmp_path / 'bad.yaml'}"])
    assert message in str(error.value) and "bad.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "distill", "import"])
def test_a_verb_offers_the_architectures_that_have_it(verb: str) -> None:
    (spec,) = [spec for spec in dataclasses.fields(VERBS[verb]) if spec.name == "model"]
    assert spec.metadata["choices"] == tuple(name for name in ARCHITECTURES if verb in ARCHITECTURES[name].verbs)
    assert spec.default in spec.metadata["choices"]


def test_an_architecture_without_the_verb_is_refused() -> None:
    with pytest.raises(ConfigError, match="model=dual: expected one of oscar, lxmert, vilbert, clip_vil, vle"):
        ImportConfig(model="dual", weights="w")
    with pytest.raises(ConfigError, match="model=vle: expected one of oscar, lxmert, vilbert, clip_vil, dual"):
        FinetuneConfig(model="vle")


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as leaving:
        parse(VERBS[verb], ["--help"])
    assert leaving.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_option_once_under_the_title_of_its_group(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(verb, capsys)
    names = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert sorted(names) == sorted(f"--{spec.name}" for spec in dataclasses.fields(VERBS[verb]))
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert len(titles) == len(set(titles)) and VERBS[verb].SECTION + ":" in titles


def test_help_has_a_group_for_each_part_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    lines = help_of("finetune", capsys).splitlines()
    titles = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
    pixels = "image input, for architectures that read pixels"
    assert titles == ["options", "run", "data", "model", pixels, "training", "fine-tuning"]
    at = {line.split()[0]: row for row, line in enumerate(lines) if line.startswith("  --")}
    assert lines.index("model:") < at["--model"] < lines.index(f"{pixels}:") < at["--vision_lr"]


def test_help_names_tasks_methods_and_limits(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(help_of("distill", capsys).split())
    assert " | ".join(TASKS) in text and "maximum examples per split; 0 = all (default: 0)" in text
    assert all(f"{name}: {METHODS[name].summary}" in text for name in METHODS)


def test_help_imports_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'mlflow', 'optuna'}"
    code = (
        "import sys\nfrom vlx.config import VERBS, parse\n"
        "for schema in VERBS.values():\n"
        "    try:\n        parse(schema, ['--help'])\n    except SystemExit:\n        pass\n"
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--student_layers" in done.stdout


def test_launch_turns_a_users_mistake_into_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["distill.py", "--alpah=1"])
    with pytest.raises(SystemExit) as leaving:
        launch(lambda cfg: None, DistillConfig)
    assert leaving.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "vlx: unknown option: alpah. Did you mean alpha?"
    logging.getLogger().handlers.clear()
