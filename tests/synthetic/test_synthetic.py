"""The built-in corpus: reproducible from its seed, true of its images, and no text gives its label away."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlx import corpora, synthetic, tasks
from vlx.corpora import validate
from vlx.corpora.regions import detect
from vlx.synthetic.images import COLOURS, DIFFICULTIES, IMAGE_SIZE, SHAPES, SIZES, Shape, generate_image, render
from vlx.synthetic.nlvr2_statements import MAKERS
from vlx.synthetic.records import SetRequest
from vlx.synthetic.vilbert_files import vcr_records

SIZE = 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> corpora.Corpus:
    return synthetic.build(tmp_path_factory.mktemp("synthetic") / "corpus", size=SIZE)


def test_splits_have_the_sizes_and_names_of_nlvr2(corpus: corpora.Corpus) -> None:
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


def test_a_seed_gives_one_corpus_and_a_different_seed_a_different_one(corpus: corpora.Corpus, tmp_path: Path) -> None:
    random.seed(3)  # the state of the global generators has no effect
    np.random.seed(3)
    assert synthetic.build(tmp_path / "equal", size=SIZE).fingerprint == corpus.fingerprint
    assert synthetic.build(tmp_path / "other", size=SIZE, seed=1).fingerprint != corpus.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["equal", "other"]


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one(corpus: corpora.Corpus, tmp_path: Path) -> None:
    small = synthetic.build(tmp_path / "small", size=40).examples("nlvr2", "train")
    assert list(small) == list(corpus.examples("nlvr2", "train").select(range(40)))


def test_no_image_is_in_two_splits(corpus: corpora.Corpus) -> None:
    pixels = defaultdict(set)
    for split in corpus.splits("nlvr2"):
        for row in corpus.examples("nlvr2", split):
            for image in row["image_ids"]:
                rendered = corpus.image(image)
                assert rendered is not None and rendered.size == (64, 64)
                is_shape = np.ptp(np.asarray(rendered), 2, keepdims=True) > 0  # the background is grey
                pixels[split].add(np.where(is_shape, rendered, 0).tobytes())
    assert not pixels["train"] & pixels["dev"] and not pixels["train"] & pixels["test1"]
    assert not pixels["dev"] & pixels["test1"]


def test_regions_are_those_that_the_detector_finds_in_the_stored_images(corpus: corpora.Corpus) -> None:
    for row in corpus.examples("nlvr2", "dev").select(range(8)):
        for image in row["image_ids"]:
            rendered = corpus.image(image)
            assert rendered is not None
            features, boxes = detect(rendered)
            assert np.array_equal(corpus.regions(image)[0], features.astype(np.float16))
            assert np.array_equal(corpus.regions(image)[1], boxes)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_difficulty_has_its_numbers_of_shapes_and_kinds_of_statements(difficulty: str, tmp_path: Path) -> None:
    level = DIFFICULTIES[difficulty]
    corpus = synthetic.build(tmp_path / difficulty, size=600, difficulty=difficulty)
    rows = corpus.examples("nlvr2", "train")
    kinds = Counter(rows["category"])
    assert set(kinds) == {kind for kind, weight in zip(MAKERS, level.statement_weights, strict=True) if weight}
    counts = {corpus.num_regions(image) for images in rows["image_ids"] for image in images}
    assert counts == set(range(level.num_shapes[0], level.num_shapes[1] + 1))


def test_the_detector_finds_every_shape_that_does_not_overlap() -> None:
    rng = random.Random(0)
    for _ in range(50):
        shapes = generate_image(rng, DIFFICULTIES["hard"]._replace(max_shift=0))
        features, _ = detect(render(shapes, 220))
        colours = (features[:, :3] * 255).round().astype(int)
        assert Counter(map(tuple, colours.tolist())) == Counter(COLOURS[shape.colour] for shape in shapes)


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
    rng = random.Random(0)
    level = DIFFICULTIES["hard"]._replace(noun_weights=(1, 1, 0))
    truths: dict[str, bool] = {}
    for _ in range(3_000):
        statement = MAKERS[kind](rng, [(LEFT, RIGHT), (RIGHT, LEFT)], level=level)
        truths[statement.text] = statement.is_true((LEFT, RIGHT))
    assert {sentence: truths[sentence] for sentence in claims} == claims


def test_sources_are_official_files(tmp_path: Path) -> None:
    synthetic.write_sources(tmp_path, task="nlvr2", seed=0, size=20, difficulty="normal")
    names = {"train.json", "dev.json", "test1.json", "images.tar", "nlvr2_components-v1_feats.pt"}
    assert {path.name for path in tmp_path.iterdir()} == names
    line = json.loads((tmp_path / "train.json").read_text().splitlines()[0])
    assert set(line) == {"identifier", "sentence", "label", "synset"} and line["label"] in ("True", "False")


def generated(task: str, count: int = 600, *, difficulty: str = "normal") -> list[dict[str, Any]]:
    """Records of the train split."""
    records: list[dict[str, Any]] = []
    index = 0
    while len(records) < count:
        request = SetRequest("train", "train", index, DIFFICULTIES[difficulty], count - len(records))
        records += synthetic.TASKS[task].generate(random.Random(index), request).records
        index += 1
    return records


def test_the_text_of_a_question_does_not_give_its_answer_away() -> None:
    for task, answer, limit in (("vqa", "multiple_choice_answer", 0.66), ("gqa", "answer", 0.74)):
        answers = defaultdict(Counter)
        for record in generated(task, 4_000):
            answers[record["question"]][record[answer]] += 1
        prior = sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000
        assert prior < limit, f"{task}: {prior}"


def test_ten_annotators_answer_and_some_disagree() -> None:
    votes = [Counter(entry["answer"] for entry in record["answers"]) for record in generated("vqa")]
    assert all(answers.total() == 10 for answers in votes)
    assert any(len(answers) > 2 for answers in votes), "all annotators agree on every question"


def test_a_referring_expression_fits_exactly_one_shape() -> None:
    for record in generated("refcoco"):
        tokens = set(record["text"].split())
        targets = [
            index
            for index, shape in enumerate(record["shapes"])
            if tokens <= {"the", "shape", shape.size, shape.colour, shape.shape}
        ]
        assert targets == [record["ann_id"] % 10], record["text"]


def test_the_question_that_another_entails_is_in_the_corpus() -> None:
    records = {record["question_id"]: record for record in generated("gqa")}
    entailing = [record for record in records.values() if record["entailed"]]
    assert entailing
    for record in entailing:
        entailed = [records[number] for number in record["entailed"] if number in records]
        assert all(neighbour["image_id"] == record["image_id"] for neighbour in entailed)
    graphs = [record["scene_graph"] for record in records.values() if "scene_graph" in record]
    assert all(0 <= box["x"] and box["x"] + box["w"] <= 64 for graph in graphs for box in graph["objects"].values())


def test_hypotheses_come_in_threes_with_three_labels() -> None:
    labels = [record["gold_label"] for record in generated("snli_ve")]
    assert {frozenset(labels[start : start + 3]) for start in range(0, 600, 3)} == {
        frozenset(("entailment", "neutral", "contradiction"))
    }


def test_an_image_has_five_captions() -> None:
    images = Counter(record["image_id"] for record in generated("retrieval"))
    assert set(images.values()) == {5}


BOXED = ("visual7w", "guesswhat", "guesswhat_pointing", "vcr_q2a", "vcr_qa2r")


@pytest.mark.parametrize("task", BOXED)
@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_a_task_about_boxes_is_sound(task: str, difficulty: str, tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "corpus", task=task, size=60, difficulty=difficulty)
    splits = tasks.load(task).splits
    assert [corpus.examples(task, split).num_rows for split in splits] == [60, 100, 100]
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    images = [set(sum(corpus.examples(task, split)["image_ids"], [])) for split in splits]
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]


@pytest.mark.parametrize("task", BOXED)
def test_every_box_is_a_region(task: str, tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "corpus", task=task, size=60)
    for row in corpus.examples(task, "train"):
        regions = {tuple(box) for box in (corpus.regions(row["image_ids"][0])[1] * 64).round().tolist()}
        assert regions.issuperset(tuple(box) for box in (np.array(row["boxes"]) * 64).round().tolist())


def test_vcr_asks_nothing_of_a_shape_with_too_few_wrong_rationales() -> None:
    """Seven of the nine coloured shapes that are not red are in the image: two are left for three wrong rationales."""
    present = [(colour, form) for colour in ("green", "blue", "yellow") for form in SHAPES][:7]
    neighbours = [shape("large", *pair, index % 3, index // 3) for index, pair in enumerate(present, 1)]
    image = (shape("small", "red", "circle", 0, 0), *neighbours)
    records = vcr_records(random.Random(0), image, image_id=0)
    assert all(record["question"][-2] != [0] for record in records)
    assert vcr_records(random.Random(0), image[:-1], image_id=0), "six of nine: three are left"


def test_the_text_alone_does_not_give_the_correct_choice_away(tmp_path: Path) -> None:
    """Neither does its index, nor for VCR how often a choice is correct in the corpus."""
    for task in ("visual7w", "guesswhat_pointing", "vcr_q2a", "vcr_qa2r"):
        rows = synthetic.build(tmp_path / task, task=task, size=1_200).examples(task, "train")
        assert max(Counter(rows["label"]).values()) < 0.4 * 1_200, task
        if task.startswith("vcr"):
            correct: Counter[tuple[str, ...]] = Counter()
            total: Counter[tuple[str, ...]] = Counter()
            texts = [[(row["text"].split()[-2], *choice.split()[-3:]) for choice in row["choices"]] for row in rows]
            for choices, label in zip(texts, rows["label"], strict=True):
                correct[choices[label]] += 1
                total.update(choices)
            rates = np.array([[correct[choice] / total[choice] for choice in choices] for choices in texts])
            assert np.mean(rates.argmax(1) == rows["label"]) < 0.45, task


def test_the_text_of_a_guesswhat_question_does_not_give_its_answer_away() -> None:
    answers = defaultdict(Counter)
    for record in generated("guesswhat", 4_000):
        ((text, answer),) = record["qas"]
        answers[text][answer] += 1
    assert sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000 < 0.45
    assert {answer for counts in answers.values() for answer in counts} == {"Yes", "No", "N/A"}


def test_answers_are_true_and_a_dialogue_leaves_one_shape() -> None:
    for record in generated("guesswhat"):
        ((text, answer),) = record["qas"]
        tokens = text.strip("?").split()
        noun = set(tokens[2 : tokens.index("thing")] if "thing" in tokens else tokens[2:3])
        targets = [shape for shape in record["shapes"] if noun <= {shape.size, shape.colour, shape.shape}]
        assert len(targets) == (answer != "N/A"), text
        assert not targets or (tokens[-1] in (targets[0].colour, targets[0].shape)) == (answer == "Yes"), text
    for record in generated("guesswhat_pointing"):
        candidates = [
            index
            for index, shape in enumerate(record["shapes"])
            if all(
                (text.strip("?").split()[-1] in (shape.size, shape.colour, shape.shape)) == (answer == "Yes")
                for text, answer in record["qas"]
            )
        ]
        assert candidates == [record["target"]]


def test_one_choice_is_true_of_the_image() -> None:
    for record in generated("vcr_q2a"):
        target = record["shapes"][record["question"][-2][0]]
        answers = [tokens[2] == target.colour for tokens in record["answer_choices"]]
        assert answers.index(True) == record["answer_label"]
        present = {(shape.colour, shape.shape) for shape in record["shapes"]}
        rationales = [(tokens[3], tokens[4]) in present for tokens in record["rationale_choices"]]
        assert rationales.count(True) == 1 and rationales[record["rationale_label"]]
    for record in generated("visual7w"):
        attributes = set(record["question"].strip("?").split()) & {*COLOURS, *SHAPES, *SIZES}
        shapes = {number: record["shapes"][number % 10] for number in (record["answer"], *record["multiple_choices"])}
        targets = [number for number, shape in shapes.items() if attributes <= {shape.size, shape.colour, shape.shape}]
        assert len(shapes) == 4 and targets == [record["answer"]]


@pytest.mark.parametrize("task", ["nlvr", "vqa_rad"])
def test_a_task_whose_reader_holds_validation_out_is_sound(task: str, tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "corpus", task=task, size=120)
    splits = tasks.load(task, corpus.answers(task)).splits
    counts = [corpus.examples(task, split).num_rows for split in splits]
    assert counts[0] + counts[1] == 220 and counts[1] >= 15 and counts[2] == 100
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    pixels = [
        {tuple(map(corpus.image_bytes, row["image_ids"])) for row in corpus.examples(task, split)}
        for split in (splits[0], splits[2])
    ]
    assert not pixels[0] & pixels[1]


def test_the_text_of_a_question_of_vqa_rad_does_not_give_its_answer_away() -> None:
    answers = defaultdict(Counter)
    for record in generated("vqa_rad", 4_000):
        answers[record["question"]][record["answer"]] += 1
    assert sum(counts.most_common(1)[0][1] for counts in answers.values()) / 4_000 < 0.66


def test_visual_genome_has_as_many_validation_questions_as_its_format_takes(tmp_path: Path) -> None:
    corpus = synthetic.build(tmp_path / "corpus", task="genome_qa", size=40)
    assert corpus.manifest["examples"] == {"genome_qa": {"train": 40, "val": 5_000}}
    assert not [finding for finding in validate.validate(corpus) if finding.serious]
    images = [{image for (image,) in corpus.examples("genome_qa", split)["image_ids"]} for split in ("train", "val")]
    assert not images[0] & images[1]
    answers = defaultdict(Counter)
    for row in corpus.examples("genome_qa", "val"):
        answers[row["text"]][row["answers"][0]] += 1
    assert sum(counts.most_common(1)[0][1] for counts in answers.values()) / 5_000 < 0.66


def test_pretraining_texts_have_images_regions_with_classes_and_answers(tmp_path: Path) -> None:
    """Classes come from the features of the regions alone, and agree with the shapes that were rendered."""
    corpus = synthetic.build(tmp_path / "corpus", task="pretrain", size=150)
    rows = corpus.examples("pretrain", "mscoco_train")
    assert set(rows["category"]) == {"mscoco", "vg", "vqa", "gqa"} and len(rows) == 150
    table = corpus.answers("pretrain")
    assert all(answer in table for answers in rows["answers"] for answer in answers)
    assert all(
        bool(answers) == (source in ("vqa", "gqa"))
        for answers, source in zip(rows["answers"], rows["category"], strict=True)
    )
    images = {image for (image,) in rows["image_ids"]}
    assert not images & {image for (image,) in corpus.examples("pretrain", "mscoco_minival")["image_ids"]}
    request = SetRequest("mscoco_train", "train", 0, DIFFICULTIES["normal"], 150)
    image_set = synthetic.TASKS["pretrain"].generate(random.Random("0/mscoco_train/0"), request)
    for image, shapes in image_set.images.items():
        fields, (_, boxes) = corpus.fields(image), corpus.regions(image)
        assert corpus.image(image) is not None and (fields["objects_conf"] > 0.5).all()
        for shape in shapes:
            middle = [(start + SIZES[shape.size] / 2) / IMAGE_SIZE for start in shape.corner]
            nearest = int(np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - middle).sum(1).argmin())
            assert corpus.tags(image)[nearest] == shape.shape
            assert list(COLOURS)[fields["attrs_id"][nearest]] == shape.colour
