"""The public API: what a notebook calls, with the scores of the entry points and their errors."""

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import vlx
from vlx.checkpoints import Loaded
from vlx.config import EvaluateConfig
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError, TrainingError

SIZES = {"layers": 2, "hidden_size": 16, "heads": 2, "intermediate_size": 16}
TRAINING = {"steps": 4, "lr": 1e-3, "batch_size": 8}
PUBLIC = {"corpus", "task", "model", "load", "student", "supervised", "fit", "evaluate", "run", "kd", "pkd", "mkd"}


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def questions(work_dir: Path) -> Corpus:
    return vlx.corpus("synthetic", task="vqa", size=40, work_dir=work_dir)


def small_model(architecture: str, questions: Corpus) -> Loaded:
    return vlx.model(architecture, vlx.task("vqa", questions), questions, **SIZES)


def files_under(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def test_import_vlx_imports_no_torch_mlflow_or_transformers(root: Path) -> None:
    code = (
        "import sys, vlx; dir(vlx)\n"
        "print(*{'torch', 'mlflow', 'transformers', 'numpy', 'vlx.api'}.intersection(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_dir_lists_the_public_names() -> None:
    assert set(dir(vlx)) >= PUBLIC | set(vlx.MODULES) | set(vlx.method_names())
    assert all(getattr(vlx, name).__doc__ for name in dir(vlx) if name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_public_names() -> None:
    with pytest.raises(AttributeError, match=r"vlx has no finetune; its public names are corpus, .* kd, .* tracking\."):
        _ = vlx.finetune
    assert not hasattr(vlx, "finetune")


@pytest.mark.parametrize(
    ("method", "architecture", "reason"),
    [
        ("pkd", "lxmert", "returns the hidden states of its layers"),
        ("tinybert", "lxmert", "returns the attention probabilities of its layers"),
        ("mkd", "vilbert", "scores text and image alone"),
        ("embedding", "oscar", "encodes text and image apart"),
    ],
)
def test_a_method_refuses_a_teacher_without_what_it_needs(
    method: str, architecture: str, reason: str, questions: Corpus
) -> None:
    teacher = small_model(architecture, questions)
    with pytest.raises(ConfigError, match=rf"method={method}: needs .*{reason}.*not model={architecture}"):
        getattr(vlx, method)(teacher, vlx.task("vqa", questions))


def test_mkd_refuses_a_task_without_modality_scores(questions: Corpus, work_dir: Path) -> None:
    boxes = vlx.corpus("synthetic", task="refcoco", size=20, work_dir=work_dir)
    with pytest.raises(ConfigError, match="method=mkd: has no loss for the grounding head of task=refcoco"):
        vlx.mkd(small_model("oscar", questions), vlx.task("refcoco", boxes))


def test_kd_trains_a_student(questions: Corpus) -> None:
    for architecture in ("oscar", "lxmert"):
        teacher = small_model(architecture, questions)
        student = vlx.student(teacher, layers=1)
        assert student.model.config.num_hidden_layers == 1 < teacher.model.config.num_hidden_layers
        task = vlx.task("vqa", questions)
        train, validation, _ = task.datasets(questions, like=student)
        best = vlx.fit(student, vlx.kd(teacher, task), train, validation, **TRAINING)
        assert best.step in (1, 2, 3, 4)


@pytest.mark.parametrize("method", ["kd", "embedding"])
def test_a_dual_encoder_is_distilled(method: str, work_dir: Path) -> None:
    captions = vlx.corpus("synthetic", task="retrieval", size=20, work_dir=work_dir)
    task = vlx.task("retrieval", captions)
    teacher = vlx.model("dual", task, captions, **SIZES, region_layers=1)
    student = vlx.student(teacher, layers=1)
    train, validation, test = task.datasets(captions, like=student, num_images=5)
    vlx.fit(student, getattr(vlx, method)(teacher, task), train, validation, **TRAINING)
    assert 0 <= vlx.evaluate(student, test)["recall_mean"] <= 1


def test_fit_outside_a_run_leaves_no_file_behind(questions: Corpus, work_dir: Path, tmp_path: Path) -> None:
    loaded = small_model("oscar", questions)
    task = vlx.task("vqa", questions)
    train, validation, test = task.datasets(questions, like=loaded)
    before = files_under(work_dir, tmp_path)
    vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, **TRAINING)
    vlx.evaluate(loaded, test)
    assert files_under(work_dir, tmp_path) == before


@pytest.mark.slow
def test_fit_and_evaluate_inside_a_run_log_options_and_metrics(questions: Corpus, tmp_path: Path) -> None:
    loaded = small_model("oscar", questions)
    task = vlx.task("vqa", questions)
    train, validation, test = task.datasets(questions, like=loaded)
    with vlx.run("a notebook", description="Four steps.", work_dir=tmp_path) as run:
        best = vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, **TRAINING)
        scores = vlx.evaluate(loaded, test)
        with pytest.raises(TrainingError, match="a model was trained in this run"):
            vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, **TRAINING)
    logged = MlflowClient().get_run(run.id)
    assert (logged.info.run_name, logged.info.status) == ("a notebook", "FINISHED")
    assert logged.data.tags["mlflow.note.content"] == "Four steps."
    assert logged.data.params["config/batch_size"] == "8"
    assert logged.data.metrics[f"{test.name}/accuracy"] == pytest.approx(scores["accuracy"])
    history = MlflowClient().get_metric_history(run.id, "val/accuracy")
    assert max(point.value for point in history) == pytest.approx(best.value)
    assert vlx.evaluate(loaded, test) == scores
    assert mlflow.active_run() is None


def test_evaluate_gives_the_scores_of_the_entry_point(questions: Corpus, work_dir: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "entrypoints"))
    entry_point = importlib.import_module("evaluate")
    task = vlx.task("vqa", questions)
    loaded = small_model("lxmert", questions)
    train, validation, test = task.datasets(questions, like=loaded)
    vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, **TRAINING | {"steps": 30})
    folder = vlx.checkpoints.save(tmp_path / "model", loaded)
    scores = vlx.evaluate(vlx.load(folder), test)
    assert scores == vlx.evaluate(loaded, test)
    cfg = EvaluateConfig(
        model=str(folder), task="vqa", corpus=str(questions.path), work_dir=str(tmp_path / "outputs"), split=test.name
    )
    assert entry_point.main(cfg) == scores["accuracy"] > 0


def test_datasets_have_the_answers_of_the_model(questions: Corpus) -> None:
    """A model whose answers are in another order is scored by its own."""
    task = vlx.task("vqa", questions)
    loaded = small_model("oscar", questions)
    before = vlx.evaluate(loaded, task.datasets(questions, like=loaded).validation)
    answers = loaded.preprocessing.answers
    order = list(reversed(range(len(answers))))
    last = loaded.model.classifier[-1]
    last.weight.data = last.weight.data[order]
    last.bias.data = last.bias.data[order]
    preprocessing = replace(loaded.preprocessing, answers=tuple(answers[label] for label in order))
    reordered = replace(loaded, preprocessing=preprocessing)
    assert vlx.evaluate(reordered, task.datasets(questions, like=reordered).validation) == before


def test_a_model_of_another_task_is_refused(questions: Corpus, work_dir: Path) -> None:
    statements = vlx.corpus("synthetic", task="nlvr2", size=20, work_dir=work_dir)
    with pytest.raises(CheckpointError, match=r"another task \(vqa\)"):
        vlx.task("nlvr2", statements).datasets(statements, like=small_model("oscar", questions))


def test_options_that_do_nothing_are_refused(questions: Corpus) -> None:
    task = vlx.task("vqa", questions)
    loaded = small_model("oscar", questions)
    train, validation, _ = task.datasets(questions, like=loaded)
    with pytest.raises(ConfigError, match=r"fit: no option batchsize\. Did you mean batch_size\?"):
        vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, steps=1, lr=1e-3, batchsize=8)
    with pytest.raises(ConfigError, match=r"fit: no option train_examples"):
        vlx.fit(loaded, vlx.supervised(loaded, task), train, validation, steps=1, lr=1e-3, train_examples=8)
    with pytest.raises(ConfigError, match="model: no option lr"):
        vlx.model("oscar", task, questions, lr=1e-3)


def test_a_model_starts_from_given_weights(questions: Corpus, tmp_path: Path) -> None:
    loaded = small_model("oscar", questions)
    folder = vlx.checkpoints.save(tmp_path / "model", loaded)
    start = vlx.model("oscar", vlx.task("vqa", questions), questions, weights=str(folder))
    weights = start.model.state_dict()
    assert all(weights[name].equal(weight) for name, weight in loaded.model.state_dict().items())


def test_num_images_is_of_validation_and_test_only(work_dir: Path) -> None:
    captions = vlx.corpus("synthetic", task="retrieval", size=20, work_dir=work_dir)
    task = vlx.task("retrieval", captions)
    train, validation, test = task.datasets(captions, like=vlx.model("oscar", task, captions, **SIZES), num_images=3)
    assert len(set(train.first_images)) > 3
    assert set(train.first_images) == {row[0] for row in captions.examples("retrieval", "train")["image_ids"]}
    assert len(set(validation.first_images)) == len(set(test.first_images)) == 3
