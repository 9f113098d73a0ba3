"""Fine-tuning from pixels at toy size: batches of one frame, two optimizers, a resumed run."""

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.inputs.pixel_toy import write_question_corpus
from tests.recipes.pretraining_toy import write_clip_and_bert
from tests.training.toy import Recorder, Stopped, same_weights
from vlx import checkpoints, tasks
from vlx.checkpoints import Loaded
from vlx.config import FinetuneConfig
from vlx.corpora import Corpus
from vlx.errors import ConfigError
from vlx.inputs.dataset import TaskDatasets
from vlx.inputs.image_processor import ImageProcessor
from vlx.inputs.pixels import PixelInput
from vlx.models.spec import load_spec
from vlx.preprocessing import Preprocessing
from vlx.recipes.build import new_task_model, start_from
from vlx.recipes.data import image_input, open_datasets
from vlx.recipes.finetune import supervised_objective, train
from vlx.training.loop import Best


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_question_corpus(tmp_path / "corpus")


def config(**options: object) -> FinetuneConfig:
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vocab_size": 60, "task": "vqa_rad"}
    pixels = {"model": "clip_vil", "vision_width": 2, "image_min_size": 32, "image_max_size": 64, "aspect_groups": 0}
    optimizers = {"vision_lr": 0.01, "vision_milestones": "1", "dropout": 0.1, "precision": "fp32"}
    short = {"steps": 8, "warmup_steps": 2, "batch_size": 4, "eval_every": 4, "checkpoint_every": 3, "log_every": 2}
    inputs = {"max_text_tokens": 12, "sampled_grid_features": 1}
    return FinetuneConfig(**(small | pixels | optimizers | short | inputs | options))


def start(cfg: FinetuneConfig, corpus: Corpus) -> tuple[Loaded, TaskDatasets]:
    task = tasks.load(cfg.task, corpus.answers(cfg.task))
    loaded = start_from(cfg, task, corpus) if cfg.weights else new_task_model(cfg, task, corpus)
    return loaded, open_datasets(corpus, task, loaded.wordpiece, loaded.preprocessing, cfg)


def train_model(cfg: FinetuneConfig, corpus: Corpus, folder: Path, run: Recorder) -> tuple[Loaded, Best]:
    run.folder = folder  # type: ignore[attr-defined]
    loaded, datasets = start(cfg, corpus)
    objective = supervised_objective(load_spec(cfg.model), datasets.train.task)
    return loaded, train(loaded.model, objective, datasets, cfg, run, title="toy")  # type: ignore[arg-type]


def is_wide(corpus: Corpus, image_id: str) -> bool:
    width, height = corpus.image_size(image_id)
    return width > height


def test_a_training_batch_has_one_frame_and_targets(corpus: Corpus) -> None:
    _, (train_split, _, _) = start(config(), corpus)
    for indices in train_split.epoch_batches(4, seed=0, epoch=0):
        batch = train_split.training_batch(indices, seed=0, epoch=0)
        (wide,) = {is_wide(corpus, train_split.first_images[index]) for index in indices}
        assert batch["pixels"].shape == (4, 1, 3, *((32, 64) if wide else (64, 32)))
        assert batch["sampled_grid_features"].shape == (4, 1, 1)
        assert batch["targets"].sum(1).tolist() == [1.0] * 4


def test_evaluation_reads_every_image_whole_and_scores_do_not_depend_on_the_batch(corpus: Corpus) -> None:
    loaded, (_, _, test) = start(config(), corpus)
    indices = [index for batch in test.ordered_batches(2) for index in batch]
    assert sorted(indices) == list(range(6)) and "sampled_grid_features" not in test.batch(indices[:2])
    image = Image.open(BytesIO(corpus.image_bytes(test.first_images[1]) or b""))
    assert torch.equal(test.batch([1])["pixels"][0, 0], ImageProcessor(32, 64).pixels(image))
    portrait = [index for index, name in enumerate(test.first_images) if not is_wide(corpus, name)]
    loaded.model.eval()
    with torch.no_grad():
        together = loaded.model(test.batch(portrait)).logits
        single = torch.cat([loaded.model(test.batch([index])).logits for index in portrait])
    torch.testing.assert_close(together, single, atol=1e-5, rtol=0)


def test_colors_are_learned_from_pixels(corpus: Corpus, tmp_path: Path) -> None:
    run = Recorder()
    cfg = config(steps=60, dropout=0.0, sampled_grid_features=0, lr=3e-3)
    assert train_model(cfg, corpus, tmp_path / "run", run)[1].value == 1.0
    assert run.metrics[2]["train/lr_vision"] == 0.01 and run.metrics[60]["train/lr_vision"] == pytest.approx(0.001)


@pytest.mark.slow
def test_a_run_that_stopped_ends_in_the_same_bits(corpus: Corpus, tmp_path: Path) -> None:
    expected, _ = train_model(config(), corpus, tmp_path / "uninterrupted", Recorder())
    with pytest.raises(Stopped):
        train_model(config(), corpus, tmp_path / "stopped", Recorder(5))
    torch.rand(3)  # a new process would have another generator state
    actual, _ = train_model(config(), corpus, tmp_path / "stopped", Recorder())
    assert same_weights(actual.model, expected.model)


def test_it_starts_from_clips_and_berts_weights_or_from_a_saved_model(corpus: Corpus, tmp_path: Path) -> None:
    clip, bert, source = write_clip_and_bert(tmp_path)
    loaded, _ = start(config(clip_weights=str(clip), bert_weights=str(bert)), corpus)
    weights = loaded.model.state_dict()
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(weights[name], source.state_dict()[name])
    assert weights["answer_head.logit_fc.3.weight"].shape[0] == 2
    folder = checkpoints.save(tmp_path / "model", loaded)
    again, _ = start(config(weights=str(folder)), corpus)
    assert same_weights(again.model, loaded.model)
    cfg = FinetuneConfig(task="vqa_rad", model="lxmert", weights=str(folder))
    with pytest.raises(ConfigError, match="model=lxmert: .* is of clip_vil; give model=clip_vil"):
        start_from(cfg, tasks.load("nlvr2"), corpus)


def test_preprocessing_decides_how_images_are_read_and_an_imported_model_reads_them_as_published(
    corpus: Corpus,
) -> None:
    preprocessing = start(config(), corpus)[0].preprocessing
    sizes = (preprocessing.image_min_size, preprocessing.image_max_size, preprocessing.aspect_groups)
    assert sizes == (32, 64, 0) and preprocessing.region_dim == 0
    imported = Preprocessing(architecture="clip_vil", max_text_tokens=20)
    for reader, processor in ((preprocessing, ImageProcessor(32, 64)), (imported, ImageProcessor(384, 640))):
        inputs = image_input(reader, corpus)
        assert isinstance(inputs, PixelInput) and (inputs.images.processor, inputs.factor) == (processor, 0)
