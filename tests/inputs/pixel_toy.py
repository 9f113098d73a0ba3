"""Images of one color each, of three shapes, and texts about them: small enough to train on in a test."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from vlx import corpora
from vlx.corpora import Corpus, Example
from vlx.corpora.writer import CorpusWriter

COLORS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (30, 60, 220)}
SHAPES = ((48, 32), (32, 48), (40, 40))
SPLITS = {"mscoco_train": 18, "mscoco_minival": 6}
QUESTIONS = ("color ?", "what color is the image ?")


def jpg(size: tuple[int, int], color: tuple[int, int, int]) -> bytes:
    Image.new("RGB", size, color).save(buffer := BytesIO(), "JPEG")
    return buffer.getvalue()


def write_pretraining_corpus(out: Path) -> Corpus:
    """A caption and a question of every image; a color has every shape."""
    with CorpusWriter(out) as writer:
        for split, images in SPLITS.items():
            rows = []
            for number in range(images):
                color = list(COLORS)[number % 3]
                shape = SHAPES[number // 3 % 3]
                image = f"{split}-{number}"
                writer.add_image(image, size=shape, data=jpg(shape, COLORS[color]))
                rows.append(Example(f"{image}-caption", f"a {color} image", [image], category="mscoco"))
                rows.append(question(f"{image}-qa", QUESTIONS[1], image, color))
            writer.add_examples("pretrain", split, rows)
        writer.add_answers("pretrain", list(COLORS))
        writer.commit(reader="toy", detector="none", source=[])
    return corpora.open(out)


def write_question_corpus(out: Path) -> Corpus:
    """A question about each image of one of two colors, a third of them wide."""
    colors = ["red", "blue"]
    with CorpusWriter(out) as writer:
        for split, count in {"train": 18, "val": 6, "test": 6}.items():
            rows = []
            for number in range(count):
                color = colors[number % 2]
                shape = SHAPES[number % 3]
                image = f"{split}-{number}"
                writer.add_image(image, size=shape, data=jpg(shape, COLORS[color]))
                rows.append(question(str(number), QUESTIONS[number % 2], image, color))
            writer.add_examples("vqa_rad", split, rows)
        writer.add_answers("vqa_rad", colors)
        writer.commit(reader="toy", detector="none", source=[])
    return corpora.open(out)


def question(identifier: str, text: str, image: str, answer: str) -> Example:
    return Example(identifier, text, [image], [answer], [1.0], category="vqa", extra='{"labeled": true}')
