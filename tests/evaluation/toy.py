"""A small model and a split of statements, and of captions."""

from pathlib import Path

from transformers import PreTrainedModel

from tests.training.toy import config, datasets_of
from vlx import corpora, tasks
from vlx.inputs.dataset import TaskDataset, open_task_dataset
from vlx.recipes.build import new_task_model
from vlx.recipes.data import image_input
from vlx.tasks.retrieval import RETRIEVAL

NLVR2 = tasks.load("nlvr2")


def statements(folder: Path) -> tuple[PreTrainedModel, TaskDataset]:
    """The 16 statements of the corpus in `folder`, which neither 7 nor 64 divides."""
    corpus = corpora.open(folder / "corpus")
    loaded = new_task_model(config(), NLVR2, corpus)
    return loaded.model, datasets_of(corpus, NLVR2, loaded, config()).test


def captions(folder: Path, model: str = "oscar") -> tuple[PreTrainedModel, TaskDataset]:
    """The 45 captions of 9 images of the corpus in `folder`."""
    corpus = corpora.open(folder / "captions")
    loaded = new_task_model(config(task="retrieval", model=model, region_layers=1), RETRIEVAL, corpus)
    dataset = open_task_dataset(
        corpus, RETRIEVAL, "test", loaded.wordpiece, image_input(loaded.preprocessing, corpus),
        max_text_tokens=20, object_tags=False, num_images=9,
    )  # fmt: skip
    return loaded.model, dataset
