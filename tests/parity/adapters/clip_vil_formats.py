"""clip_vil/data_pipeline: images to pixels, batches of one frame, normalised answers."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx.corpora.formats.annotations.lxmert import convert_answer, pretraining_answers
from vlx.inputs import image_processor
from vlx.inputs.image_processor import ImageProcessor


def check(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    inputs = load_file(case / "inputs.safetensors")
    expected = load_file(case / "expected.safetensors")
    assert image_processor.CLIP_MEAN == tuple(config["mean"]) and image_processor.CLIP_STD == tuple(config["std"])
    check_images(config, inputs, expected)
    check_geometry(config, expected)
    check_batches(config)
    check_answers(config)
    assert not expected, f"not compared: {sorted(expected)}"


def check_images(config: dict[str, Any], inputs: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every pixel, and a batch of two shapes."""
    processor = ImageProcessor(config["image_size_min"], config["image_size_max"])
    images = {name: processor.pixels(Image.fromarray(array.numpy())) for name, array in inputs.items()}
    wide, upright = (images[f"image_{number}"] for number in config["mixed_order"])
    images |= {"mixed_landscape_first": image_processor.stack([wide, upright])}
    images |= {"mixed_portrait_first": image_processor.stack([upright, wide])}
    for name, image in images.items():
        close(image, expected.pop(name), name, atol=1e-6, rtol=0)


def check_geometry(config: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Sizes in the default frame, and the groups of shapes."""
    for name in [name for name in expected if name.startswith("geometry_")]:
        processor = ImageProcessor(*map(int, name.split("_")[1:]))
        assert processor == ImageProcessor()
        for size, row in zip(config["aspect_sizes"], expected.pop(name).tolist(), strict=True):
            resized = processor.resized_size(tuple(size))
            frame = processor.frame_size(resized)
            assert [*size, *resized, *frame, *image_processor.offset(resized, frame)] == row
    for name in [name for name in expected if name.startswith("aspect_group_k")]:
        factor = int(name.removeprefix("aspect_group_k"))
        groups = image_processor.aspect_groups(map(tuple, config["aspect_sizes"]), factor=factor)
        assert torch.equal(torch.tensor(groups), expected.pop(name))


def check_batches(config: dict[str, Any]) -> None:
    groups = config["group_ids"]
    for key, exhaustive in (("expected_batches", False), ("expected_batches_exhaustive", True)):
        batches = image_processor.grouped_batches(
            range(len(groups)), groups, batch_size=config["group_batch_size"], exhaustive=exhaustive
        )
        assert list(batches) == config[key]


def check_answers(config: dict[str, Any]) -> None:
    """Normal forms and table are LXMERT's; the case lists the answers that are from VQA or GQA."""
    assert {raw: convert_answer(raw) for raw in config["answer_normalisation"]} == config["answer_normalisation"]
    chosen = set(config["answer_table_vqa_gqa_only"])
    rows = [{"ans": ans, "dsets": ["gqa" if ans in chosen else "visual7w"]} for ans in config["answer_table"]]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "all_ans.json"
        path.write_text(json.dumps(rows))
        assert pretraining_answers(path, ("vqa", "gqa", "visual7w")) == config["answer_table"]
        assert pretraining_answers(path, ("vqa", "gqa")) == config["answer_table_vqa_gqa_only"]
