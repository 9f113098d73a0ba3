"""The real corpora beside the project, where there are any, are prepared whole; counts as their README has them."""

import itertools
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.corpora.files import FEATURES, regions, write_lines
from vlx import corpora

pytestmark = pytest.mark.slow


def sizes(corpus: corpora.Corpus, task: str) -> dict[str, int]:
    """Examples by split, of a corpus without any serious fault."""
    assert [finding for finding in corpora.validate.validate(corpus) if finding.serious] == []
    return {split: corpus.examples(task, split).num_rows for split in corpus.splits(task)}


def real(data_dir: Path, name: str) -> Path:
    if not (data_dir / name).is_dir():
        pytest.skip(f"no {name} in {data_dir}")
    return data_dir / name


def test_vqa_rad(data_dir: Path, tmp_path: Path) -> None:
    source = real(data_dir, "vqa_rad")
    found = sizes(corpus := corpora.prepare("vqa-rad", source, tmp_path / "corpus"), "vqa_rad")
    rows = json.loads((source / "VQA_RAD Dataset Public.json").read_text(encoding="utf-8"))
    types = Counter(row["answer_type"].strip().lower() for row in rows)
    assert sum(found.values()) == len(rows) == 1_797 and len(corpus.image_ids()) == 313
    assert types == Counter(kind for split in found for kind in corpus.examples("vqa_rad", split)["category"])
    named = [set(itertools.chain(*corpus.examples("vqa_rad", split)["image_ids"])) for split in found]
    assert sum(map(len, named)) == len(set.union(*named)), "an image is in two splits"
    assert list(map(len, named)) == [251, 31, 31]


def test_flickr8k(data_dir: Path, tmp_path: Path) -> None:
    corpus = corpora.prepare("flickr8k", real(data_dir, "flickr8k_sub"), tmp_path / "corpus")
    assert sizes(corpus, "retrieval") == {"train": 3_200, "val": 400, "test": 400} and len(corpus.image_ids()) == 800
    groups = [name for split in corpus.splits("retrieval") for name in corpus.examples("retrieval", split)["group"]]
    assert set(Counter(groups).values()) == {5}


def test_nlvr2_needs_regions_of_its_images(data_dir: Path, tmp_path: Path) -> None:
    """Its images are not free to give away, so the test makes up regions of those the annotations name."""
    text = real(data_dir, "nlvr2") / "data" / "dev.json"
    rows = [json.loads(line) for line in text.read_text(encoding="utf-8").splitlines()]
    names = {f"{row['identifier'].rpartition('-')[0]}-img{side}" for row in rows for side in (0, 1)}
    write_lines(tmp_path / "source" / "dev.json", rows)
    torch.save({name: regions(2) for name in sorted(names)}, tmp_path / "source" / FEATURES)
    corpus = corpora.prepare("nlvr2", tmp_path / "source", tmp_path / "corpus")
    assert sizes(corpus, "nlvr2") == {"dev": 6_982} and len(corpus.image_ids()) == len(names)
    assert set(corpus.examples("nlvr2", "dev")["label"]) == {0, 1}


def test_nlvr(data_dir: Path, tmp_path: Path) -> None:
    """All of dev; of train every eleventh directory, as its 11,175 images take minutes."""
    source = real(data_dir, "nlvr")
    lines = (source / "train" / "train.json").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 11_175
    rows = [row for row in map(json.loads, lines) if int(row["directory"]) % 11 == 0]
    write_lines(tmp_path / "source" / "train" / "train.json", rows)
    (tmp_path / "source" / "train" / "images.tar").symlink_to(source / "train" / "images.tar")
    (tmp_path / "source" / "dev").symlink_to(source / "dev", target_is_directory=True)
    with tarfile.open(source / "dev" / "images.tar") as archive:
        assert sum(member.name.endswith(".png") for member in archive) == 5_934
    corpus = corpora.prepare("nlvr", tmp_path / "source", tmp_path / "corpus")
    found = sizes(corpus, "nlvr")
    assert found["dev"] == 989 and found["train"] + found["val"] == len(rows) > 900
    assert len(corpus.image_ids()) == 3 * (989 + len(rows))
