"""Fine-tuning from pixels at toy size: batches of one canvas, two optimizers, a resumed run."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from vlx.corpora.pixels import Canvas, canvas_of
from vlx.training.batching import Data, open_data
from vlx.training.pixel_training import PixelSplit, all_as_pixels

from tests.checkpoints.test_clip_vil import write_parts
from tests.training.pixel_toy import SHAPES, jpg
from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints, corpora, tasks
from vlx.checkpoints import Loaded
from vlx.config import FinetuneConfig
from vlx.corpora import Corpus, Example, pixels
from vlx.corpora.writer import CorpusWriter
from vlx.errors import ConfigError
from vlx.tokenization import SPECIAL
from vlx.training import recipes
from vlx.training.loop import Best

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220)}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A question about each picture of one colour, a third of them wide."""
    with CorpusWriter(tmp_path / "corpus") as writer:
        for split, count in {"train": 18, "val": 6, "test": 6}.items():
            rows = []
            for number in range(count):
                colour, shape, image = list(COLOURS)[number % 2], SHAPES[number % 3], f"{split}-{number}"
                writer.add_image(image, size=shape, data=jpg(shape, COLOURS[colour]))
                words = "what color is the picture ?" if number % 2 else "color ?"
                rows.append(Example(str(number), words, [image], [colour], [1.0], extra='{"labeled": true}'))
            writer.add_examples("vqa_rad", split, rows)
        writer.add_answers("vqa_rad", list(COLOURS))
        writer.commit(reader="toy", detector="none", source=[])
    return corpora.open(tmp_path / "corpus")


def config(**options: object) -> FinetuneConfig:
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vocab_size": 60, "task": "vqa_rad"}
    seen = {"model": "clip_vil", "vision_width": 2, "shortest": 32, "longest": 64, "aspect_groups": 0, "kept_places": 1}
    apart = {"vision_lr": 0.01, "vision_milestones": "1", "max_text_tokens": 12, "dropout": 0.1, "precision": "fp32"}
    short = {"steps": 8, "warmup_steps": 2, "batch_size": 4, "eval_every": 4, "checkpoint_every": 3, "log_every": 2}
    return FinetuneConfig(**(small | seen | apart | short | options))


def started(cfg: FinetuneConfig, corpus: Corpus) -> tuple[Loaded, tasks.Task, Data]:
    task = tasks.load(cfg.task, corpus.answers(cfg.task))
    made = recipes.start_from(cfg, task, corpus) if cfg.weights else recipes.new_model(cfg, task, corpus)
    return made, task, all_as_pixels(open_data(corpus, task, made.words, cfg), cfg)


def test_a_batch_is_of_one_canvas_and_scores_do_not_depend_on_it(corpus: Corpus) -> None:
    made, task, data = started(config(), corpus)
    train, test = data.train, data.test
    assert isinstance(train, PixelSplit) and isinstance(test, PixelSplit)
    for indices in train.epoch_batches(4, seed=0, epoch=0):
        batch = train.training_batch(indices, seed=0, epoch=0)
        wide = {
            corpus.image_size(train.images[index])[0] > corpus.image_size(train.images[index])[1] for index in indices
        }
        assert batch["pixels"].shape == (4, 3, *((32, 64) if wide == {True} else (64, 32))) and len(wide) == 1
        assert batch["kept_places"].shape == (4, 1) and batch["targets"].sum(1).tolist() == [1.0] * 4
    found = [index for indices in test.ordered_batches(2) for index in indices]
    assert sorted(found) == list(range(6)) and "kept_places" not in test.batch(found[:2])
    picture = Image.open(BytesIO(corpus.image_bytes(test.images[1]) or b""))
    assert torch.equal(test.batch([1])["pixels"][0], pixels.pixels(picture, shortest=32, longest=64))
    shapes = [(corpus.image_size(test.images[index]), index) for index in range(6)]
    upright = [index for (width, height), index in shapes if width <= height]
    made.model.eval()
    with torch.no_grad():
        together = made.model(test.batch(upright)).logits
        alone = torch.cat([made.model(test.batch([index])).logits for index in upright])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def learnt(cfg: FinetuneConfig, corpus: Corpus, folder: Path, run: Recorder) -> tuple[Loaded, Best]:
    run.folder = folder  # type: ignore[attr-defined]
    made, task, data = started(cfg, corpus)
    best = recipes.learn(made.model, recipes.from_labels(cfg, task), data, task, cfg, run, "toy")  # type: ignore[arg-type]
    return made, best


def test_colours_are_learnt_from_pixels(corpus: Corpus, tmp_path: Path) -> None:
    run = Recorder()
    _, best = learnt(config(steps=60, dropout=0.0, kept_places=0, lr=3e-3), corpus, tmp_path / "run", run)
    assert best.value == 1.0
    assert run.metrics[2]["train/lr_vision"] == 0.01 and run.metrics[60]["train/lr_vision"] == pytest.approx(0.001)


@pytest.mark.slow
def test_a_run_that_stopped_ends_in_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    whole, _ = learnt(config(), corpus, tmp_path / "whole", Recorder())
    with pytest.raises(Stopped):
        learnt(config(), corpus, tmp_path / "parts", Recorder(5))
    torch.rand(3)  # a new process would have another generator state
    again, _ = learnt(config(), corpus, tmp_path / "parts", Recorder())
    assert same_weights(again.model, whole.model)


def test_it_starts_from_clips_and_berts_weights_or_from_a_model_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    clip, bert, source = write_parts(tmp_path)
    entries = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz?", *(f"##{letter}" for letter in "abcdefghijklmnopqr")]
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    made, _, _ = started(config(clip=str(clip), bert=str(bert)), corpus)
    own, given = made.model.state_dict(), source.state_dict()
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(own[name], given[name]) and own["answer_head.logit_fc.3.weight"].shape[0] == 2
    folder = checkpoints.save(tmp_path / "model", made.model, made.tokenizer, made.meta)
    again, _, _ = started(config(weights=str(folder)), corpus)
    assert same_weights(again.model, made.model)
    with pytest.raises(ConfigError, match="model=lxmert: .* is of clip_vil; give model=clip_vil"):
        recipes.start_from(
            FinetuneConfig(task="vqa_rad", model="lxmert", weights=str(folder)), tasks.load("nlvr2"), corpus
        )


def test_a_model_tells_how_it_reads_pictures_or_is_read_as_published(corpus: Corpus) -> None:
    made, _, _ = started(config(), corpus)
    assert canvas_of(made.meta) == Canvas(32, 64, 0) and made.meta["region_dim"] == 0
    assert canvas_of({"system": "clip_vil"}) == Canvas(384, 640, 0)
