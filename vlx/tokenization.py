"""BERT WordPiece: from a checkpoint's vocab.txt, or trained on a corpus."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from vlx.errors import CheckpointError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


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
        pieces = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[self.cls, *encoding.ids[: limit - 2], self.sep] for encoding in pieces]

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
