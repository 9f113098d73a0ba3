"""The built-in corpus of NLVR: its pictures, what its sentences mean, and that text alone says nothing."""

import json
import random
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from vlx import corpora, synthetic
from vlx.corpora.formats.nlvr import BOXES
from vlx.corpora.regions import detect
from vlx.synthetic import nlvr_contents as contents
from vlx.synthetic import nlvr_statements
from vlx.synthetic.nlvr_files import draw_set
from vlx.synthetic.nlvr_pictures import COLOURS, SIDE, Box, Boxes, Item, draw_boxes, gap, render, shuffled
from vlx.synthetic.nlvr_statements import OF_SCATTER, OF_TOWERS, claim
from vlx.synthetic.nlvr_words import NUMBERS
from vlx.synthetic.pictures import DIFFICULTIES, PARTS

HARD = DIFFICULTIES["hard"]


def tower(*colours: str) -> Box:
    return tuple(Item(colour, "square", 20, 40, top) for colour, top in zip(colours, (80, 59, 38, 17), strict=False))


TOWERS = (tower("blue"), tower("black", "yellow", "yellow"), tower("blue", "black", "yellow", "black"))
SCATTER = (
    (Item("yellow", "circle", 30, 70, 70), Item("black", "square", 10, 20, 30), Item("black", "triangle", 20, 60, 5)),
    (Item("blue", "square", 20, 80, 40), Item("blue", "square", 20, 58, 41)),
    (Item("black", "square", 10, 40, 90),),
)


@pytest.mark.parametrize(
    ("maker", "boxes", "claims"),
    [
        ("of_towers", TOWERS, {"There is a tower with a black block at the top": True}),
        ("of_towers", TOWERS, {"There is exactly 1 tower with a blue block at the base": False}),
        ("of_towers", TOWERS, {"There are 2 towers with a blue block at the base": True}),
        ("of_towers", TOWERS, {"There is a tower with a yellow block over a black block": True}),
        ("of_towers", TOWERS, {"There is a tower with a blue block over a black block": False}),
        ("of_towers", TOWERS, {"There is a tower with exactly 3 blocks": True}),
        ("of_towers", TOWERS, {"There is no tower with 3 blocks": False}),
        ("of_towers", TOWERS, {"There is a tower with only blue blocks": True}),
        ("of_towers", TOWERS, {"There is a tower with only yellow blocks": False}),
        ("of_towers", TOWERS, {"There is a tower with 2 yellow blocks stacked together": True}),
        ("of_towers", TOWERS, {"There is a tower with 2 black blocks stacked together": False}),
        ("of_towers", TOWERS, {"There is a tower with a black block in the middle": True}),
        ("ends", TOWERS, {"There is a black block as the top of a tower with 4 blocks": True}),
        ("ends", TOWERS, {"There is a black block as the top of a tower with 3 blocks": False}),
        ("blocks", TOWERS, {"There are 3 yellow blocks": True, "There are 2 yellow blocks": False}),
        ("block_on_block", TOWERS, {"There is a black block on a yellow block": True}),
        ("block_on_block", TOWERS, {"There is a yellow block on a blue block": False}),
        ("one_colour", TOWERS, {"There is a blue tower": True, "There is a black tower": False}),
        ("of_boxes", SCATTER, {"There is a box with exactly 3 items": True}),
        ("of_boxes", SCATTER, {"There are 2 boxes with a black square": True}),
        ("of_boxes", SCATTER, {"There is no box with a black square": False}),
        ("of_boxes", SCATTER, {"There is a box with only blue items": True}),
        ("of_boxes", SCATTER, {"There is a box with only yellow items": False}),
        ("of_boxes", SCATTER, {"There is a box with 2 blue items touching each other": True}),
        ("placed", SCATTER, {"There is a yellow circle closely touching a corner": True}),
        ("placed", SCATTER, {"There is a black square touching the base": True}),
        ("placed", SCATTER, {"There is a blue square touching the base": False}),
        ("placed", SCATTER, {"There are exactly 3 objects touching the edge": True}),
        ("placed", SCATTER, {"There is no blue square closely touching right wall of a box": False}),
        ("placed", SCATTER, {"There is 1 black square not touching any edge": True}),
        ("every_box", SCATTER, {"There is a black item in every box": False}),
        ("total", SCATTER, {"There are 4 squares": True, "There are at least 5 squares": False}),
    ],
)  # fmt: skip
def test_sentences_mean_what_they_say(maker: str, boxes: Boxes, claims: dict[str, bool]) -> None:
    rng, told = random.Random(0), {}
    for _ in range(60_000):
        sentence, truth = claim(rng, getattr(nlvr_statements, maker))
        told |= {in_digits(sentence): truth(boxes)} if in_digits(sentence) in claims else {}
        if len(told) == len(claims):
            break
    assert told == claims


@pytest.mark.parametrize(
    ("maker", "box", "claims"),
    [
        (contents.several, SCATTER[0], {"a black item and a yellow circle": True, "a blue item and a square": False}),
        (contents.on_top, SCATTER[0], {"a black item on top": True, "a yellow item on top": False}),
        (contents.wall_and_top, SCATTER[0], {"a circle touching the wall and a square on top": True}),
        (contents.of_which, SCATTER[0], {"3 items of which 2 are black": True}),
        (contents.of_which, SCATTER[0], {"3 items of which 1 is black": False}),
        (contents.two_kinds, TOWERS[2], {"1 blue block and 2 black blocks": True}),
        (contents.two_kinds, TOWERS[2], {"1 blue block and 1 black block": False}),
        (contents.so_many_of_colours, SCATTER[1], {"2 items of only blue color": True}),
        (contents.so_many_of_colours, SCATTER[1], {"3 items of only blue color": False}),
        (contents.both_ends, TOWERS[1], {"a black block at the base and yellow block at the top": True}),
    ],
)  # fmt: skip
def test_what_a_box_has_means_what_it_says(maker: contents.Maker, box: Box, claims: dict[str, bool]) -> None:
    rng, told = random.Random(0), {}
    while told.keys() != claims.keys():
        has = maker(rng)
        words = in_digits(has.words)
        told |= {words: has.fits(box)} if words in claims else {}
    assert told == claims


def in_digits(sentence: str) -> str:
    words = sentence.strip(".").split(" ")
    return " ".join(str(NUMBERS.index(word)) if word in NUMBERS[1:] else word for word in words)


def test_every_kind_of_sentence_is_said_and_can_be_true_or_false() -> None:
    rng = random.Random(0)
    for kinds, towers in ((OF_TOWERS, True), (OF_SCATTER, False)):
        pictures = [draw_boxes(rng, towers=towers) for _ in range(60)]
        for make in kinds:
            truths = {truth(boxes) for _, truth in (claim(rng, make) for _ in range(40)) for boxes in pictures}
            assert truths == {True, False}, make


def test_the_detector_sees_every_item_of_a_drawn_picture() -> None:
    rng = random.Random(0)
    for number in range(30):
        boxes = draw_boxes(rng, towers=number % 2 == 0)
        image = render(boxes)
        assert image.size == (400, 100)
        for corners, box in zip(BOXES, boxes, strict=True):
            features, found = detect(image.crop(corners))
            colours = np.array(list(COLOURS.values()))
            seen = [np.abs(colours - each[:3] * 255).max(1).argmin() for each in features]
            assert Counter(list(COLOURS)[index] for index in seen) == Counter(item.colour for item in box)
            squares = {(item.x, item.y, item.right, item.bottom) for item in box if item.shape == "square"}
            assert squares <= {tuple(np.round(each * SIDE).astype(int)) for each in found}


def test_items_lie_apart_within_their_box_and_a_shuffled_picture_has_the_same() -> None:
    rng = random.Random(1)
    for towers in (True, False):
        for _ in range(40):
            first = draw_boxes(rng, towers=towers)
            second = shuffled(rng, first, towers=towers)
            for box in (*first, *second):
                assert box and len(box) <= (4 if towers else 7)
                assert all(0 <= item.x and item.right <= SIDE and 0 <= item.y and item.bottom <= SIDE for item in box)
                assert all(gap(one, other) > 0 for index, one in enumerate(box) for other in box[:index])
            kinds = [Counter(item[:3] for box in boxes for item in box) for boxes in (first, second)]
            assert kinds[0] == kinds[1]


def test_a_sentence_is_true_of_two_of_the_four_pictures_of_its_set() -> None:
    for difficulty in DIFFICULTIES:
        for number in range(4):
            pictures, claims = draw_set(random.Random(number), PARTS[0], DIFFICULTIES[difficulty], 5)
            assert len(set(pictures)) == 4 and len(claims) == 5
            assert all(sum(truths) == 2 for truths in claims.values())


def test_files_are_the_official_ones_and_text_alone_says_nothing(tmp_path: Path) -> None:
    synthetic.write_sources(tmp_path, task="nlvr", seed=0, size=20, difficulty="hard")
    assert {path.name for path in tmp_path.iterdir()} == {"train", "dev"}
    lines = [json.loads(line) for line in (tmp_path / "dev" / "dev.json").read_text().splitlines()]
    assert set(lines[0]) == {"identifier", "sentence", "label", "directory"} and len(lines) == 100
    with tarfile.open(tmp_path / "dev" / "images.tar") as archive:
        assert archive.getnames() == [f"dev-{line['identifier']}-0.png" for line in lines]
    corpus, labels = corpora.prepare("nlvr", tmp_path, tmp_path / "corpus"), defaultdict(list)
    for row in corpus.examples("nlvr", "train"):
        labels[row["text"]].append(row["label"])
    assert sum(max(map(each.count, (0, 1))) for each in labels.values()) / sum(map(len, labels.values())) < 0.55
