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
FORMATS: dict[str, Entry] = {}


def load(entries: Mapping[str, Entry], name: str, *, kind: str) -> Any:
    """Import the spec of that name. Raises ConfigError that lists the names; kind: architecture, task, ..."""
    if name not in entries:
        raise ConfigError(f"{kind}={name}: expected one of {', '.join(entries)}.{did_you_mean(name, list(entries))}")
    module, _, attribute = entries[name].target.partition(":")
    return getattr(import_module(module), attribute)


def summaries(entries: Mapping[str, Entry]) -> str:
    """`name: summary; ...` for the help of an option."""
    return "; ".join(f"{name}: {entry.summary}" for name, entry in entries.items())
