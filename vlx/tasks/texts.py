"""Token ids of texts, alone or followed by a second text: an answer choice or the object tags of an image."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from datasets import Dataset

from vlx.tokenization import WordPiece

TagLookup = Callable[[str], list[str]]  # image id -> names of the objects in the image


class EncodedTexts(NamedTuple):
    """Token ids of one example's texts, and their segments (empty: all 0)."""

    texts: tuple[list[int], ...]
    segments: tuple[list[int], ...] = ()


def encode_texts(examples: Dataset, tokenizer: WordPiece, *, limit: int, tags: TagLookup | None) -> list[EncodedTexts]:
    """Encode [CLS] text [SEP], once for all images of an example; where any image has tags, [CLS] text [SEP] tags [SEP]
    for each image (Oscar, oscar/run_nlvr.py)."""
    rows = list(zip(examples["image_ids"], examples["extra"], strict=True)) if tags else []
    tag_lines = [tags_of(image_ids, extra, tags) for image_ids, extra in rows] if tags else []
    if any(any(lines) for lines in tag_lines):
        return encode_text_pairs(examples["text"], tag_lines, tokenizer, limit=limit)
    return [EncodedTexts((ids,)) for ids in tokenizer.encode(examples["text"], limit=limit)]


def encode_text_pairs(
    texts: Sequence[str], seconds: Sequence[Sequence[str]], tokenizer: WordPiece, *, limit: int
) -> list[EncodedTexts]:
    """Encode [CLS] text [SEP] second [SEP] for each of a text's seconds."""
    firsts = [text for text, lines in zip(texts, seconds, strict=True) for _ in lines]
    pairs = iter(tokenizer.encode_pairs(firsts, [line for lines in seconds for line in lines], limit=limit))
    groups = [[next(pairs) for _ in lines] for lines in seconds]
    return [EncodedTexts(tuple(ids for ids, _ in group), tuple(segments for _, segments in group)) for group in groups]


def tags_of(image_ids: Sequence[str], extra: str, tags: TagLookup) -> list[str]:
    """Return one line of tags per image: those of the example, else those of the detector."""
    lines = json.loads(extra).get("tags") if extra else None
    return list(lines) if lines else [" ".join(tags(image_id)) for image_id in image_ids]
