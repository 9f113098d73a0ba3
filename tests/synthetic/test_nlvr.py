"""The built-in corpus of NLVR: its images, the meaning of its sentences, and that text alone gives no label away."""

import json
import random
import tarfile
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from vlx import corpora, synthetic
from vlx.corpora.formats.annotations.nlvr import BOXES
from vlx.corpora.regions import detect
from vlx.synthetic import nlvr_images, nlvr_properties, nlvr_statements
from vlx.synthetic.images import DIFFICULTIES, PARTS
from vlx.synthetic.nlvr_files import generate_set
from vlx.synthetic.nlvr_images import BOX_SIZE, COLOURS, Box, Boxes, Item, gap, generate_boxes, render, shuffled
from vlx.synthetic.nlvr_statements import SCATTER_STATEMENTS, TOWER_STATEMENTS, Maker, make_statement
from vlx.synthetic.nlvr_words import NUMBERS

ARRANGEMENTS = (nlvr_images.TOWERS, nlvr_images.SCATTERED)


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
        ("towers_with", TOWERS, {"There is a tower with a black block at the top": True}),
        ("towers_with", TOWERS, {"There is exactly 1 tower with a blue block at the base": False}),
        ("towers_with", TOWERS, {"There are 2 towers with a blue block at the base": True}),
        ("towers_with", TOWERS, {"There is a tower with a yellow block over a black block": True}),
        ("towers_with", TOWERS, {"There is a tower with a blue block over a black block": False}),
        ("towers_with", TOWERS, {"There is a tower with exactly 3 blocks": True}),
        ("towers_with", TOWERS, {"There is no tower with 3 blocks": False}),
        ("towers_with", TOWERS, {"There is a tower with only blue blocks": True}),
        ("towers_with", TOWERS, {"There is a tower with only yellow blocks": False}),
        ("towers_with", TOWERS, {"There is a tower with 2 yellow blocks stacked together": True}),
        ("towers_with", TOWERS, {"There is a tower with 2 black blocks stacked together": False}),
        ("towers_with", TOWERS, {"There is a tower with a black block in the middle": True}),
        ("end_blocks", TOWERS, {"There is a black block as the top of a tower with 4 blocks": True}),
        ("end_blocks", TOWERS, {"There is a black block as the top of a tower with 3 blocks": False}),
        ("blocks_in_all", TOWERS, {"There are 3 yellow blocks": True, "There are 2 yellow blocks": False}),
        ("block_on_block", TOWERS, {"There is a black block on a yellow block": True}),
        ("block_on_block", TOWERS, {"There is a yellow block on a blue block": False}),
        ("towers_of_colour", TOWERS, {"There is a blue tower": True, "There is a black tower": False}),
        ("boxes_with", SCATTER, {"There is a box with exactly 3 items": True}),
        ("boxes_with", SCATTER, {"There are 2 boxes with a black square": True}),
        ("boxes_with", SCATTER, {"There is no box with a black square": False}),
        ("boxes_with", SCATTER, {"There is a box with only blue items": True}),
        ("boxes_with", SCATTER, {"There is a box with only yellow items": False}),
        ("boxes_with", SCATTER, {"There is a box with 2 blue items touching each other": True}),
        ("items_at_location", SCATTER, {"There is a yellow circle closely touching a corner": True}),
        ("items_at_location", SCATTER, {"There is a black square touching the base": True}),
        ("items_at_location", SCATTER, {"There is a blue square touching the base": False}),
        ("items_at_location", SCATTER, {"There are exactly 3 objects touching the edge": True}),
        ("items_at_location", SCATTER, {"There is no blue square closely touching right wall of a box": False}),
        ("items_at_location", SCATTER, {"There is 1 black square not touching any edge": True}),
        ("every_box", SCATTER, {"There is a black item in every box": False}),
        ("items_in_all", SCATTER, {"There are 4 squares": True, "There are at least 5 squares": False}),
    ],
)  # fmt: skip
def test_sentences_mean_what_they_say(maker: str, boxes: Boxes, claims: dict[str, bool]) -> None:
    rng = random.Random(0)
    truths: dict[str, bool] = {}
    for _ in range(60_000):
        statement = make_statement(rng, getattr(nlvr_statements, maker))
        text = in_digits(statement.text)
        if text in claims:
            truths[text] = statement.is_true(boxes)
        if len(truths) == len(claims):
            break
    assert truths == claims


@pytest.mark.parametrize(
    ("maker", "box", "claims"),
    [
        (nlvr_properties.several_kinds, SCATTER[0], {"a black item and a yellow circle": True}),
        (nlvr_properties.several_kinds, SCATTER[0], {"a blue item and a square": False}),
        (nlvr_properties.top_item, SCATTER[0], {"a black item on top": True, "a yellow item on top": False}),
        (nlvr_properties.wall_item_below, SCATTER[0], {"a circle touching the wall and a square on top": True}),
        (nlvr_properties.number_of_which, SCATTER[0], {"3 items of which 2 are black": True}),
        (nlvr_properties.number_of_which, SCATTER[0], {"3 items of which 1 is black": False}),
        (nlvr_properties.blocks_of_two_colours, TOWERS[2], {"1 blue block and 2 black blocks": True}),
        (nlvr_properties.blocks_of_two_colours, TOWERS[2], {"1 blue block and 1 black block": False}),
        (nlvr_properties.number_and_colours, SCATTER[1], {"2 items of only blue color": True}),
        (nlvr_properties.number_and_colours, SCATTER[1], {"3 items of only blue color": False}),
        (nlvr_properties.both_ends, TOWERS[1], {"a black block at the base and yellow block at the top": True}),
    ],
)  # fmt: skip
def test_properties_mean_what_they_say(maker: nlvr_properties.Maker, box: Box, claims: dict[str, bool]) -> None:
    rng = random.Random(0)
    truths: dict[str, bool] = {}
    while truths.keys() != claims.keys():
        prop = maker(rng)
        if in_digits(prop.text) in claims:
            truths[in_digits(prop.text)] = prop.holds(box)
    assert truths == claims


def in_digits(sentence: str) -> str:
    tokens = sentence.strip(".").split(" ")
    return " ".join(str(NUMBERS.index(token)) if token in NUMBERS[1:] else token for token in tokens)


@pytest.mark.parametrize(
    ("makers", "arrangement"),
    list(zip((TOWER_STATEMENTS, SCATTER_STATEMENTS), ARRANGEMENTS, strict=True)),
)
def test_every_kind_of_statement_can_be_true_or_false(
    makers: dict[Maker, float], arrangement: nlvr_images.Arrangement
) -> None:
    rng = random.Random(0)
    images = [generate_boxes(rng, arrangement) for _ in range(60)]
    for maker in makers:
        statements = [make_statement(rng, maker) for _ in range(40)]
        assert {statement.is_true(boxes) for statement in statements for boxes in images} == {True, False}, maker


def test_the_detector_finds_every_item_of_a_rendered_image() -> None:
    rng = random.Random(0)
    for number in range(30):
        boxes = generate_boxes(rng, ARRANGEMENTS[number % 2])
        image = render(boxes)
        assert image.size == (400, 100)
        for corners, box in zip(BOXES, boxes, strict=True):
            features, region_boxes = detect(image.crop(corners))
            colours = np.array(list(COLOURS.values()))
            nearest = [np.abs(colours - row[:3] * 255).max(1).argmin() for row in features]
            assert Counter(list(COLOURS)[index] for index in nearest) == Counter(item.colour for item in box)
            squares = {(item.x, item.y, item.right, item.bottom) for item in box if item.shape == "square"}
            assert squares <= {tuple(np.round(row * BOX_SIZE).astype(int)) for row in region_boxes}


def test_items_do_not_touch_and_a_shuffled_image_has_equal_items() -> None:
    rng = random.Random(1)
    for arrangement in ARRANGEMENTS:
        for _ in range(40):
            first = generate_boxes(rng, arrangement)
            second = shuffled(rng, first, arrangement=arrangement)
            for box in (*first, *second):
                assert box and len(box) <= (7 if arrangement is nlvr_images.SCATTERED else 4)
                for item in box:
                    assert 0 <= item.x and item.right <= BOX_SIZE and 0 <= item.y and item.bottom <= BOX_SIZE
                assert all(gap(*pair) > 0 for pair in combinations(box, 2))
            kinds = [Counter(item[:3] for box in boxes for item in box) for boxes in (first, second)]
            assert kinds[0] == kinds[1]


def test_a_sentence_is_true_of_two_of_the_four_images_of_its_set() -> None:
    for difficulty in DIFFICULTIES:
        for number in range(4):
            images, sentences = generate_set(
                random.Random(number), PARTS[0], level=DIFFICULTIES[difficulty], num_sentences=5
            )
            assert len(set(images)) == 4 and len(sentences) == 5
            assert all(sum(sentence.labels) == 2 for sentence in sentences)


def test_files_are_the_official_ones_and_text_alone_gives_no_label_away(tmp_path: Path) -> None:
    synthetic.write_sources(tmp_path, task="nlvr", seed=0, size=20, difficulty="hard")
    assert {path.name for path in tmp_path.iterdir()} == {"train", "dev"}
    lines = [json.loads(line) for line in (tmp_path / "dev" / "dev.json").read_text().splitlines()]
    assert set(lines[0]) == {"identifier", "sentence", "label", "directory"} and len(lines) == 100
    with tarfile.open(tmp_path / "dev" / "images.tar") as archive:
        assert archive.getnames() == [f"dev-{line['identifier']}-0.png" for line in lines]
    corpus, labels = corpora.prepare("nlvr", tmp_path, tmp_path / "corpus"), defaultdict(list)
    for row in corpus.examples("nlvr", "train"):
        labels[row["text"]].append(row["label"])
    assert sum(max(map(group.count, (0, 1))) for group in labels.values()) / sum(map(len, labels.values())) < 0.55
