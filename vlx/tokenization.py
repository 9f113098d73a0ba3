"""BERT WordPiece: from a checkpoint's vocab.txt, or trained on a corpus."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from vlx.errors import CheckpointError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


Cut = Literal["longer", "second"]


class WordPiece:
    """Lower-cased WordPiece with its vocabulary; token 0 is the padding."""

    def __init__(self, vocab: dict[str, int]) -> None:
        missing = [word for word in SPECIAL[:4] if word not in vocab]
        if missing:
            raise CheckpointError(
                f"vocabulary of {len(vocab)} entries lacks {', '.join(missing)}; expected a BERT vocab.txt."
            )
        self.vocab = vocab
        self.tokenizer = BertWordPieceTokenizer(vocab=vocab, lowercase=True)
        self.cls, self.sep = vocab["[CLS]"], vocab["[SEP]"]

    def __len__(self) -> int:
        return max(self.vocab.values()) + 1

    def encode(self, texts: Sequence[str], *, limit: int) -> list[list[int]]:
        """[CLS] text [SEP] of each text, the text cut so that the whole has at most `limit` >= 3 tokens."""
        return [self.join(ids[: limit - 2])[0] for ids in self.pieces(texts)]

    def encode_pairs(
        self, texts: Sequence[str], seconds: Sequence[str], *, limit: int, cut: Cut = "longer"
    ) -> list[tuple[list[int], list[int]]]:
        """Ids and segments of each [CLS] text [SEP] second [SEP], cut to `limit` tokens; an empty second is left out.
        Oscar's pairs are a question or caption and the tags of its picture."""
        pairs = zip(self.pieces(texts), self.pieces(seconds), strict=True)
        return [self.join(*cut_pair(ids, others, limit=limit, cut=cut)) for ids, others in pairs]

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def words(self, ids: Sequence[int]) -> list[str]:
        return [self.tokenizer.id_to_token(token) for token in ids]

    def join(self, ids: Sequence[int], others: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Ids [CLS] ids [SEP] others [SEP], and their segments: 0, and 1 for the others and their [SEP]."""
        second = [] if others is None else [*others, self.sep]
        return [self.cls, *ids, self.sep, *second], [0] * (len(ids) + 2) + [1] * len(second)

    def save(self, folder: Path) -> None:
        words = sorted(self.vocab, key=lambda word: self.vocab[word])
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "WordPiece":
        """Read vocab.txt, one entry a line, the line number is the id."""
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; a BERT vocab.txt belongs beside the weights.")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path}: not UTF-8 text ({error.reason}); expected a BERT vocab.txt.") from error
        words = lines[:-1] if lines[-1] == "" else lines
        return cls({word: index for index, word in enumerate(words)})

    @classmethod
    def train(cls, texts: Iterable[str], *, size: int) -> "WordPiece":
        """Every character of these texts, alone and as `##` continuation, then their most frequent words, to `size`.

        The same texts give the same vocabulary; `tokenizers`' own trainer breaks ties by a random hash, so that two
        runs of one seed would differ.
        """
        normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
        lines = (splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts)
        counts = Counter(word for line in lines for word, _ in line)
        characters = sorted({character for word in counts for character in word})
        words = sorted(counts, key=lambda word: (-counts[word], word))
        entries = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters), *words])
        return cls(
            {entry: index for index, entry in enumerate(list(entries)[: max(size, len(SPECIAL) + 2 * len(characters))])}
        )


def cut_pair(ids: Sequence[int], others: Sequence[int], *, limit: int, cut: Cut) -> tuple[list[int], list[int] | None]:
    """A pair, cut so that it has at most `limit` tokens once it is joined: by the last token of the longer one (of the
    second if they are as long), again and again; or the second, to what room the first leaves. None: no second."""
    if not others:
        return list(ids[: limit - 2]), None
    if cut == "second":
        room = limit - 3 - len(ids[: limit - 2])
        return list(ids[: limit - 2]), list(others[:room]) if room >= 0 else None
    first, second = list(ids), list(others)
    while len(first) + len(second) > limit - 3:
        (first if len(first) > len(second) else second).pop()
    return first, second or None
