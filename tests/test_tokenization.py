"""WordPiece: the original's ids from its vocab.txt; the same texts give the same vocabulary."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from vlx.errors import CheckpointError
from vlx.tokenization import SPECIAL, WordPiece


def test_a_checkpoints_vocabulary_gives_its_ids(tmp_path: Path) -> None:
    entries = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", ",", "runn", "##ing"]
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    assert WordPiece.load(tmp_path / "vocab.txt").encode(["UNaffable, RUNNING zebra"], limit=20) == [
        [3, 5, 6, 7, 8, 9, 10, 2, 4]
    ]


def test_training_is_deterministic_and_covers_every_letter() -> None:
    texts = ["Two red circles!", "red squares, two", "über alles"]
    tokenizer = WordPiece.train(texts, size=200)
    assert tokenizer.vocab == WordPiece.train(reversed(texts), size=200).vocab
    (ids,) = tokenizer.encode(["über two red zebras"], limit=50)
    assert tokenizer.vocab["[UNK]"] in ids  # z is in no text
    (ids,) = tokenizer.encode(["uber red des"], limit=50)
    assert tokenizer.vocab["[UNK]"] not in ids  # every letter of the texts is an entry


def test_a_small_vocabulary_keeps_letters_and_the_most_frequent_words() -> None:
    tokenizer = WordPiece.train(["aa aa bb"], size=len(SPECIAL) + 5)
    assert list(tokenizer.vocab) == [*SPECIAL, "a", "b", "##a", "##b", "aa"]


def test_a_saved_and_loaded_vocabulary_is_equal(tmp_path: Path) -> None:
    tokenizer = WordPiece.train(["a b c"], size=100)
    tokenizer.save(tmp_path)
    assert WordPiece.load(tmp_path / "vocab.txt").vocab == tokenizer.vocab


@pytest.mark.parametrize("mask", [True, False])
def test_auto_tokenizer_loads_the_same_tokenizer(tmp_path: Path, mask: bool) -> None:
    texts = ["Two RED circles, über-alles!", "a zebra", ""]
    seconds = ["red squares", "two", "circles"]
    entries = WordPiece.train(["two red circles, uber alles!", "squares"], size=60).vocab
    if not mask:
        entries = {entry: number for number, entry in enumerate(entry for entry in entries if entry != "[MASK]")}
    tokenizer = WordPiece(entries)
    tokenizer.save(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(texts)["input_ids"] == tokenizer.encode(texts, limit=100)
    pairs = loaded(texts, seconds)
    expected = tokenizer.encode_pairs(texts, seconds, limit=100)
    assert list(zip(pairs["input_ids"], pairs["token_type_ids"], strict=True)) == expected
    assert (loaded.cls_token_id, loaded.sep_token_id, loaded.pad_token_id) == (tokenizer.cls, tokenizer.sep, 0)
    assert loaded.mask_token_id == (tokenizer.mask if mask else None)
    assert len(loaded) == len(tokenizer)


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
    """The tokens and segments of a pair of five and three words."""
    tokenizer = WordPiece.train(["a b c d e x y z"], size=100)
    ((ids, segments),) = tokenizer.encode_pairs(["a b c d e"], ["x y z"], limit=limit, cut=cut)
    return [token.strip("[]") for token in tokenizer.tokens(ids)], segments


@pytest.mark.parametrize(
    ("limit", "cut", "expected"),
    [
        (11, "longer", "CLS a b c d e SEP x y z SEP"),
        (10, "longer", "CLS a b c d SEP x y z SEP"),
        (8, "longer", "CLS a b c SEP x y SEP"),  # of three and three, the second is cut
        (7, "longer", "CLS a b SEP x y SEP"),
        (4, "longer", "CLS a SEP"),  # the second is empty: no second [SEP]
        (11, "second", "CLS a b c d e SEP x y z SEP"),
        (9, "second", "CLS a b c d e SEP x SEP"),
        (8, "second", "CLS a b c d e SEP SEP"),  # as Oscar
        (7, "second", "CLS a b c d e SEP"),
        (5, "second", "CLS a b c SEP"),
    ],
)
def test_a_pair_is_cut_as_oscar_cuts_it(limit: int, cut: str, expected: str) -> None:
    tokens, segments = pairs(limit, cut)
    assert " ".join(tokens) == expected and len(tokens) <= limit
    first = tokens.index("SEP") + 1
    assert segments == [0] * first + [1] * (len(tokens) - first)


@pytest.mark.parametrize("cut", ["longer", "second"])
def test_an_empty_second_text_is_left_out(cut: str) -> None:
    tokenizer = WordPiece.train(["a b c"], size=100)
    texts = ["a b c", "a"]
    ids = tokenizer.encode(texts, limit=4)
    assert tokenizer.encode_pairs(texts, ["", " "], limit=4, cut=cut) == [(row, [0] * len(row)) for row in ids]
