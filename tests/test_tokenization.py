"""WordPiece: the original's ids from its vocab.txt; the same texts give the same vocabulary."""

from pathlib import Path

import pytest

from vlx.errors import CheckpointError
from vlx.tokenization import SPECIAL, WordPiece


def test_a_checkpoints_vocabulary_gives_its_ids(tmp_path: Path) -> None:
    words = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", ",", "runn", "##ing"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    assert WordPiece.load(tmp_path / "vocab.txt").encode(["UNaffable, RUNNING zebra"], limit=20) == [
        [3, 5, 6, 7, 8, 9, 10, 2, 4]
    ]


def test_training_is_deterministic_and_covers_every_word() -> None:
    texts = ["Two red circles!", "red squares, two", "über alles"]
    one, two = WordPiece.train(texts, size=200), WordPiece.train(reversed(texts), size=200)
    assert one.vocab == two.vocab
    (ids,) = one.encode(["über two red zebras"], limit=50)
    assert one.vocab["[UNK]"] in ids  # z was never seen
    (ids,) = one.encode(["uber red des"], limit=50)
    assert one.vocab["[UNK]"] not in ids  # every seen letter is an entry


def test_a_small_vocabulary_keeps_letters_and_the_most_frequent_words() -> None:
    tokenizer = WordPiece.train(["aa aa bb"], size=len(SPECIAL) + 5)
    assert list(tokenizer.vocab) == [*SPECIAL, "a", "b", "##a", "##b", "aa"]


def test_saved_and_loaded_vocabulary_is_the_same(tmp_path: Path) -> None:
    tokenizer = WordPiece.train(["a b c"], size=100)
    tokenizer.save(tmp_path)
    assert WordPiece.load(tmp_path / "vocab.txt").vocab == tokenizer.vocab


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match="lacks .PAD., .UNK., .CLS., .SEP.; expected a BERT vocab.txt"):
        WordPiece.load(tmp_path / "vocab.txt")
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="not UTF-8"):
        WordPiece.load(tmp_path / "vocab.txt")
    with pytest.raises(CheckpointError, match="no such file"):
        WordPiece.load(tmp_path / "none.txt")
