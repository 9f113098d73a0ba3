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
    """Lower-cased WordPiece with its vocabulary; token 0 is the padding. Raises CheckpointError if a special token is
    missing."""

    def __init__(self, vocab: dict[str, int]) -> None:
        missing = [token for token in SPECIAL[:4] if token not in vocab]
        if missing:
            raise CheckpointError(
                f"vocabulary of {len(vocab)} entries lacks {', '.join(missing)}; expected a BERT vocab.txt."
            )
        self.vocab = vocab
        self.tokenizer = BertWordPieceTokenizer(vocab=vocab, lowercase=True)
        self.cls, self.sep = vocab["[CLS]"], vocab["[SEP]"]

    def __len__(self) -> int:
        return max(self.vocab.values()) + 1

    @property
    def mask(self) -> int:
        """The id of [MASK]."""
        return self.vocab["[MASK]"]

    def encode(self, texts: Sequence[str], *, limit: int) -> list[list[int]]:
        """[CLS] text [SEP] of each text, the text cut so that the whole has at most `limit` >= 3 tokens."""
        return [self.with_special_tokens(ids[: limit - 2])[0] for ids in self.token_ids(texts)]

    def encode_pairs(
        self, texts: Sequence[str], seconds: Sequence[str], *, limit: int, cut: Cut = "longer"
    ) -> list[tuple[list[int], list[int]]]:
        """Ids and segments of each [CLS] text [SEP] second [SEP], cut to `limit` tokens; an empty second is left out.
        Oscar's second texts are the object tags of the image."""
        pairs = zip(self.token_ids(texts), self.token_ids(seconds), strict=True)
        return [self.with_special_tokens(*cut_pair(first, second, limit=limit, cut=cut)) for first, second in pairs]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text without special tokens."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.tokenizer.id_to_token(token) for token in ids]

    def with_special_tokens(
        self, first: Sequence[int], second: Sequence[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Ids [CLS] first [SEP] second [SEP], and their segments: 0, and 1 in the second part with its [SEP]."""
        tail = [] if second is None else [*second, self.sep]
        return [self.cls, *first, self.sep, *tail], [0] * (len(first) + 2) + [1] * len(tail)

    def save(self, folder: Path) -> None:
        """Write vocab.txt, and the files from which transformers' AutoTokenizer loads the same tokenizer."""
        from transformers import PreTrainedTokenizerFast

        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        if "[MASK]" in self.vocab:
            special["mask_token"] = "[MASK]"
        names = ["input_ids", "token_type_ids", "attention_mask"]  # of a call's result, as of BERT's tokenizer
        backend = self.tokenizer._tokenizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=names, **special)
        tokenizer.save_pretrained(folder)
        lines = sorted(self.vocab, key=lambda token: self.vocab[token])
        (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "WordPiece":
        """Read vocab.txt, one entry a line, the line number is the id."""
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; a BERT vocab.txt belongs beside the weights.")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path}: not UTF-8 text ({error.reason}); expected a BERT vocab.txt.") from error
        entries = lines[:-1] if lines[-1] == "" else lines
        return cls({entry: index for index, entry in enumerate(entries)})

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
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        entries = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters), *by_frequency])
        return cls(
            {entry: index for index, entry in enumerate(list(entries)[: max(size, len(SPECIAL) + 2 * len(characters))])}
        )


def cut_pair(
    first: Sequence[int], second: Sequence[int], *, limit: int, cut: Cut
) -> tuple[list[int], list[int] | None]:
    """Cut a pair so that it has at most `limit` tokens with its special tokens. longer: remove the last token of the
    longer one, or of the second if both are as long, until it fits; second: cut the second to the room that the first
    leaves. None: there is no second."""
    if not second:
        return list(first[: limit - 2]), None
    if cut == "second":
        room = limit - 3 - len(first[: limit - 2])
        return list(first[: limit - 2]), list(second[:room]) if room >= 0 else None
    first, second = list(first), list(second)
    while len(first) + len(second) > limit - 3:
        (first if len(first) > len(second) else second).pop()
    return first, second or None
