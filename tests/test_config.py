"""What a user types becomes a checked config, or one line that says what is wrong."""

import logging
from pathlib import Path

import pytest

from vlx.config import DistillConfig, launch, parse
from vlx.errors import ConfigError


def test_command_line_beats_preset_beats_default(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("task: nlvr2\nlr: 0.5\nalpha: 0.25\n")
    cfg = parse(DistillConfig, [f"--preset={preset}", "--alpha", "0.75"])
    assert (cfg.lr, cfg.alpha, cfg.temperature) == (0.5, 0.75, DistillConfig().temperature)


@pytest.mark.parametrize("spelling", ["true", "True", "yes"])
def test_booleans_take_the_usual_spellings(spelling: str) -> None:
    assert parse(DistillConfig, [f"--reptile={spelling}"]).reptile is True


def test_strings_stay_as_they_are() -> None:
    for text in ("", "--dash", "12", "null", "[1]", '50 % "quoted"', "ünïcode"):
        assert parse(DistillConfig, [f"--description={text}"]).description == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alpah=1"], "unknown option: alpah. Did you mean alpha?"),
        (["--alpha=1.5"], "alpha=1.5: expected a value from 0 to 1."),
        (["--temperature=0"], "temperature=0.0: expected a value above 0."),
        (["--lr=abc"], "lr=abc: expected a float."),
        (["--lr=1e-5x"], "lr=1e-5x: expected a float."),
        (["--lr=-1e-3"], "lr=-0.001: expected a value above 0."),
        (["--lr=inf"], "lr=inf: expected a float."),
        (["--seed=1.5"], "seed=1.5: expected an int."),
        (["--batch_size=0"], "batch_size=0: expected a value of at least 1."),
        (["--reptile=maybe"], "reptile=maybe: expected a bool."),
        (["--task=nlvr3"], "task=nlvr3: expected one of nlvr2, nlvr, vqa, gqa, "),
        (["--epochs=2"], "steps=500 and epochs=2: expected exactly one of them above 0."),
        (["--warmup_steps=900"], "warmup_steps=900: expected at most steps=500."),
        (["--student_layers=9"], "student_layers=9: expected at most the teacher's layers=4."),
        (["--hidden_size=66"], "hidden_size=66: expected a multiple of heads=4."),
        (["--student_hidden_size=32"], "student_hidden_size=32: expected model=oscar and student_init=random"),
        (["--unlabelled=true", "--train_examples=0"], "unlabelled=true: expected train_examples above 0"),
        (["--unlabelled=true", "--task=retrieval"], "no retrieval"),
        (["--preset=oscar-nlvr2-distil"], "Did you mean oscar-nlvr2-distill?"),
        (["stray"], "stray"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(DistillConfig, words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_preset_of_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="made for another task than task=nlvr"):
        parse(DistillConfig, ["--preset=oscar-nlvr2-distill", "--task=nlvr"])


def test_a_preset_with_an_unknown_option_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("learning_rate: 1\n")
    with pytest.raises(ConfigError, match="unknown option in bad.yaml: learning_rate"):
        parse(DistillConfig, [f"--preset={tmp_path / 'bad.yaml'}"])


def test_launch_turns_a_users_mistake_into_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["distill.py", "--alpah=1"])
    with pytest.raises(SystemExit) as leaving:
        launch(lambda cfg: None, DistillConfig)
    assert leaving.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "vlx: unknown option: alpah. Did you mean alpha?"
    logging.getLogger().handlers.clear()
