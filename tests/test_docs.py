"""README and the pages of docs/ hold: their commands parse, their links and paths exist, their examples run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlx import config, corpora
from vlx.corpora import Example, validate
from vlx.models.spec import load_spec
from vlx.recipes.requirements import features, load_method, method_needs
from vlx.registry import ARCHITECTURES, METHODS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
README_LINES = 160
LINK = re.compile(r"(!?)\[[^]]*\]\(([^)#]*)#?([^)]*)\)")
PATH = re.compile(r"`((?:vlx|entrypoints|tests|benchmarks|notebooks)/[\w./-]*)`")
FILE_BLOCK = re.compile(r"`(vlx/\S+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)  # of docs/extend.md
ENTRY_BLOCK = re.compile(r"The line in `(\w+)`.*?```\n(\".*?)\n```", re.DOTALL)
MODEL_URI = re.compile(r"models:/([\w-]+)")
REGISTERED = {
    "pretrain": "vlx-pretrained-{model}",
    "finetune": "vlx-{task}-{role}",
    "distill": "vlx-{task}-student",
    "import": "vlx-{model}-original",
}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", read(page), flags=re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Shell commands as lists of words, without comments."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def project_runs(page: Path) -> list[tuple[str, list[str]]]:
    """(verb, options) of every `mlflow run .` of a page."""
    runs = []
    for words in commands(page):
        if words[0].endswith("mlflow") and words[1:3] == ["run", "."]:
            options = [f"--{words[at + 1]}" for at, word in enumerate(words) if word == "-P"]
            runs.append((words[words.index("-e") + 1], options))
    return runs


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", read(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_id(page: Path) -> str:
    return page.stem


def test_the_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= README_LINES


def test_the_readme_links_every_page() -> None:
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in read(README)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for is_image, name, anchor in LINK.findall(read(page)):
        target = page.parent / name if name else page
        if is_image or name.startswith("http"):
            continue
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(f"{name}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_paths_of_the_project_exist(page: Path) -> None:
    examples = {name for name, _ in FILE_BLOCK.findall(read(page))}
    assert [name for name in PATH.findall(read(page)) if name not in examples and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_mlflow_commands_name_verbs_and_options(page: Path) -> None:
    for verb, options in project_runs(page):
        config.parse(config.VERBS[verb], options)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_make_commands_are_targets(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), flags=re.MULTILINE))
    targets |= set(re.search(r"^VERBS := (.*)$", read(ROOT / "Makefile"), flags=re.MULTILINE)[1].split())  # type: ignore[index]
    assert {words[1] for words in commands(page) if words[0] == "make"} <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_scripts_exist_and_take_the_options(page: Path) -> None:
    for words in commands(page):
        scripts = [word for word in words[:2] if word.endswith(".py")]
        assert all((ROOT / script).is_file() for script in scripts)
        if scripts and scripts[0].startswith("entrypoints/"):
            config.parse(config.VERBS[Path(scripts[0]).stem], [word for word in words[2:] if word != "--help"])


def test_the_readme_shows_setup_main_job_and_pages() -> None:
    targets = {words[1] for words in commands(README) if words[0] == "make"}
    assert {"setup", "distill", "ui", "check", "test"} <= targets
    assert set(config.VERBS) == {verb for verb, _ in project_runs(README)}


def test_every_command_of_the_readme_works_after_the_commands_above_it() -> None:
    """A registered model is named only below the command that registers it, and its champion below its promotion."""
    registered: set[str] = set()
    champions: set[str] = set()
    for verb, options in project_runs(README):
        cfg = config.parse(config.VERBS[verb], options)
        for uri in re.findall(r"models:/\S+", " ".join(options)):
            name = MODEL_URI.match(uri)[1]  # type: ignore[index]
            assert name in (champions if uri.endswith("@champion") else registered), f"{verb} {uri}"
        values = {"model": "", "task": "", "role": ""} | cfg.as_dict()
        if verb in REGISTERED:
            values["model"] = values["model"].replace("_", "-")
            registered.add(REGISTERED[verb].format(**values))
        if verb == "promote":
            assert values["name"] in registered
            champions.add(values["name"])
    served = [words[words.index("-m") + 1] for words in commands(README) if words[:3] == ["mlflow", "models", "serve"]]
    assert served and all(MODEL_URI.match(uri)[1] in champions for uri in served)  # type: ignore[index]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")


def test_the_example_of_your_own_data_makes_a_corpus_in_under_20_lines(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "data.md"
    (block,) = blocks(page, "python")
    assert len(block.splitlines()) < 20
    names: dict[str, corpora.Corpus] = {}
    exec(compile(block, str(page), "exec"), names)
    corpus = corpora.open("my-corpus")
    assert corpus.fingerprint == names["corpus"].fingerprint and corpus.region_dim == 2048
    assert corpus.manifest["examples"] == {"vqa_rad": {"train": 2, "val": 1, "test": 1}}
    rows = {row["identifier"]: row for split in corpus.splits("vqa_rad") for row in corpus.examples("vqa_rad", split)}
    assert rows["2"] == Example("2", "Which animal is it?", ["owl-03"], ["owl"], [1.0], category="open")._asdict()
    features, boxes = corpus.regions("owl-03")
    assert features.shape == (36, 2048) and (boxes[:, :2] <= boxes[:, 2:]).all()
    assert [finding for finding in validate.validate(corpus) if finding.serious] == []


def write_memes(source: Path) -> None:
    """Splits of memes with regions, as the format of docs/extend.md reads them."""
    rng = np.random.default_rng(0)
    (source / "regions").mkdir(parents=True)
    for split, count in (("train", 32), ("dev", 12), ("test", 12)):
        rows = [
            {"id": f"{split}{n}", "img": f"{split}{n}.png", "text": f"a cat {n}", "label": n % 2} for n in range(count)
        ]
        (source / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for row in rows:
            boxes = np.sort(rng.random((5, 2, 2)), axis=1).reshape(5, 4)
            np.savez(source / "regions" / f"{row['id']}.npz", features=rng.random((5, 8), np.float32), boxes=boxes)


@pytest.mark.slow
def test_the_four_examples_of_extend_distil_together(tmp_path: Path) -> None:
    """Each of the four files of docs/extend.md and each of its four lines, in a copy of the source."""
    page = read(ROOT / "docs" / "extend.md")
    for folder in ("vlx", "entrypoints"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE_BLOCK.findall(page)
    lines = ENTRY_BLOCK.findall(page)
    assert len(files) == 4 and [table for table, _ in lines] == ["ARCHITECTURES", "TASKS", "METHODS", "FORMATS"]
    for name, content in files:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(content, encoding="utf-8")
    registry = read(tmp_path / "vlx" / "registry.py")
    for table, line in lines:
        registry, count = re.subn(rf"^({table}\b.*{{)$", rf"\1\n    {line}", registry, flags=re.MULTILINE)
        assert count == 1
    (tmp_path / "vlx" / "registry.py").write_text(registry, encoding="utf-8")
    write_memes(tmp_path / "memes")
    (command,) = re.findall(r"^mlflow run .*$", page, flags=re.MULTILINE)
    options = [f"--{word}".replace("FOLDER", "memes") for word in command.split() if "=" in word]
    sizes = ["--teacher_steps=4", "--steps=4", "--warmup_steps=1", "--eval_every=2", "--train_examples=0", "--layers=2"]
    script = [sys.executable, "entrypoints/distill.py", *options, *sizes, "--student_layers=1", "--batch_size=8"]
    variables = os.environ | {"PYTHONPATH": str(tmp_path), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    run = subprocess.run(script, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "registered as vlx-memes-student, version 1" in run.stdout
    (result,) = tmp_path.glob("outputs/runs/distill-memes-*/result.json")
    assert json.loads(read(result))["scores"].keys() == {"accuracy", "harmful_recall"}


def test_the_table_of_methods_is_what_the_specs_say() -> None:
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| (.+?) \| (yes|no) \| (yes|no) \|$", read(ROOT / "docs" / "distillation.md"), re.M
    )
    table = {
        name: (set(re.findall(r"`(\w+)`", methods)), reptile, width)
        for names, methods, reptile, width in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    specs = {name: load_spec(name) for name, entry in ARCHITECTURES.items() if "distill" in entry.verbs}
    assert table == {
        name: (
            {method for method in METHODS if method_needs(load_method(method)) <= features(spec)},
            *("yes" if need in spec.capabilities else "no" for need in ("reptile", "student_width")),
        )
        for name, spec in specs.items()
    }
