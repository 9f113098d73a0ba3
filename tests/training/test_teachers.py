"""Any model may teach: of another system, with other answers, or several at once."""

import dataclasses
from pathlib import Path

import pytest
import torch
from vlx.training.batching import open_data
from vlx.training.evaluation import validator
from vlx.training.recipes import new_model, obtain_teacher, start_student

from tests.training.toy import Recorder, config, same_weights, write_corpus
from vlx import checkpoints, tasks
from vlx.checkpoints import Loaded
from vlx.config import DistillConfig
from vlx.corpora import Corpus
from vlx.errors import CheckpointError, ConfigError
from vlx.models.ensemble import Ensemble, mean_of_known
from vlx.objectives import distillation, kd_loss
from vlx.training import teachers
from vlx.training.loop import fit

TASK = tasks.load("nlvr2")
NEW = {"student_init": "random"}


def teacher_of(corpus: Corpus, folder: Path, **options: object) -> Loaded:
    """An untrained teacher, saved and read again."""
    cfg = config(**options)
    made = new_model(cfg, TASK, corpus)
    checkpoints.save(folder, made.model, made.tokenizer, made.meta)
    return checkpoints.load(folder)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "corpus")


@pytest.mark.parametrize(("system", "pupil"), [("lxmert", "oscar"), ("vilbert", "oscar"), ("oscar", "lxmert")])
def test_another_system_teaches_a_new_student_of_the_options(
    corpus: Corpus, tmp_path: Path, system: str, pupil: str
) -> None:
    given = teacher_of(corpus, tmp_path / "t", model=system)
    cfg = config(teacher=str(tmp_path / "t"), model=pupil, hidden_size=24, alpha=1.0, vocab_size=90, steps=40, **NEW)
    teacher, measured = obtain_teacher(cfg, TASK, corpus)
    data = open_data(corpus, TASK, teacher.words, cfg)
    student = start_student(cfg, TASK, data, teacher)
    assert measured is None and teacher.words.vocab == given.words.vocab == student.words.vocab
    assert student.meta["system"] == pupil and type(student.model) is not type(teacher.model)
    assert (student.model.config.num_hidden_layers, student.model.config.hidden_size) == (1, 24)
    objective, run = distillation("kd", teacher.model, TASK.loss, alpha=1.0, temperature=2.0), Recorder()
    validate = validator(TASK, data.validation)
    fit(student.model, objective, data.train, validate, cfg, run, folder=tmp_path / "f", title="toy")
    assert run.metrics[40]["train/kd"] < 0.5 * run.metrics[2]["train/kd"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "student_init=first: .* is of lxmert, which has no layers for oscar; give student_init=random"),
        ({"method": "mkd", **NEW}, "method=mkd, reptile=False: .* is of lxmert; expected kd and false"),
        ({"reptile": True, **NEW}, "method=kd, reptile=True: .* is of lxmert; expected kd and false"),
        ({"model": "vle", **NEW}, "model=vle: .* is of lxmert; one reads pictures, the other regions"),
        ({"max_text_tokens": 99, **NEW}, "max_text_tokens=99: .* reads at most 55; give that or less"),
    ],
)
def test_what_another_system_cannot_teach_is_one_line(
    corpus: Corpus, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    teacher_of(corpus, tmp_path / "t", model="lxmert")
    with pytest.raises(ConfigError, match=message):
        obtain_teacher(config(teacher=str(tmp_path / "t"), **options), TASK, corpus)


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({"model": "lxmert", "method": "pkd"}, "kd"),
        ({"model": "vilbert", "reptile": True}, "kd"),
        ({"teacher": "a,b", "method": "tinybert"}, "kd or mkd"),
        ({"teacher": "a,b", "method": "mkd", "reptile": True}, "kd or mkd"),
    ],
)
def test_impossible_options_are_found_before_anything_is_read(options: dict[str, object], methods: str) -> None:
    with pytest.raises(ConfigError, match=f"expected method={methods}, no reptile"):
        config(**options)


def test_tags_that_only_one_reads_are_refused_where_the_corpus_has_some(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = teacher_of(corpus, tmp_path / "t", model="lxmert")
    cfg = config(teacher="t", **NEW)
    assert teachers.join([given], cfg, TASK, corpus) is given  # this corpus has none
    monkeypatch.setattr(Corpus, "tags", lambda self, image: ["dog"])
    with pytest.raises(ConfigError, match="tags=true: .* reads no object tags, and both read one batch"):
        teachers.join([given], cfg, TASK, corpus)
    assert teachers.join([given], dataclasses.replace(cfg, tags=False), TASK, corpus) is given
    teachers.join([teacher_of(corpus, tmp_path / "o")], dataclasses.replace(cfg, tags=False), TASK, corpus)
    assert "learnt with object tags and is asked without" in caplog.text


def test_vocabularies_must_be_one(corpus: Corpus, tmp_path: Path) -> None:
    one, other = (teacher_of(corpus, tmp_path / str(size), vocab_size=size) for size in (60, 50))
    cfg = config(teacher=f"{tmp_path / '60'}, {tmp_path / '50'}")
    with pytest.raises(ConfigError, match=f"{tmp_path / '50'}: has another vocabulary than"):
        teachers.join([one, other], cfg, TASK, corpus)
    alone = dataclasses.replace(cfg, teacher="t", vocab=str(tmp_path / "50" / "vocab.txt"))
    with pytest.raises(ConfigError, match="vocab.txt: not the teacher's"):
        teachers.join([one], alone, TASK, corpus)
    assert teachers.join([other], alone, TASK, corpus) is other


def answering(corpus: Corpus, folder: Path, answers: list[str], cfg: DistillConfig) -> Loaded:
    made = new_model(cfg, tasks.load("vqa", answers), corpus, teacher_of(corpus, folder).words)
    checkpoints.save(folder, made.model, made.tokenizer, made.meta)
    return checkpoints.load(folder)


def batch_of(corpus: Corpus, teacher: Loaded) -> dict[str, torch.Tensor]:
    split = open_data(corpus, TASK, teacher.words, config()).train
    rows = [row._replace(image_ids=row.image_ids[:1], scores={0: 1.0}) for row in split.encoded[:4]]
    return dataclasses.replace(split, task=tasks.load("vqa", ["red", "blue", "two", "yes"])).collate(rows)


def test_answers_are_matched_by_what_they_say(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher calls red, blue, two, yes its answers 2, -, 0, 3; the student learns nothing of blue."""
    monkeypatch.setattr(teachers, "has_tags", lambda *_: False)
    task, cfg = tasks.load("vqa", ["red", "blue", "two", "yes"]), config(teacher="t", model="oscar")
    given = answering(corpus, tmp_path / "t", ["two", "no", "red", "yes"], cfg)
    joined = teachers.join([given], cfg, task, corpus)
    batch = batch_of(corpus, given)
    own, asked = given.model.eval()(batch).logits, joined.model.eval()(batch).logits
    assert torch.equal(asked[:, [0, 2, 3]], own[:, [2, 0, 3]])
    assert (asked.softmax(-1)[:, 1] == 0).all()
    student = torch.randn(len(asked), 4, requires_grad=True)
    kd_loss(student, asked, 2.0).backward()
    assert student.grad.isfinite().all() and (student.grad[:, 1] > 0).all()  # blue is pushed down
    data = open_data(corpus, TASK, given.words, cfg)
    started = start_student(cfg, task, data, joined)
    assert started.model.config.num_labels == 4 and started.meta["answers"] == ["red", "blue", "two", "yes"]
    kept = given.model.bert.encoder.layer[0].state_dict()
    assert all(torch.equal(kept[name], w) for name, w in started.model.bert.encoder.layer[0].state_dict().items())
    with pytest.raises(ConfigError, match="reptile=true: .* has other answers, or another order of them"):
        teachers.join([given], dataclasses.replace(cfg, reptile=True), task, corpus)


def test_a_teacher_must_know_half_the_answers(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "has_tags", lambda *_: False)
    given = answering(corpus, tmp_path / "t", ["two", "no", "maybe"], config())
    cfg = config(teacher="t")
    assert teachers.places_of(given, tasks.load("vqa", ["red", "two"])) == [-1, 0]
    with pytest.raises(CheckpointError, match="knows 1 of the corpus's 3 answers, expected at least 50%"):
        teachers.join([given], cfg, tasks.load("vqa", ["red", "two", "yes"]), corpus)
    given.meta["answers"] = []
    assert teachers.places_of(given, tasks.load("vqa", ["a", "b", "c"])) is None
    with pytest.raises(CheckpointError, match="3 answers without their names, the corpus has 2"):
        teachers.places_of(given, tasks.load("vqa", ["red", "two"]))


def test_several_teachers_are_the_mean_of_their_logits(corpus: Corpus, tmp_path: Path) -> None:
    paths = [tmp_path / str(seed) for seed in range(3)]
    for seed, path in enumerate(paths):
        teacher_of(corpus, path, seed=seed)
    cfg = config(teacher=", ".join(map(str, paths)), method="mkd")
    teacher, measured = obtain_teacher(cfg, TASK, corpus)
    assert measured is None and isinstance(teacher.model, Ensemble) and teacher.meta["uri"] == cfg.teacher
    data = open_data(corpus, TASK, teacher.words, cfg)
    batch = data.train.batch([0, 1, 2])
    alone = [checkpoints.load(path).model.eval()(batch).logits for path in paths]
    torch.testing.assert_close(teacher.model.eval()(batch).logits, sum(alone) / 3)
    student = start_student(cfg, TASK, data, teacher)
    kept = checkpoints.load(paths[0]).model
    assert same_weights(student.model.bert.embeddings, kept.bert.embeddings)
    assert same_weights(student.model.classifier, kept.classifier)
    objective = distillation("mkd", teacher.model, TASK.loss, alpha=1.0, temperature=2.0)
    assert objective(student.model, batch).total > 0


def test_a_student_starts_from_the_first_of_several_systems(corpus: Corpus, tmp_path: Path) -> None:
    paths = {system: tmp_path / system for system in ("oscar", "lxmert")}
    for system, path in paths.items():
        teacher_of(corpus, path, model=system)
    cfg = config(teacher=f"{paths['oscar']},{paths['lxmert']}")
    teacher, _ = obtain_teacher(cfg, TASK, corpus)
    student = start_student(cfg, TASK, open_data(corpus, TASK, teacher.words, cfg), teacher)
    assert same_weights(student.model.bert.embeddings, checkpoints.load(paths["oscar"]).model.bert.embeddings)
    with pytest.raises(ConfigError, match="student_init=first: .*lxmert is of lxmert"):
        obtain_teacher(dataclasses.replace(cfg, teacher=f"{paths['lxmert']},{paths['oscar']}"), TASK, corpus)


def test_an_answer_counts_by_those_who_know_it() -> None:
    one, other = torch.tensor([[1.0, -torch.inf, -torch.inf]]), torch.tensor([[3.0, 4.0, -torch.inf]])
    assert mean_of_known(torch.stack([one, other])).tolist() == [[2.0, 4.0, -torch.inf]]
    least = torch.full((2, 1, 2), torch.finfo(torch.float32).min)
    assert mean_of_known(least).isfinite().all()
