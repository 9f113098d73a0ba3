import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.files_official import (
    NO_JSON,
    edit,
    prepare,
    refused,
    row_of,
    write_coco,
    write_flickr8k,
    write_json,
    write_pictures,
)
from vlx.corpora import Example

COCO = "dataset_coco.json"
ODD = "שלום 🐕 " + "very " * 5_000 + "\u2028long"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "official")


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    return write_flickr8k(tmp_path / "official")


def images_of(corpus: Any, split: str) -> set[str]:
    return set(corpus.examples("retrieval", split)["group"])


def test_karpathys_splits_come_out_with_restval_in_train(coco: Path) -> None:
    corpus = prepare("coco-captions", coco)
    assert corpus.manifest["examples"] == {"retrieval": {"train": 4, "val": 2, "test": 2}}
    expected = Example("431", "Caption 1 of 43.", ["43"], group="43")
    assert corpus.examples("retrieval", "val")[1] == expected._asdict()
    assert images_of(corpus, "train") == {"41", "42"} and corpus.image_size("43") == (12, 10)


def test_flickr30ks_images_go_by_their_file_names(coco: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            del image["cocoid"]
            image["filename"] = image["filename"].replace("COCO_val2014_0000000000", "10000")

    edit(coco / COCO, change)
    (coco / COCO).rename(coco / "dataset_flickr30k.json")
    write_pictures(coco / "flickr30k_images", *(f"10000{number}.jpg" for number in (41, 42, 43, 44)))
    assert prepare("flickr30k", coco).examples("retrieval", "test")[0]["image_ids"] == ["1000044"]


def test_captions_of_flickr8k_come_out_as_they_went_in(flickr: Path) -> None:
    """Twenty images: two each are held out for val and test, always the same, and all captions with them."""
    corpus = prepare("flickr8k", flickr)
    assert corpus.manifest["examples"] == {"retrieval": {"train": 32, "val": 4, "test": 4}}
    splits = [images_of(corpus, split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 20
    assert splits[1:] == [{"14_ab", "15_ab"}, {"6_ab", "16_ab"}]  # printf 14_ab | sha256sum is the smallest: 066ff1ca
    split = next(name for name in corpus.splits("retrieval") if "7_ab" in images_of(corpus, name))
    expected = Example("7_ab.jpg#1", "A dog , and 7 cats .", ["7_ab"], group="7_ab")
    assert row_of(corpus, "retrieval", split, "7_ab.jpg#1") == expected._asdict()
    again = write_flickr8k(flickr.parent / "again")
    lines = (again / "captions.txt").read_text().splitlines(keepends=True)
    (again / "captions.txt").write_text(lines[0] + "".join(reversed(lines[1:])))
    (flickr.parent / "corpus").rename(flickr.parent / "first")
    assert [images_of(prepare("flickr8k", again), "val")] == splits[1:2], "the order of the file decides"


def test_official_lists_decide_where_they_are(flickr: Path) -> None:
    parts = {"train": range(3), "dev": (7, 4), "test": (9,)}  # the others are of no split
    for name, numbers in parts.items():
        (flickr / f"Flickr_8k.{name}Images.txt").write_text("".join(f"{number}_ab.jpg\n" for number in numbers))
    corpus = prepare("flickr8k", flickr)
    assert corpus.manifest["examples"] == {"retrieval": {"train": 6, "val": 4, "test": 2}}
    assert images_of(corpus, "val") == {"7_ab", "4_ab"} and len(corpus.image_ids()) == 6


def test_an_image_on_two_lists_or_a_missing_list_is_named(flickr: Path) -> None:
    for name in ("train", "dev"):
        (flickr / f"Flickr_8k.{name}Images.txt").write_text("1_ab.jpg\n")
    refused("flickr8k", flickr, "found no Flickr_8k.testImages.txt")
    (flickr / "Flickr_8k.testImages.txt").write_text("2_ab.jpg\n")
    refused("flickr8k", flickr, "Flickr_8k.devImages.txt: 1_ab.jpg is also of train")


@pytest.mark.parametrize(
    ("format", "name", "content"),
    [
        ("flickr8k", "Flickr8k.token.txt", "{n}_ab.jpg#0\tA dog .\n{n}_ab.jpg#1\tA dog , and {n} cats .\n"),
        ("flickr30k", "results_20130124.token", "{n}_ab.jpg#0\tA dog .\r\n{n}_ab.jpg#1\tA dog , and {n} cats .\r\n"),
        ("flickr30k", "results.csv", "{n}_ab.jpg| 0| A dog .\n{n}_ab.jpg| 1   A dog , and {n} cats .\n"),
    ],
)
def test_other_official_files_say_the_same(flickr: Path, format: str, name: str, content: str) -> None:
    before = prepare("flickr8k", flickr)
    (flickr / "captions.txt").unlink()
    (flickr.parent / "corpus").rename(flickr.parent / "before")
    heading = "image_name| comment_number| comment\n" if name == "results.csv" else ""
    (flickr / name).write_text(heading + "".join(content.format(n=number) for number in range(20)))
    corpus = prepare(format, flickr)
    assert corpus.fingerprint == before.fingerprint


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_unusual_text_is_kept(flickr: Path, bom: str) -> None:
    with (flickr / "captions.txt").open("w", encoding="utf-8", newline="") as file:
        file.write(bom)
        csv.writer(file).writerows([("image", "caption")] + [(f"{n}_ab.jpg", f'{ODD} "{n}"\nends') for n in range(20)])
    rows = prepare("flickr8k", flickr).examples("retrieval", "val")
    assert list(rows["text"]) == [f'{ODD} "{name.removesuffix("_ab")}"\nends' for name in rows["group"]]


def test_unusual_raw_sentences_are_kept(coco: Path) -> None:
    edit(coco / COCO, lambda content: content["images"][0]["sentences"][0].update(raw=ODD))
    (coco / COCO).write_bytes(b"\xef\xbb\xbf" + (coco / COCO).read_bytes())
    assert row_of(prepare("coco-captions", coco), "retrieval", "train", "410")["text"] == ODD


@pytest.mark.parametrize(("content", "message"), NO_JSON)
def test_a_file_that_is_not_karpathys_json_is_named(coco: Path, content: bytes, message: str) -> None:
    (coco / COCO).write_bytes(content)
    refused("coco-captions", coco, message.format(COCO))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.clear(), r": images is \[\], expected a list of objects"),
        (lambda images: images[1].update(split="dev"), ": images 2: split is 'dev', expected one of train, val, test"),
        (lambda images: images[1].update(split=["train"]), r": images 2: split is \['train'\]"),
        (lambda images: images[1].update(cocoid=41), ": images 2: image 41 found twice"),
        (lambda images: images[1].update(cocoid=-4), ": images 2: cocoid is -4"),
        (lambda images: images[1].pop("sentences"), ": images 2: sentences is None"),
        (
            lambda images: images[1]["sentences"][1].update(sentid=420),
            ": images 2: sentences 2: sentid 420 found twice",
        ),
        (lambda images: images[1]["sentences"][1].update(raw="\n"), ": images 2: sentences 2: raw is "),
        (lambda images: images[1]["sentences"][1].pop("raw"), ": images 2: sentences 2: raw is None"),
        (lambda images: images[1]["sentences"].__setitem__(1, "A dog."), ": images 2: sentences 2: found str"),
    ],
)
def test_a_wrong_image_is_named(coco: Path, change: Callable[[list[Any]], Any], message: str) -> None:
    edit(coco / COCO, lambda content: change(content["images"]))
    refused("coco-captions", coco, f"{COCO}{message}")


def test_captions_without_their_image_are_named(coco: Path) -> None:
    (coco / "val2014" / "COCO_val2014_000000000044.png").unlink()
    refused("coco-captions", coco, "caption 441 names image 44, absent from val2014 .1 of 4 images are")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": found no captions"),
        (b"image,caption\n", ": found no captions"),
        (b"0_ab.jpg,A dog\n", ":1: found .'0_ab.jpg', 'A dog'., expected the heading"),
        (b"image,caption\n0_ab.jpg,A dog, a cat\n", ":2: found 3 columns, expected image,caption"),
        (b"image,caption\n0_ab.jpg\n", ":2: found 1 columns"),
        (b'image,caption\n0_ab.jpg,"A dog"s"\n', ":2: .*Expected image,caption"),
        (b'image,caption\n0_ab.jpg,"A dog\n', ":2: .*Expected image,caption"),
        (b"image,caption\n0_ab.jpg,\n", ":2: caption is ''"),
        (b"image,caption\n,A dog\n", ":2: image is ''"),
        (b"image,caption\n0_ab.jpg,\xff\n", ": not UTF-8"),
        (b"image,caption\n0_ab.jpg,A dog\n", ": 1 images, expected 3 or more, to hold some out"),
        (b"image,caption\n0_ab.jpg,A\n1_ab.jpg,B\n99_ab.jpg,C\n", " names image 99_ab, absent from Images"),
    ],
)
def test_a_wrong_line_is_named(flickr: Path, content: bytes, message: str) -> None:
    (flickr / "captions.txt").write_bytes(content)
    refused("flickr8k", flickr, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0_ab.jpg\tA dog\n", ":1: found '0_ab.jpg.*', expected <image>.jpg#0<tab>caption"),
        ("0_ab.jpg#0\tA dog\n0_ab.jpg#0\tA cat\n", ":2: caption 0_ab.jpg#0 found twice"),
        ("0_ab.jpg#0\t\n", ":1: "),
    ],
)
def test_a_wrong_token_is_named(flickr: Path, content: str, message: str) -> None:
    (flickr / "captions.txt").unlink()
    (flickr / "Flickr8k.token.txt").write_text(content)
    refused("flickr8k", flickr, f"Flickr8k.token.txt{message}")


def test_missing_files_are_named(flickr: Path) -> None:
    (flickr / "captions.txt").unlink()
    refused("flickr8k", flickr, "found no dataset_flickr8k.json or captions.txt or Flickr8k.token.txt")
    write_json(flickr / "dataset_flickr30k.json", {"images": []})
    refused("coco-captions", flickr, "found no dataset_coco.json")
