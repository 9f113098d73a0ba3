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


def pairs(limit: int, cut: str) -> tuple[list[str], list[int]]:
    """The words and segments of a pair of five words and of three."""
    tokenizer = WordPiece.train(["a b c d e x y z"], size=100)
    ((ids, segments),) = tokenizer.encode_pairs(["a b c d e"], ["x y z"], limit=limit, cut=cut)
    names = {index: word for word, index in tokenizer.vocab.items()}
    return [names[one].strip("[]") for one in ids], segments


@pytest.mark.parametrize(
    ("limit", "cut", "words"),
    [
        (11, "longer", "CLS a b c d e SEP x y z SEP"),
        (10, "longer", "CLS a b c d SEP x y z SEP"),
        (8, "longer", "CLS a b c SEP x y SEP"),  # of three and three, the second is cut
        (7, "longer", "CLS a b SEP x y SEP"),
        (4, "longer", "CLS a SEP"),  # nothing is left of the second, nor its [SEP]
        (11, "second", "CLS a b c d e SEP x y z SEP"),
        (9, "second", "CLS a b c d e SEP x SEP"),
        (8, "second", "CLS a b c d e SEP SEP"),  # as Oscar
        (7, "second", "CLS a b c d e SEP"),
        (5, "second", "CLS a b c SEP"),
    ],
)
def test_a_pair_is_cut_as_oscar_cuts_it(limit: int, cut: str, words: str) -> None:
    found, segments = pairs(limit, cut)
    assert " ".join(found) == words and len(found) <= limit
    first = found.index("SEP") + 1
    assert segments == [0] * first + [1] * (len(found) - first)


@pytest.mark.parametrize("cut", ["longer", "second"])
def test_an_empty_second_text_is_left_out(cut: str) -> None:
    tokenizer = WordPiece.train(["a b c"], size=100)
    texts = ["a b c", "a"]
    ids = tokenizer.encode(texts, limit=4)
    assert tokenizer.encode_pairs(texts, ["", " "], limit=4, cut=cut) == [(one, [0] * len(one)) for one in ids]
