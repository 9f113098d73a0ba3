import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from vlx import corpora, tasks
from vlx.corpora import scenes, validate
from vlx.corpora.regions import detect
from vlx.corpora.scenes.files import TASKS
from vlx.corpora.scenes.pictures import COLOURS, DIFFICULTIES, SIDE, SIZES, Shape, draw_picture, render
from vlx.corpora.scenes.statements import KINDS

SIZE = 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> corpora.Corpus:
    return scenes.build(tmp_path_factory.mktemp("scenes") / "corpus", size=SIZE)


def test_sizes_and_names_are_nlvr2s(corpus: corpora.Corpus) -> None:
    assert {split: corpus.examples("nlvr2", split).num_rows for split in corpus.splits("nlvr2")} == {
        "train": SIZE,
        "dev": 100,
        "test1": 100,
    }
    assert corpus.detector == "components-v1" and corpus.manifest["reader"] == "nlvr2"
    row = corpus.examples("nlvr2", "dev")[7]
    assert row["identifier"] == "dev-0-3-1" and row["image_ids"] == ["dev-0-3-img0", "dev-0-3-img1"]


def test_every_sentence_is_true_of_two_of_its_four_pairs(corpus: corpora.Corpus) -> None:
    for split in corpus.splits("nlvr2"):
        labels, sentences = defaultdict(list), defaultdict(set)
        for row in corpus.examples("nlvr2", split):
            labels[row["group"]].append(row["label"])
            sentences[row["group"]].add(row["text"])
        assert {tuple(sorted(group)) for group in labels.values()} == {(0, 0, 1, 1)}
        assert all(len(group) == 1 for group in sentences.values())


def test_the_same_seed_gives_the_same_corpus_and_another_another(corpus: corpora.Corpus, tmp_path: Path) -> None:
    random.seed(3), np.random.seed(3)  # what others did to the global generators does not count
    assert scenes.build(tmp_path / "again", size=SIZE).fingerprint == corpus.fingerprint
    assert scenes.build(tmp_path / "other", size=SIZE, seed=1).fingerprint != corpus.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"]


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(corpus: corpora.Corpus, tmp_path: Path) -> None:
    small = scenes.build(tmp_path / "small", size=40).examples("nlvr2", "train")
    assert list(small) == list(corpus.examples("nlvr2", "train").select(range(40)))


def test_no_picture_is_in_two_splits(corpus: corpora.Corpus) -> None:
    pixels = defaultdict(set)
    for split in corpus.splits("nlvr2"):
        for row in corpus.examples("nlvr2", split):
            for image in row["image_ids"]:
                picture = corpus.image(image)
                assert picture is not None and picture.size == (64, 64)
                pixels[split].add(np.where(np.ptp(np.asarray(picture), 2, keepdims=True) > 0, picture, 0).tobytes())
    assert not pixels["train"] & pixels["dev"] and not pixels["train"] & pixels["test1"]
    assert not pixels["dev"] & pixels["test1"]


def test_regions_are_what_the_detector_sees_in_the_stored_pictures(corpus: corpora.Corpus) -> None:
    for row in corpus.examples("nlvr2", "dev").select(range(8)):
        for image in row["image_ids"]:
            picture = corpus.image(image)
            assert picture is not None
            features, boxes = detect(picture)
            assert np.array_equal(corpus.regions(image)[0], features.astype(np.float16))
            assert np.array_equal(corpus.regions(image)[1], boxes)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_difficulty_has_its_shapes_and_kinds(difficulty: str, tmp_path: Path) -> None:
    level = DIFFICULTIES[difficulty]
    corpus = scenes.build(tmp_path / difficulty, size=600, difficulty=difficulty)
    rows = corpus.examples("nlvr2", "train")
    kinds = Counter(rows["category"])
    assert set(kinds) == {kind for kind, share in zip(KINDS, level.kinds, strict=True) if share}
    counts = {corpus.num_regions(image) for images in rows["image_ids"] for image in images}
    assert counts == set(range(level.shapes[0], level.shapes[1] + 1))


def test_the_detector_counts_every_shape_it_is_drawn(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(50):
        picture = draw_picture(rng, DIFFICULTIES["hard"]._replace(overlap=0))
        features, boxes = detect(render(picture, 220))
        assert len(features) == len(picture)
        assert Counter(tuple((features[:, :3] * 255).round().astype(int)[i]) for i in range(len(features))) == Counter(
            COLOURS[shape.colour] for shape in picture
        )


def shape(size: str, colour: str, form: str, column: int, row: int) -> Shape:
    return Shape(size, colour, form, (column, row), (column * 21 + 1, row * 21 + 1))


LEFT = (shape("small", "red", "circle", 0, 0), shape("large", "red", "square", 2, 2))
RIGHT = (shape("small", "blue", "circle", 1, 1),)


@pytest.mark.parametrize(
    ("kind", "claims"),
    [
        (
            "existence",
            {"There is a red shape in the left image.": True, "There is a red shape in the right image.": False},
        ),
        ("existence", {"There is no blue shape.": False, "No blue shape can be seen in the left image.": True}),
        ("size", {"There is a small red shape in the left image.": True, "There is no large red shape.": False}),
        ("counting", {"The left image contains exactly two red shapes.": True}),
        ("counting", {"The right image contains exactly two red shapes.": False}),
        ("counting", {"There are at least two red shapes in the left image.": True}),
        ("comparison", {"There are more circles in the left image than in the right one.": False}),
        ("comparison", {"Both images have the same number of circles.": True}),
        ("comparison", {"The left image has more red shapes than the right image.": True}),
        ("comparison", {"The left image has fewer red shapes than the right image.": False}),
        ("quantifier", {"Both images contain a circle.": True, "Only one of the images contains a circle.": False}),
        ("quantifier", {"Only one of the images contains a square.": True, "Neither image contains a square.": False}),
        ("position", {"There is a square at the bottom of the left image.": True}),
        ("position", {"There is a square at the top of the left image.": False}),
        ("position", {"In the left image, a circle is on the left side.": True}),
        ("colour", {"In the left image there are more red shapes than blue shapes.": True}),
        ("colour", {"In the right image there are more red shapes than blue shapes.": False}),
    ],
)
def test_sentences_mean_what_they_say(kind: str, claims: dict[str, bool]) -> None:
    """Left: a small red circle top left, a large red square bottom right. Right: a small blue circle in the middle."""
    rng, level, told = random.Random(0), DIFFICULTIES["hard"]._replace(nouns=(1, 1, 0)), {}
    for _ in range(3_000):
        sentence, truth = KINDS[kind](rng, [(LEFT, RIGHT), (RIGHT, LEFT)], level)
        told.setdefault(sentence, truth((LEFT, RIGHT)))
    assert {sentence: told[sentence] for sentence in claims} == claims


def test_sources_are_official_files(tmp_path: Path) -> None:
    scenes.write_sources(tmp_path, task="nlvr2", seed=0, size=20, difficulty="normal")
    names = {"train.json", "dev.json", "test1.json", "images.tar", "nlvr2_components-v1_feats.pt"}
    assert {path.name for path in tmp_path.iterdir()} == names
    line = json.loads((tmp_path / "train.json").read_text().splitlines()[0])
    assert set(line) == {"identifier", "sentence", "label", "synset"} and line["label"] in ("True", "False")


def drawn(task: str, count: int = 600) -> list[dict]:
    made, records, number = TASKS[task], [], 0
    while len(records) < count:
        rng = random.Random(number)
        _, found = made.draw(rng, "train", number, "train", DIFFICULTIES["normal"], count - len(records))
        records, number = records + found, number + 1
    return records


def test_the_text_of_a_question_does_not_give_its_answer_away() -> None:
    for task, answer, limit in (("vqa", "multiple_choice_answer", 0.66), ("gqa", "answer", 0.74)):
        answers = defaultdict(Counter)
        for record in drawn(task, 4_000):
            answers[record["question"]][record[answer]] += 1
        prior = sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000
        assert prior < limit, f"{task}: {prior}"


def test_ten_people_answer_and_most_of_them_are_right() -> None:
    right = [Counter(one["answer"] for one in record["answers"]) for record in drawn("vqa")]
    assert all(answers.total() == 10 for answers in right)
    assert any(len(answers) > 2 for answers in right), "nobody ever disagrees"


def test_an_expression_means_one_shape_only() -> None:
    for record in drawn("refcoco"):
        for text in record["texts"]:
            words = set(text.split())
            meant = [
                index
                for index, shape in enumerate(record["picture"])
                if words <= {"the", "shape", shape.size, shape.colour, shape.shape}
            ]
            assert meant == [record["ann_id"] % 10], text


def test_what_a_question_entails_is_asked_too() -> None:
    records = {record["question_id"]: record for record in drawn("gqa")}
    entailing = [record for record in records.values() if record["entailed"]]
    assert entailing and all(records[other]["image_id"] == record["image_id"] for record in entailing
                             for other in record["entailed"] if other in records)  # fmt: skip
    graphs = [record["scene_graph"] for record in records.values() if "scene_graph" in record]
    assert all(0 <= one["x"] and one["x"] + one["w"] <= 64 for graph in graphs for one in graph["objects"].values())


def test_hypotheses_come_in_threes_of_different_truth() -> None:
    labels = [record["gold_label"] for record in drawn("snli_ve")]
    assert {frozenset(labels[start : start + 3]) for start in range(0, 600, 3)} == {
        frozenset(("entailment", "neutral", "contradiction"))
    }


def test_a_picture_has_five_captions_in_one_split() -> None:
    images = Counter(record["image_id"] for record in drawn("retrieval"))
    assert set(images.values()) == {5}


BOXED = ("visual7w", "guesswhat", "guesswhat_pointing", "vcr_q2a", "vcr_qa2r")


@pytest.mark.parametrize("task", BOXED)
@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_a_task_about_boxes_is_sound(task: str, difficulty: str, tmp_path: Path) -> None:
    corpus = scenes.build(tmp_path / "corpus", task=task, size=60, difficulty=difficulty)
    wanted = tasks.load(task).splits
    assert {split: corpus.examples(task, split).num_rows for split in wanted} == dict(
        zip(wanted, (60, 100, 100), strict=True)
    )
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    pictures = [set(sum(corpus.examples(task, split)["image_ids"], [])) for split in wanted]
    assert not pictures[0] & pictures[1] and not pictures[0] & pictures[2] and not pictures[1] & pictures[2]


@pytest.mark.parametrize("task", BOXED)
def test_every_box_is_a_region(task: str, tmp_path: Path) -> None:
    corpus = scenes.build(tmp_path / "corpus", task=task, size=60)
    for row in corpus.examples(task, "train"):
        regions = {tuple(box) for box in (corpus.regions(row["image_ids"][0])[1] * 64).round().tolist()}
        assert regions.issuperset(tuple(box) for box in (np.array(row["boxes"]) * 64).round().tolist())


def test_the_text_alone_does_not_tell_the_right_choice(tmp_path: Path) -> None:
    """Where the right one lies among its like; and of VCR the most likely choice by how often each word is right."""
    for task in ("visual7w", "guesswhat_pointing", "vcr_q2a", "vcr_qa2r"):
        rows = scenes.build(tmp_path / task, task=task, size=1_200).examples(task, "train")
        assert max(Counter(rows["label"]).values()) < 0.4 * 1_200, task
        if task.startswith("vcr"):
            right, given = Counter(), Counter()
            said = [[(row["text"].split()[-2], *choice.split()[-3:]) for choice in row["choices"]] for row in rows]
            for choices, label in zip(said, rows["label"], strict=True):
                right[choices[label]] += 1
                given.update(choices)
            best = [max(range(4), key=lambda place: right[one[place]] / given[one[place]]) for one in said]
            assert np.mean(np.array(best) == rows["label"]) < 0.45, task


def test_the_text_of_a_guess_does_not_give_its_answer_away() -> None:
    answers = defaultdict(Counter)
    for record in drawn("guesswhat", 4_000):
        ((text, answer),) = record["qas"]
        answers[text][answer] += 1
    assert sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000 < 0.45
    assert {answer for counts in answers.values() for answer in counts} == {"Yes", "No", "N/A"}


def test_guesses_are_true_and_a_dialogue_leaves_one_shape() -> None:
    for record in drawn("guesswhat"):
        ((text, answer),) = record["qas"]
        words = text.strip("?").split()
        noun, said = words[2 : words.index("thing") + 1 if "thing" in words else 3], words[-1]
        meant = [one for one in record["picture"] if set(noun) - {"thing"} <= {one.size, one.colour, one.shape}]
        assert len(meant) == (answer != "N/A"), text
        assert not meant or (said in (meant[0].colour, meant[0].shape)) == (answer == "Yes"), text
    for record in drawn("guesswhat_pointing"):
        left = [
            index
            for index, one in enumerate(record["picture"])
            if all(
                (text.strip("?").split()[-1] in (one.size, one.colour, one.shape)) == (answer == "Yes")
                for text, answer in record["qas"]
            )
        ]
        assert left == [record["target"]]


def test_one_choice_is_true_of_the_picture() -> None:
    for record in drawn("vcr_q2a"):
        picture, index = record["picture"], record["question"][-2][0]
        assert [words[2] == picture[index].colour for words in record["answer_choices"]].index(True) == record[
            "answer_label"
        ]
        there = {(one.colour, one.shape) for one in picture}
        truths = [(words[3], words[4]) in there for words in record["rationale_choices"]]
        assert truths.count(True) == 1 and truths[record["rationale_label"]]
    for record in drawn("visual7w"):
        words = set(record["question"].strip("?").split())
        shapes = {number: record["picture"][number % 10] for number in (record["answer"], *record["multiple_choices"])}
        known = {*COLOURS, "circle", "square", "triangle", "small", "medium", "large"}
        meant = [number for number, one in shapes.items() if words & known <= {one.size, one.colour, one.shape}]
        assert len(shapes) == 4 and meant == [record["answer"]]


@pytest.mark.parametrize("task", ["nlvr", "vqa_rad"])
def test_a_task_whose_reader_holds_validation_out_is_sound(task: str, tmp_path: Path) -> None:
    corpus = scenes.build(tmp_path / "corpus", task=task, size=120)
    wanted = tasks.load(task, corpus.answers(task)).splits
    counts = [corpus.examples(task, split).num_rows for split in wanted]
    assert counts[0] + counts[1] == 220 and counts[1] >= 15 and counts[2] == 100
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    pixels = [
        {tuple(map(corpus.image_bytes, row["image_ids"])) for row in corpus.examples(task, split)}
        for split in (wanted[0], wanted[2])
    ]
    assert not pixels[0] & pixels[1]


def test_the_text_of_a_question_of_vqa_rad_does_not_give_its_answer_away() -> None:
    answers = defaultdict(Counter)
    for record in drawn("vqa_rad", 4_000):
        answers[record["question"]][record["answer"]] += 1
    assert sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000 < 0.66


def test_visual_genomes_questions_have_as_much_validation_as_their_format_takes(tmp_path: Path) -> None:
    corpus = scenes.build(tmp_path / "corpus", task="genome_qa", size=40)
    assert corpus.manifest["examples"] == {"genome_qa": {"train": 40, "val": 5_000}}
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    images = [{image for (image,) in corpus.examples("genome_qa", split)["image_ids"]} for split in ("train", "val")]
    assert not images[0] & images[1]
    known = defaultdict(Counter)
    for row in corpus.examples("genome_qa", "val"):
        known[row["text"]][row["answers"][0]] += 1
    assert sum(counts.most_common(1)[0][1] for counts in known.values()) / 5_000 < 0.66


def test_texts_to_pre_train_on_have_pictures_regions_with_classes_and_answers(tmp_path: Path) -> None:
    """The classes are told from the pixels; the drawing knows the truth."""
    corpus = scenes.build(tmp_path / "made", task="pretrain", size=150)
    rows = corpus.examples("pretrain", "mscoco_train")
    assert set(rows["category"]) == {"mscoco", "vg", "vqa", "gqa"} and len(rows) == 150
    table = corpus.answers("pretrain")
    assert all(answer in table for answers in rows["answers"] for answer in answers)
    assert all(
        bool(answers) == (source in ("vqa", "gqa"))
        for answers, source in zip(rows["answers"], rows["category"], strict=True)
    )
    images = {found[0] for found in rows["image_ids"]}
    assert not images & {found[0] for found in corpus.examples("pretrain", "mscoco_minival")["image_ids"]}
    rng = random.Random("0/mscoco_train/0")
    pictures, _ = TASKS["pretrain"].draw(rng, "mscoco_train", 0, "train", DIFFICULTIES["normal"], 150)
    for image, picture in pictures.items():
        fields, (_, boxes) = corpus.fields(image), corpus.regions(image)
        assert corpus.image(image) is not None and (fields["objects_conf"] > 0.5).all()
        for shape in picture:
            middle = [(at + SIZES[shape.size] / 2) / SIDE for at in shape.corner]
            nearest = int(np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).sum(1).argmin())
            assert corpus.tags(image)[nearest] == shape.shape
            assert list(COLOURS)[fields["attrs_id"][nearest]] == shape.colour
