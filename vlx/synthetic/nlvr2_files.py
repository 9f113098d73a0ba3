"""NLVR2's official files: one JSON object a line and split."""

import random
from pathlib import Path

from vlx.synthetic import nlvr2_statements as statements
from vlx.synthetic.records import ImageSet, SetRequest, Splits, write_lines


def generate_nlvr2(rng: random.Random, request: SetRequest) -> ImageSet:
    missing = -(-request.count // statements.NUM_PAIRS)  # sentences, rounded up
    pairs, sentences = statements.generate_set(
        rng, request.part, level=request.level, num_sentences=min(statements.NUM_SENTENCES, missing)
    )
    set_name = f"{request.split}-{request.index}"
    records = [
        {
            "identifier": f"{set_name}-{pair}-{index}",
            "synset": sentence.category,
            "sentence": sentence.text,
            "label": str(label),
        }
        for index, sentence in enumerate(sentences)
        for pair, label in enumerate(sentence.labels)
    ]
    images = {
        f"{set_name}-{number}-img{index}": shapes
        for number, pair in enumerate(pairs)
        for index, shapes in enumerate(pair)
    }
    return ImageSet(images, records)


def write_nlvr2(folder: Path, splits: Splits) -> None:
    for split, records in splits.items():
        write_lines(folder / f"{split}.json", records)
