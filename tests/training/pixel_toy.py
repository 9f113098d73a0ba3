"""Pictures of one colour each, of three shapes, and what is said of them: small enough to pre-train in a test."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from vlx import corpora
from vlx.config import PretrainConfig
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (30, 60, 220)}
SHAPES = ((48, 32), (32, 48), (40, 40))
SPLITS = {"mscoco_train": 18, "mscoco_minival": 6}


def jpg(size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    Image.new("RGB", size, colour).save(buffer := BytesIO(), "JPEG")
    return buffer.getvalue()


def write_corpus(out: Path) -> Corpus:
    """A caption and a question of every picture; a colour has every shape."""
    with CorpusWriter(out) as writer:
        for split, pictures in SPLITS.items():
            rows = []
            for number in range(pictures):
                colour, shape, image = list(COLOURS)[number % 3], SHAPES[number // 3 % 3], f"{split}-{number}"
                writer.add_image(image, size=shape, data=jpg(shape, COLOURS[colour]))
                rows.append(Example(f"{image}-caption", f"a {colour} picture", [image], category="mscoco"))
                asked, extra = "what color is the picture ?", '{"labeled": true}'
                rows.append(Example(f"{image}-qa", asked, [image], [colour], [1.0], category="vqa", extra=extra))
            writer.add_examples("pretrain", split, rows)
        writer.add_answers("pretrain", list(COLOURS))
        writer.commit(reader="toy", detector="none", source=[])
    return corpora.open(out)


def config(**options: Any) -> PretrainConfig:
    """8 steps of 4 batches an epoch, each of two micro-batches; a checkpoint every third."""
    small = {"model": "clip_vil", "hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vocab_size": 60}
    seen = {"vision_width": 2, "shortest": 32, "longest": 64, "kept_places": 1, "aspect_groups": 0, "dropout": 0.1}
    apart = {"vision_lr": 0.01, "vision_momentum": 0.9, "vision_milestones": "1", "max_text_tokens": 12}
    short = {"steps": 8, "warmup_steps": 2, "batch_size": 8, "accumulation": 2, "precision": "fp32"}
    often = {"eval_every": 4, "checkpoint_every": 3, "log_every": 2}
    return PretrainConfig(**(small | seen | apart | short | often | options))
