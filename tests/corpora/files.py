"""Official files small enough to write within a test."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

FEATURES = "nlvr2_img_frcnn_feats.pt"
DIM = 5


def regions(count: int, dim: int = DIM) -> torch.Tensor:
    """[count, dim+6]: features and one box, a quarter of the image."""
    box = torch.tensor([0.25, 0.25, 0.75, 0.5, 0.5, 0.25]).expand(count, 6)
    return torch.cat([torch.rand(count, dim, generator=torch.Generator().manual_seed(count)), box], 1)


def nlvr2_rows(split: str, sets: int = 2) -> list[dict[str, Any]]:
    """Two pairs a set, one sentence: true of the first."""
    return [
        {
            "identifier": f"{split}-{number}-{pair}-0",
            "sentence": f"There is a dog in set {number}.",
            "label": ("True", "false")[pair],
            "synset": "dog",
        }
        for number in range(sets)
        for pair in (0, 1)
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['identifier'].rsplit('-', 1)[0]}-img{side}" for row in rows for side in (0, 1)]


def png(size: tuple[int, int], draw: Any = None) -> bytes:
    image, file = Image.new("RGB", size, (211, 211, 211)), io.BytesIO()
    if draw:
        draw(ImageDraw.Draw(image))
    image.save(file, "png")
    return file.getvalue()


def write_tar(path: Path, pictures: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in pictures.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_nlvr2(folder: Path) -> Path:
    """train, dev and test1 with Oscar's features, without images."""
    features = {}
    for split in ("train", "dev", "test1"):
        rows = nlvr2_rows(split)
        write_lines(folder / f"{split}.json", rows)
        features |= {name: regions(2 + index % 2) for index, name in enumerate(names_of(rows))}
    torch.save(features, folder / FEATURES)
    return folder


def nlvr_rows(groups: int, pictures: int = 2) -> list[dict[str, Any]]:
    """Group n in directory n, true of even images; structured_rep is a lie that nobody may read."""
    return [
        {
            "identifier": f"{n}-{m}",
            "directory": str(n),
            "sentence": "There is a box with a black square.",
            "label": ("true", "false")[m % 2],
            "structured_rep": "never read",
        }
        for n in range(groups)
        for m in range(pictures)
    ]


def three_boxes() -> bytes:
    """A black square in the first box, a yellow circle in the second, nothing in the third."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.rectangle((100, 0, 149, 99), fill=(128, 128, 128))
        pen.rectangle((250, 0, 299, 99), fill=(128, 128, 128))
        pen.rectangle((10, 20, 29, 39), fill="black")
        pen.ellipse((200, 50, 229, 79), fill="yellow")

    return png((400, 100), draw)


def write_nlvr(folder: Path, groups: int = 10) -> Path:
    """train in a folder of images, dev in a tar, as the originals may come."""
    for split, count in (("train", groups), ("dev", 2)):
        rows = nlvr_rows(count)
        write_lines(folder / split / f"{split}.json", rows)
        pictures = {f"images/{row['directory']}/{split}-{row['identifier']}-0.png": three_boxes() for row in rows}
        if split == "dev":
            write_tar(folder / split / "images.tar", pictures)
        for name, data in pictures.items() if split == "train" else ():
            (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / split / name).write_bytes(data)
    return folder
