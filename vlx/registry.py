"""The extension points: a new architecture, task, distillation method or format is one file and one line here.

`target` is a dotted name that is imported when it is first used, so that `--help` imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from vlx.errors import ConfigError, did_you_mean

TRAINING = ("pretrain", "finetune", "distill")


@dataclass(frozen=True)
class Entry:
    """target: `package.module:NAME` of a spec. summary: a few words for `--help`. verbs: of an architecture, those
    that its spec supports (a test compares both)."""

    target: str
    summary: str = ""
    verbs: tuple[str, ...] = ()


ARCHITECTURES = {
    "oscar": Entry("vlx.models.oscar:SPEC", verbs=(*TRAINING, "import")),
    "lxmert": Entry("vlx.models.lxmert:SPEC", verbs=(*TRAINING, "import")),
    "vilbert": Entry("vlx.models.vilbert:SPEC", verbs=(*TRAINING, "import")),
    "clip_vil": Entry("vlx.models.clip_vil:SPEC", verbs=(*TRAINING, "import")),
    "vle": Entry("vlx.models.vle:SPEC", verbs=("import",)),
    "dual": Entry("vlx.models.dual:SPEC", verbs=("finetune", "distill")),
}
TASKS = {
    "nlvr2": Entry("vlx.tasks.statements:NLVR2"),
    "nlvr": Entry("vlx.tasks.statements:NLVR"),
    "vqa": Entry("vlx.tasks.questions:VQA"),
    "gqa": Entry("vlx.tasks.questions:GQA"),
    "vqa_rad": Entry("vlx.tasks.questions:VQA_RAD"),
    "genome_qa": Entry("vlx.tasks.questions:GENOME_QA"),
    "retrieval": Entry("vlx.tasks.retrieval:RETRIEVAL"),
    "snli_ve": Entry("vlx.tasks.statements:SNLI_VE"),
    "guesswhat": Entry("vlx.tasks.statements:GUESSWHAT"),
    "refcoco": Entry("vlx.tasks.grounding:REFCOCO"),
    "refcoco+": Entry("vlx.tasks.grounding:REFCOCO_PLUS"),
    "refcocog": Entry("vlx.tasks.grounding:REFCOCOG"),
    "visual7w": Entry("vlx.tasks.grounding:VISUAL7W"),
    "guesswhat_pointing": Entry("vlx.tasks.grounding:GUESSWHAT_POINTING"),
    "vcr_q2a": Entry("vlx.tasks.choices:VCR_Q2A"),
    "vcr_qa2r": Entry("vlx.tasks.choices:VCR_QA2R"),
}
METHODS = {
    "kd": Entry("vlx.objectives.distillation:KD", "logits"),
    "pkd": Entry("vlx.objectives.distillation:PKD", "logits and [CLS] states"),
    "tinybert": Entry("vlx.objectives.distillation:TINYBERT", "logits, hidden states and attention"),
    "mkd": Entry("vlx.objectives.distillation:MKD", "text-only, image-only and joint logits"),
    "embedding": Entry("vlx.objectives.embedding:EMBEDDING", "pooled vectors"),
}
FORMATS = {
    "nlvr2": Entry("vlx.corpora.formats.annotations.nlvr2:NLVR2"),
    "nlvr": Entry("vlx.corpora.formats.annotations.nlvr:NLVR"),
    "lxmert-vqa": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_VQA"),
    "lxmert-gqa": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_GQA"),
    "lxmert-nlvr2": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_NLVR2"),
    "lxmert-pretrain": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN"),
    "lxmert-pretrain-vqa": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_VQA"),
    "lxmert-pretrain-gqa": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_GQA"),
    "lxmert-pretrain-visual7w": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_VISUAL7W"),
    "lxmert-pretrain-vqa-gqa": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_VQA_GQA"),
    "lxmert-pretrain-vqa-visual7w": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_VQA_VISUAL7W"),
    "lxmert-pretrain-gqa-visual7w": Entry("vlx.corpora.formats.annotations.lxmert:LXMERT_PRETRAIN_GQA_VISUAL7W"),
    "vqa": Entry("vlx.corpora.formats.annotations.vqa:VQA"),
    "gqa": Entry("vlx.corpora.formats.annotations.gqa:GQA"),
    "coco-captions": Entry("vlx.corpora.formats.annotations.captions:COCO_CAPTIONS"),
    "flickr30k": Entry("vlx.corpora.formats.annotations.captions:FLICKR30K"),
    "flickr8k": Entry("vlx.corpora.formats.annotations.captions:FLICKR8K"),
    "snli-ve": Entry("vlx.corpora.formats.annotations.snli_ve:SNLI_VE"),
    "vqa-rad": Entry("vlx.corpora.formats.annotations.vqa_rad:VQA_RAD"),
    "clip-vil-vqa": Entry("vlx.corpora.formats.annotations.clip_vil:CLIP_VIL_VQA"),
    "clip-vil-gqa": Entry("vlx.corpora.formats.annotations.clip_vil:CLIP_VIL_GQA"),
    "clip-vil-pretrain": Entry("vlx.corpora.formats.annotations.clip_vil:CLIP_VIL_PRETRAIN"),
    "refcoco": Entry("vlx.corpora.formats.annotations.refcoco:REFCOCO"),
    "refcoco+": Entry("vlx.corpora.formats.annotations.refcoco:REFCOCO_PLUS"),
    "refcocog": Entry("vlx.corpora.formats.annotations.refcoco:REFCOCOG"),
    "vilbert-vqa": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_VQA"),
    "vilbert-gqa": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_GQA"),
    "vilbert-visual-genome-qa": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_VISUAL_GENOME_QA"),
    "vilbert-retrieval": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_RETRIEVAL"),
    "vilbert-nlvr2": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_NLVR2"),
    "vilbert-snli-ve": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_SNLI_VE"),
    "vilbert-captions": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_CAPTIONS"),
    "vilbert-refcoco": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_REFCOCO"),
    "vilbert-refcoco+": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_REFCOCO_PLUS"),
    "vilbert-refcocog": Entry("vlx.corpora.formats.annotations.vilbert:VILBERT_REFCOCOG"),
    "vilbert-visual7w": Entry("vlx.corpora.formats.annotations.vilbert_boxes:VILBERT_VISUAL7W"),
    "vilbert-guesswhat": Entry("vlx.corpora.formats.annotations.vilbert_boxes:VILBERT_GUESSWHAT"),
    "vilbert-guesswhat-pointing": Entry("vlx.corpora.formats.annotations.vilbert_boxes:VILBERT_GUESSWHAT_POINTING"),
    "vilbert-vcr-q2a": Entry("vlx.corpora.formats.annotations.vilbert_vcr:VILBERT_VCR_Q2A"),
    "vilbert-vcr-qa2r": Entry("vlx.corpora.formats.annotations.vilbert_vcr:VILBERT_VCR_QA2R"),
    "vle-vqa": Entry("vlx.corpora.formats.annotations.vle:VLE_VQA"),
    "oscar-vqa": Entry("vlx.corpora.formats.annotations.oscar:OSCAR_VQA"),
    "oscar-gqa": Entry("vlx.corpora.formats.annotations.oscar:OSCAR_GQA"),
    "oscar-gqa-bal": Entry("vlx.corpora.formats.annotations.oscar:OSCAR_GQA_BAL"),
    "oscar-gqa-all": Entry("vlx.corpora.formats.annotations.oscar:OSCAR_GQA_ALL"),
    "oscar-nlvr2": Entry("vlx.corpora.formats.annotations.oscar:OSCAR_NLVR2"),
    "oscar-retrieval": Entry("vlx.corpora.formats.annotations.oscar_retrieval:OSCAR_RETRIEVAL"),
}


def load(entries: Mapping[str, Entry], name: str, *, kind: str) -> Any:
    """Import the spec of that name. Raises ConfigError that lists the names; kind: architecture, task, ..."""
    if name not in entries:
        raise ConfigError(f"{kind}={name}: expected one of {', '.join(entries)}.{did_you_mean(name, list(entries))}")
    module, _, attribute = entries[name].target.partition(":")
    return getattr(import_module(module), attribute)


def summaries(entries: Mapping[str, Entry]) -> str:
    """`name: summary; ...` for the help of an option."""
    return "; ".join(f"{name}: {entry.summary}" for name, entry in entries.items())
