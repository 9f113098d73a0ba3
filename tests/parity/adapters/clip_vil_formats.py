"""clip_vil/data_pipeline: pictures to pixels, batches of one canvas, answers in their normal form."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.adapters.numbers import close
from vlx.corpora import pixels
from vlx.corpora.formats.annotations.lxmert import convert_answer, pretraining_answers


def check(case: Path) -> None:
    config = json.loads((case / "config.json").read_text())
    inputs, expected = load_file(case / "inputs.safetensors"), load_file(case / "expected.safetensors")
    assert pixels.CLIP_MEAN == tuple(config["mean"]) and pixels.CLIP_STD == tuple(config["std"])
    check_images(config, inputs, expected)
    check_geometry(config, expected)
    check_batches(config)
    check_answers(config)
    assert not expected, f"nothing looked at {sorted(expected)}"


def check_images(config: dict[str, Any], inputs: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every pixel, and what becomes of two shapes in one batch."""
    sides = {"shortest": config["image_size_min"], "longest": config["image_size_max"]}
    images = {name: pixels.pixels(Image.fromarray(array.numpy()), **sides) for name, array in inputs.items()}
    wide, upright = (images[f"image_{number}"] for number in config["mixed_order"])
    images |= {"mixed_landscape_first": pixels.stack([wide, upright])}
    images |= {"mixed_portrait_first": pixels.stack([upright, wide])}
    for name, image in images.items():
        close(image, expected.pop(name), name, atol=1e-6, rtol=0)


def check_geometry(config: dict[str, Any], expected: dict[str, Tensor]) -> None:
    """Sizes at the default canvas, and the groups of shapes."""
    for name in [name for name in expected if name.startswith("geometry_")]:
        shortest, longest = map(int, name.split("_")[1:])
        assert (shortest, longest) == (pixels.SHORTEST, pixels.LONGEST)
        for size, row in zip(config["aspect_sizes"], expected.pop(name).tolist(), strict=True):
            small = pixels.resized(tuple(size), shortest=shortest, longest=longest)
            frame = pixels.canvas(small, shortest=shortest, longest=longest)
            assert [*size, *small, *frame, *pixels.offset(small, frame)] == row
    for name in [name for name in expected if name.startswith("aspect_group_k")]:
        factor = int(name.removeprefix("aspect_group_k"))
        groups = pixels.aspect_groups(map(tuple, config["aspect_sizes"]), factor=factor)
        assert torch.equal(torch.tensor(groups), expected.pop(name))


def check_batches(config: dict[str, Any]) -> None:
    groups = config["group_ids"]
    for key, exhaustive in (("expected_batches", False), ("expected_batches_exhaustive", True)):
        found = pixels.grouped_batches(
            range(len(groups)), groups, batch_size=config["group_batch_size"], exhaustive=exhaustive
        )
        assert list(found) == config[key]


def check_answers(config: dict[str, Any]) -> None:
    """Normal forms are LXMERT's; so is the table, of which the case says what is from VQA or GQA."""
    assert {raw: convert_answer(raw) for raw in config["answer_normalisation"]} == config["answer_normalisation"]
    chosen = set(config["answer_table_vqa_gqa_only"])
    rows = [{"ans": ans, "dsets": ["gqa" if ans in chosen else "visual7w"]} for ans in config["answer_table"]]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "all_ans.json"
        path.write_text(json.dumps(rows))
        assert pretraining_answers(path, ("vqa", "gqa", "visual7w")) == config["answer_table"]
        assert pretraining_answers(path, ("vqa", "gqa")) == config["answer_table_vqa_gqa_only"]
