"""The tasks of the built-in corpus: which format its files have, how images and records are generated and written."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlx.corpora.formats.annotations.vilbert import GENOME_VAL
from vlx.synthetic import caption_files as captions
from vlx.synthetic import lxmert_files as lxmert
from vlx.synthetic import question_files as questions
from vlx.synthetic import vilbert_files as vilbert
from vlx.synthetic.nlvr2_files import generate_nlvr2, write_nlvr2
from vlx.synthetic.nlvr_files import generate_nlvr, write_nlvr
from vlx.synthetic.records import ImageSet, SetRequest, Splits, per_image


class SyntheticTask(NamedTuple):
    """`write` and `write_regions` write official files to a folder; without `write_regions`, the regions are written
    as Oscar's."""

    format: str  # of vlx.corpora.FORMATS
    splits: tuple[str, ...]  # official names for train, validation and, where there is one, test
    generate: Callable[[random.Random, SetRequest], ImageSet]
    write: Callable[[Path, Splits], None]
    num_validation: int = 0  # examples, where the format fixes how many; 0: depends on the size of train
    write_regions: Callable[[Path, dict[str, np.ndarray]], None] | None = None  # rows [R,D+6] by image name


TRAIN_VAL_TEST = ("train", "val", "test")
TRAIN_VALID_TEST = ("train", "valid", "test")
TRAIN_VAL_TESTA = ("train", "val", "testA")
TRAIN_VAL_TESTDEV = ("train", "val", "testdev")

generate_expressions = per_image(captions.expression_records)
generate_visual7w = per_image(vilbert.visual7w_records, image_name="v7w_{}".format, min_shapes=vilbert.NUM_CHOICES)
generate_dialogues = per_image(vilbert.dialogue_records, min_shapes=3)
generate_vcr = per_image(vilbert.vcr_records, image_name=vilbert.vcr_image_name, min_shapes=3)
generate_pretraining = per_image(lxmert.pretraining_records, image_name=lxmert.image_name)
write_refcocog = partial(captions.write_refcoco, split_by="umd")

TASKS = {  # format, splits, generate, write
    "nlvr2": SyntheticTask("nlvr2", ("train", "dev", "test1"), generate_nlvr2, write_nlvr2),
    "vqa": SyntheticTask(
        "vqa", ("train2014", "val2014", "test-dev2015"), per_image(questions.vqa_records), questions.write_vqa
    ),
    "gqa": SyntheticTask("gqa", TRAIN_VAL_TESTDEV, per_image(questions.gqa_records), questions.write_gqa),
    "retrieval": SyntheticTask(
        "coco-captions", TRAIN_VAL_TEST, per_image(captions.caption_records), captions.write_karpathy
    ),
    "refcoco": SyntheticTask("refcoco", TRAIN_VAL_TESTA, generate_expressions, captions.write_refcoco),
    "refcoco+": SyntheticTask("refcoco+", TRAIN_VAL_TESTA, generate_expressions, captions.write_refcoco),
    "refcocog": SyntheticTask("refcocog", TRAIN_VAL_TEST, generate_expressions, write_refcocog),
    "snli_ve": SyntheticTask(
        "snli-ve", ("train", "dev", "test"), per_image(captions.hypothesis_records), captions.write_snli_ve
    ),
    "nlvr": SyntheticTask("nlvr", ("train", "val", "dev"), generate_nlvr, write_nlvr),
    "vqa_rad": SyntheticTask("vqa-rad", TRAIN_VAL_TEST, per_image(questions.vqa_rad_records), questions.write_vqa_rad),
    "genome_qa": SyntheticTask(
        "vilbert-visual-genome-qa",
        ("train", "val"),
        per_image(questions.genome_records),
        questions.write_genome,
        num_validation=GENOME_VAL,
    ),
    "visual7w": SyntheticTask("vilbert-visual7w", TRAIN_VAL_TEST, generate_visual7w, vilbert.write_visual7w),
    "guesswhat": SyntheticTask(
        "vilbert-guesswhat", TRAIN_VALID_TEST, per_image(vilbert.guesswhat_records), vilbert.write_guesswhat
    ),
    "guesswhat_pointing": SyntheticTask(
        "vilbert-guesswhat-pointing", TRAIN_VALID_TEST, generate_dialogues, vilbert.write_dialogues
    ),
    "pretrain": SyntheticTask(
        "lxmert-pretrain",
        lxmert.SPLITS,
        generate_pretraining,
        lxmert.write_texts,
        write_regions=lxmert.write_regions,
    ),
    "vcr_q2a": SyntheticTask("vilbert-vcr-q2a", TRAIN_VAL_TEST, generate_vcr, vilbert.write_vcr),
    "vcr_qa2r": SyntheticTask("vilbert-vcr-qa2r", TRAIN_VAL_TEST, generate_vcr, vilbert.write_vcr),
}
