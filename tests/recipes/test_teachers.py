"""Any model may be a teacher: of another architecture, with other answers, or several at once."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.recipes.toy import save_teacher, write_questions
from tests.training.toy import Recorder, config, datasets_of, same_weights, write_corpus
from vlx import checkpoints, tasks
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError
from vlx.evaluation.compare import validator
from vlx.models.ensemble import Ensemble, mean_of_finite
from vlx.objectives import distillation, kd_loss
from vlx.recipes.distill import initial_student, obtain_teacher
from vlx.recipes.requirements import load_method
from vlx.recipes.teachers import answer_indices, load_teacher_ensemble
from vlx.training.loop import fit

TASK = tasks.load("nlvr2")
NEW = {"student_init": "random"}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("architecture", "student"), [("lxmert", "oscar"), ("vilbert", "oscar"), ("oscar", "lxmert"), ("oscar", "vilbert")]
)
def test_another_architecture_teaches_a_new_student_of_the_options(
    corpus: Corpus, tmp_path: Path, architecture: str, student: str
) -> None:
    saved = save_teacher(corpus, TASK, tmp_path / "t", model=architecture)
    cfg = config(
        teacher=str(tmp_path / "t"), model=student, hidden_size=24, alpha=1.0, vocab_size=90, steps=40, cross_layers=1,
        **NEW,
    )  # fmt: skip
    teacher, result = obtain_teacher(cfg, TASK, corpus)
    datasets = datasets_of(corpus, TASK, teacher, cfg)
    new = initial_student(cfg, TASK, corpus, teacher)
    assert result is None and teacher.wordpiece.vocab == saved.wordpiece.vocab == new.wordpiece.vocab
    assert new.preprocessing.architecture == student and type(new.model) is not type(teacher.model)
    assert (new.model.config.num_hidden_layers, new.model.config.hidden_size) == (1, 24)
    objective = distillation(load_method("kd"), teacher.model, TASK.loss, alpha=1.0, temperature=2.0)
    run = Recorder()
    validate = validator(datasets.validation)
    fit(new.model, objective, datasets.train, validate, cfg, run, folder=tmp_path / "f", title="toy")
    assert run.metrics[40]["train/kd"] < 0.5 * run.metrics[2]["train/kd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "student_init=first: .* is of lxmert, which has no layers for oscar; give student_init=random"),
        ({"method": "mkd", **NEW}, "method=mkd, reptile=False: .* is of lxmert; expected method=kd and reptile=false"),
        ({"reptile": True, **NEW}, "method=kd, reptile=True: .* is of lxmert; expected method=kd and reptile=false"),
        ({"model": "clip_vil", **NEW}, "model=clip_vil: .* is of lxmert, which reads regions; expected .* pixels"),
        ({"max_text_tokens": 99, **NEW}, "max_text_tokens=99: .* reads at most 55; give that or less"),
    ],
)
def test_what_another_architecture_cannot_teach_is_one_line(
    corpus: Corpus, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    save_teacher(corpus, TASK, tmp_path / "t", model="lxmert")
    with pytest.raises(ConfigError, match=message):
        obtain_teacher(config(teacher=str(tmp_path / "t"), **options), TASK, corpus)


def test_tags_that_one_of_them_does_not_read_are_refused_where_the_corpus_has_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = tasks.load("vqa", ["red", "blue"])
    plain = write_questions(tmp_path / "plain")
    tagged = write_questions(tmp_path / "tagged", tags=("dog",))
    lxmert = save_teacher(plain, task, tmp_path / "t", model="lxmert")
    oscar = save_teacher(plain, task, tmp_path / "o")
    cfg = config(teacher="t", task="vqa", **NEW)
    without_tags = dataclasses.replace(cfg, object_tags=False)
    assert load_teacher_ensemble([lxmert], cfg, task, plain) is lxmert
    with pytest.raises(ConfigError, match="object_tags=true: .* reads no object tags, and both read one batch"):
        load_teacher_ensemble([lxmert], cfg, task, tagged)
    assert load_teacher_ensemble([lxmert], without_tags, task, tagged) is lxmert
    assert "object tags" not in caplog.text
    load_teacher_ensemble([oscar], without_tags, task, tagged)
    assert "was trained with object tags and reads none here" in caplog.text


def test_teachers_and_student_have_one_vocabulary(corpus: Corpus, tmp_path: Path) -> None:
    large, small = (save_teacher(corpus, TASK, tmp_path / str(size), vocab_size=size) for size in (60, 50))
    cfg = config(teacher=f"{tmp_path / '60'}, {tmp_path / '50'}")
    with pytest.raises(ConfigError, match=f"{tmp_path / '50'}: has another vocabulary than"):
        load_teacher_ensemble([large, small], cfg, TASK, corpus)
    single = dataclasses.replace(cfg, teacher="t", vocab=str(tmp_path / "50" / "vocab.txt"))
    with pytest.raises(ConfigError, match="vocab.txt: not the teacher's"):
        load_teacher_ensemble([large], single, TASK, corpus)
    assert load_teacher_ensemble([small], single, TASK, corpus) is small


def test_answers_are_matched_by_text(tmp_path: Path) -> None:
    """The teacher's answers red, blue, two, yes are its 2, -, 0, 3; the student learns nothing of blue."""
    task = tasks.load("vqa", ["red", "blue", "two", "yes"])
    corpus = write_questions(tmp_path / "corpus")
    cfg = config(task="vqa", teacher="t")
    saved = save_teacher(corpus, tasks.load("vqa", ["two", "no", "red", "yes"]), tmp_path / "t")
    teacher = load_teacher_ensemble([saved], cfg, task, corpus)
    batch = datasets_of(corpus, task, saved, cfg).train.batch(range(4))
    own_logits = saved.model.eval()(batch).logits
    logits = teacher.model.eval()(batch).logits
    assert torch.equal(logits[:, [0, 2, 3]], own_logits[:, [2, 0, 3]])
    assert (logits.softmax(-1)[:, 1] == 0).all()
    student_logits = torch.randn(4, 4, requires_grad=True)
    kd_loss(student_logits, logits, 2.0).backward()
    assert student_logits.grad.isfinite().all() and (student_logits.grad[:, 1] > 0).all()  # blue is pushed down
    student = initial_student(cfg, task, corpus, teacher)
    assert student.model.config.num_labels == 4 and student.preprocessing.answers == ("red", "blue", "two", "yes")
    assert same_weights(saved.model.bert.encoder.layer[0], student.model.bert.encoder.layer[0])
    with pytest.raises(ConfigError, match="reptile=true: .* has other answers, or another order of them"):
        load_teacher_ensemble([saved], dataclasses.replace(cfg, reptile=True), task, corpus)


def test_a_teacher_must_know_half_the_answers(tmp_path: Path) -> None:
    corpus = write_questions(tmp_path / "corpus")
    teacher = save_teacher(corpus, tasks.load("vqa", ["two", "no", "maybe"]), tmp_path / "t")
    assert answer_indices(teacher, tasks.load("vqa", ["red", "two"])) == [-1, 0]
    with pytest.raises(CheckpointError, match="knows 1 of the corpus's 3 answers, expected at least 50%"):
        task = tasks.load("vqa", ["red", "two", "yes"])
        load_teacher_ensemble([teacher], config(task="vqa", teacher="t"), task, corpus)
    nameless = dataclasses.replace(teacher, preprocessing=dataclasses.replace(teacher.preprocessing, answers=()))
    assert answer_indices(nameless, tasks.load("vqa", ["a", "b", "c"])) is None
    with pytest.raises(CheckpointError, match="3 answers without their names, the corpus has 2"):
        answer_indices(nameless, tasks.load("vqa", ["red", "two"]))


def test_several_teachers_are_the_mean_of_their_logits(corpus: Corpus, tmp_path: Path) -> None:
    paths = [tmp_path / str(seed) for seed in range(3)]
    for seed, path in enumerate(paths):
        save_teacher(corpus, TASK, path, seed=seed)
    cfg = config(teacher=", ".join(map(str, paths)), method="mkd")
    teacher, result = obtain_teacher(cfg, TASK, corpus)
    assert result is None and isinstance(teacher.model, Ensemble) and teacher.uri == cfg.teacher
    batch = datasets_of(corpus, TASK, teacher, cfg).train.batch([0, 1, 2])
    logits = [checkpoints.load(path).model.eval()(batch).logits for path in paths]
    torch.testing.assert_close(teacher.model.eval()(batch).logits, sum(logits) / 3)
    student = initial_student(cfg, TASK, corpus, teacher)
    first = checkpoints.load(paths[0]).model
    assert same_weights(student.model.bert.embeddings, first.bert.embeddings)
    assert same_weights(student.model.classifier, first.classifier)
    objective = distillation(load_method("mkd"), teacher.model, TASK.loss, alpha=1.0, temperature=2.0)
    assert objective(student.model, batch).total > 0


def test_a_student_starts_from_the_first_of_several_architectures(corpus: Corpus, tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("oscar", "lxmert")}
    for name, path in paths.items():
        save_teacher(corpus, TASK, path, model=name)
    cfg = config(teacher=f"{paths['oscar']},{paths['lxmert']}")
    teacher, _ = obtain_teacher(cfg, TASK, corpus)
    student = initial_student(cfg, TASK, corpus, teacher)
    assert same_weights(student.model.bert.embeddings, checkpoints.load(paths["oscar"]).model.bert.embeddings)
    with pytest.raises(ConfigError, match="student_init=first: .*lxmert is of lxmert"):
        obtain_teacher(dataclasses.replace(cfg, teacher=f"{paths['lxmert']},{paths['oscar']}"), TASK, corpus)


def test_an_answer_is_averaged_over_the_teachers_that_know_it() -> None:
    first = torch.tensor([[1.0, -torch.inf, -torch.inf]])
    second = torch.tensor([[3.0, 4.0, -torch.inf]])
    assert mean_of_finite(torch.stack([first, second])).tolist() == [[2.0, 4.0, -torch.inf]]
    lowest = torch.full((2, 1, 2), torch.finfo(torch.float32).min)
    assert mean_of_finite(lowest).isfinite().all()
