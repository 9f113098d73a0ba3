"""Formats are found through the registry, by name, id space and task."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlx import corpora
from vlx.corpora import formats
from vlx.corpora.formats import annotations
from vlx.corpora.formats.format import Format
from vlx.errors import CorpusError
from vlx.registry import FORMATS


def test_the_registry_names_every_format_once() -> None:
    registered = [formats.load(name) for name in FORMATS]
    modules = [
        importlib.import_module(f"{annotations.__name__}.{info.name}")
        for info in pkgutil.iter_modules(annotations.__path__)
    ]
    defined = {id(value) for module in modules for value in vars(module).values() if isinstance(value, Format)}
    assert all(isinstance(spec, Format) for spec in registered)
    assert {id(spec) for spec in registered} == defined and len(registered) == len(defined)
    assert corpora.FORMATS is FORMATS


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="format vqe: expected some of nlvr2, nlvr, .*oscar-retrieval, joined by"):
        formats.prepare("nlvr2+vqe", tmp_path, tmp_path / "corpus")


@pytest.mark.parametrize("names", ["vqa+gqa", "oscar-vqa+lxmert-pretrain", "vilbert-refcoco+vilbert-visual-genome-qa"])
def test_formats_that_number_other_images_are_prepared_apart(tmp_path: Path, names: str) -> None:
    with pytest.raises(CorpusError, match="COCO and Visual Genome number images differently. Prepare them apart"):
        formats.prepare(names, tmp_path, tmp_path / "corpus")


@pytest.mark.parametrize("names", ["vqa+refcoco+", "lxmert-pretrain+lxmert-vqa+lxmert-gqa", "gqa+vqa-rad"])
def test_formats_of_one_id_space_share_a_corpus(tmp_path: Path, names: str) -> None:
    with pytest.raises(CorpusError, match="found no"):
        formats.prepare(names, tmp_path, tmp_path / "corpus")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("vqa", "vqa"),
        ("refcoco+", "refcoco+"),
        ("retrieval", "coco-captions"),
        ("snli_ve", "snli-ve"),
        ("vqa_rad", "vqa-rad"),
        ("genome_qa", "genome_qa"),
    ],
)
def test_a_task_has_a_default_format(task: str, name: str) -> None:
    assert formats.default_format(task) == name


def test_opening_a_corpus_imports_no_reader_and_no_torch() -> None:
    heavy = "import sys, vlx.corpora; print(sorted({'torch', 'scipy', 'lmdb', 'datasets'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"
