"""The import of an original checkpoint with its vocabulary and answers."""

import logging
from pathlib import Path

from vlx import registry
from vlx.checkpoints.answers import read_answers
from vlx.checkpoints.folders import Loaded
from vlx.checkpoints.originals import module_of, read_original
from vlx.config import ImportConfig
from vlx.errors import CheckpointError
from vlx.models.spec import load_spec
from vlx.preprocessing import Preprocessing
from vlx.tokenization import WordPiece

log = logging.getLogger("vlx")


def load_original(cfg: ImportConfig) -> Loaded:
    """Load an original checkpoint in full. Raises CheckpointError."""
    spec = load_spec(cfg.model)
    path = Path(cfg.weights)
    model, report = read_original(spec, path)
    log.info("%s", report.summary())
    default_vocab = (path if path.is_dir() else path.parent) / "vocab.txt"
    tokenizer = WordPiece.load(Path(cfg.vocab or default_vocab)) if spec.tokenizer == "wordpiece" else None
    answers = read_answers(Path(cfg.answers)) if cfg.answers else []
    labels = getattr(model.config, "num_labels", 0)
    if answers and len(answers) != labels:
        raise CheckpointError(f"{cfg.answers}: {len(answers):,} answers, the model has {labels:,}. Take its own file.")
    num_images, region_dim = module_of(spec).input_shape(model)
    preprocessing = Preprocessing(
        architecture=spec.name,
        task=cfg.task,
        answers=tuple(answers),
        soft_targets=bool(cfg.task) and registry.load(registry.TASKS, cfg.task, kind="task").soft_targets,
        num_images=num_images,
        max_text_tokens=cfg.max_text_tokens,
        max_regions=cfg.max_regions,
        region_dim=region_dim,
        detector=cfg.detector,
        object_tags="object_tags" in spec.capabilities,
    )
    return Loaded(model, tokenizer, preprocessing, report)
