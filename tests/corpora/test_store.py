import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlx import corpora
from vlx.corpora import Example
from vlx.corpora import writer as writer_module
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)
BOXES = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]], np.float32)
ROW = Example("dev-0-0-0", "A dog.", ["a", "b"], label=1, group="dev-0--0", category="dog")


def write(out: Path, *, sentence: str = "A dog.", dtype: str = "float16", scale: float = 1.0) -> corpora.Corpus:
    with CorpusWriter(out, dtype=dtype) as writer:
        writer.add_image("a", FEATURES * scale, BOXES, size=(64, 48), data=None)
        writer.add_image("b", FEATURES[:1], BOXES[:1])
        writer.add_examples("nlvr2", "dev", [ROW._replace(text=sentence)])
        writer.commit(reader="test", detector="external", source=[])
    return corpora.open(out)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    corpus = write(tmp_path / "corpus", dtype=dtype)
    features, boxes = corpus.regions("a")
    assert features.dtype == dtype and np.array_equal(features, FEATURES) and np.array_equal(boxes, BOXES)
    assert np.array_equal(corpus.regions("b")[0], FEATURES[:1]) and corpus.num_regions("b") == 1
    assert (corpus.region_dim, corpus.detector, corpus.splits("nlvr2")) == (3, "external", ["dev"])
    assert corpus.examples("nlvr2", "dev")[0] == ROW._asdict() and corpus.image("a") is None


def test_regions_are_views_of_the_mapped_file_and_cannot_be_written(tmp_path: Path) -> None:
    features, _ = write(tmp_path / "corpus").regions("a")
    assert not features.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 1


def test_a_corpus_crosses_to_a_worker_as_its_path(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus")
    corpus.regions("a")
    data = pickle.dumps(corpus)
    assert len(data) < 500 and pickle.loads(data).fingerprint == corpus.fingerprint


def test_the_first_regions_come_without_pandas(tmp_path: Path) -> None:
    """It takes longer to import than a corpus takes to open."""
    path = write(tmp_path / "corpus").path
    script = f"import sys; from vlx import corpora; corpora.open({str(path)!r}).regions('a')"
    check = "; sys.exit('pandas' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", script + check], cwd=Path(__file__).parents[2]).returncode


def test_the_fingerprint_is_of_content_alone(tmp_path: Path) -> None:
    prints = [write(tmp_path / name).fingerprint for name in ("one", "two")]
    assert prints[0] == prints[1] and re.fullmatch("[0-9a-f]{64}", prints[0])
    others = [
        write(tmp_path / "sentence", sentence="A cat."),
        write(tmp_path / "feature", scale=2),
        write(tmp_path / "dtype", dtype="float32"),
    ]
    assert len({prints[0], *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize("name", ["features.npy", "boxes.npy", "images.arrow", "nlvr2-dev.arrow"])
def test_a_truncated_or_missing_file_is_named_with_both_sizes(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "corpus").path / name
    size = file.stat().st_size
    os.truncate(file, size - 1)
    with pytest.raises(CorpusError, match=f"{name}: found {size - 1:,} bytes, expected {size:,} bytes"):
        corpora.open(tmp_path / "corpus")
    file.unlink()
    with pytest.raises(CorpusError, match=f"{name}: found nothing, expected {size:,} bytes"):
        corpora.open(tmp_path / "corpus")


@pytest.mark.parametrize("name", ["features.npy", "boxes.npy", "images.arrow", "nlvr2-dev.arrow"])
def test_a_file_of_the_right_size_with_other_content_is_refused(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / "corpus").path / name
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(CorpusError, match=f"{name}: .*Prepare the corpus again"):
        corpora.open(tmp_path / "corpus").examples("nlvr2", "dev")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "vlx-corpus-0", "files": {}}', '{"files": 3}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (write(tmp_path / "corpus").path / "manifest.json").write_text(text)
    with pytest.raises(CorpusError, match=r"manifest\.json: "):
        corpora.open(tmp_path / "corpus")


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus")
    for ask, answer in (
        (lambda: corpus.regions("zebra"), "no image 'zebra' among 2"),
        (lambda: corpus.examples("nlvr2", "train"), "no split train of task nlvr2. Expected one of dev"),
        (lambda: corpus.splits("vqa"), "no examples of task vqa; it holds nlvr2"),
        (lambda: corpora.open(tmp_path), "no manifest.json, so not a prepared corpus"),
    ):
        with pytest.raises(CorpusError, match=answer):
            ask()


@pytest.mark.parametrize(
    ("features", "boxes", "message"),
    [
        (FEATURES[:0], BOXES[:0], r"features \[0, 3\]"),
        (FEATURES[:1], BOXES, r"features \[1, 3\] and boxes \[2, 4\]"),
        (np.ones((2, 4), np.float32), BOXES, r"features \[2, 4\].*expected \[R,3\]"),
        (FEATURES * np.nan, BOXES, "a feature is NaN"),
        (FEATURES * 1e6, BOXES, "beyond float16"),
        (FEATURES, BOXES * 2, "within 0..1"),
        (FEATURES, BOXES[:, [2, 1, 0, 3]], "x1 <= x2"),
        (FEATURES, BOXES * np.nan, "within 0..1"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_impossible_regions_are_refused(tmp_path: Path, features: np.ndarray, boxes: np.ndarray, message: str) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES)
        with pytest.raises(CorpusError, match=f"image b: .*{message}"):
            writer.add_image("b", features, boxes)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES)
        with pytest.raises(CorpusError, match="no images or no examples"):
            writer.commit(reader="test", detector="external", source=[])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_corpus_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    script = (
        "import numpy as np, os, signal, sys\n"
        "from vlx.corpora.writer import CorpusWriter\n"
        "with CorpusWriter(sys.argv[1]) as writer:\n"
        "    writer.add_image('a', np.ones((1, 3), np.float32), np.array([[0, 0, 1, 1]], np.float32))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "corpus")], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".corpus.partial-")
    with pytest.raises(CorpusError, match="no manifest.json"):
        corpora.open(tmp_path / "corpus")
    with pytest.raises(CorpusError, match="no manifest.json"):
        corpora.open(left)
    write(tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    before = write(tmp_path / "corpus").fingerprint
    with pytest.raises(CorpusError, match="already there"):
        write(tmp_path / "corpus", sentence="A cat.")
    assert corpora.open(tmp_path / "corpus").fingerprint == before


def test_two_writers_of_one_corpus_do_not_mix(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus") as first:
        first.add_image("a", FEATURES * 2, BOXES)
        fingerprint = write(tmp_path / "corpus").fingerprint
        with pytest.raises(OSError, match="No such file or directory"):
            first.add_examples("nlvr2", "dev", [ROW])
    assert corpora.open(tmp_path / "corpus").fingerprint == fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_long_corpus_is_written_in_batches_and_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = set()
    for rows in (1, 2, 5, 1_000):
        monkeypatch.setattr(writer_module, "ROWS_PER_BATCH", rows)
        with CorpusWriter(tmp_path / str(rows)) as writer:
            for number in range(5):
                writer.add_image(str(number), FEATURES + number, BOXES, data=b"%d" % number)
            writer.add_examples("nlvr2", "dev", [ROW._replace(identifier=str(number)) for number in range(5)])
            writer.commit(reader="test", detector="external", source=[])
        corpus = corpora.open(tmp_path / str(rows))
        fingerprints.add(corpus.fingerprint)
        assert [corpus.regions(str(number))[0][0, 0] for number in range(5)] == [0, 1, 2, 3, 4]
        assert list(corpus.examples("nlvr2", "dev")["identifier"]) == ["0", "1", "2", "3", "4"]
    assert len(fingerprints) == 1


def test_what_a_detector_says_besides_is_kept_for_every_region(tmp_path: Path) -> None:
    fields = {"objects_id": np.array([7, 9]), "objects_conf": np.array([0.5, 0.25]), "class_probs": np.eye(2)}
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES, fields=fields, tags=["dog", "cat"])
        writer.add_image("b", FEATURES[:1], BOXES[:1], fields={name: rows[1:] for name, rows in fields.items()})
        writer.add_examples("vqa", "val", [ROW])
        writer.add_answers("vqa", ["yes", "no"])
        writer.commit(reader="test", detector="external", source=[])
    corpus = corpora.open(tmp_path / "corpus")
    kept = corpus.fields("b")
    assert kept["objects_id"].tolist() == [9] and kept["objects_conf"].tolist() == [0.25]
    assert kept["class_probs"].dtype == np.float16 and kept["class_probs"].tolist() == [[0, 1]]
    assert corpus.tags("a") == ["dog", "cat"] and corpus.tags("b") == []
    assert corpus.answers("vqa") == ["yes", "no"] and corpus.answers("nlvr2") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "found .'boxes', 'features'., other images have .'boxes', 'features', 'objects_id'."),
        ({"objects_id": np.array([1, 2, 3])}, "objects_id .3. for 2 regions"),
        ({"objects": np.array([1, 2])}, "other images have"),
    ],
)
def test_regions_whose_fields_differ_are_refused(tmp_path: Path, fields: dict[str, np.ndarray], message: str) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", FEATURES, BOXES, fields={"objects_id": np.array([1, 2])})
        with pytest.raises(CorpusError, match=message):
            writer.add_image("b", FEATURES, BOXES, fields=fields)


def test_images_alone_make_a_corpus_but_not_a_mixture(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus") as writer:
        writer.add_image("a", data=b"image", size=(3, 4))
        writer.add_image("b", data=b"image")
        writer.add_examples("vqa", "val", [ROW])
        with pytest.raises(CorpusError, match="c.tsv:1: regions, but other images have none"):
            writer.add_image("c", FEATURES, BOXES, where="c.tsv:1")
        with pytest.raises(CorpusError, match="image a found twice"):
            writer.add_image("a", data=b"image")
        writer.commit(reader="test", detector="none", source=[])
    corpus = corpora.open(tmp_path / "corpus")
    assert corpus.region_dim == 0 and corpus.num_regions("a") == 0 and corpus.regions("b")[1].shape == (0, 4)
    assert (
        corpus.image_bytes("a") == b"image"
        and corpus.image_size("a") == (3, 4)
        and corpus.image_size("b") == (None, None)
    )
