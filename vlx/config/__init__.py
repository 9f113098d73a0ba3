"""What a user can set: one frozen, flat dataclass a verb. Order: defaults < preset < command line."""

from vlx.config.base import Config
from vlx.config.groups import DataFields, ModelFields, PixelFields, PretrainFields, RunFields, TrainFields
from vlx.config.parse import PRESETS, launch, parse
from vlx.config.verbs import (
    VERBS,
    DistillConfig,
    EvaluateConfig,
    FinetuneConfig,
    ImportConfig,
    PredictConfig,
    PrepareConfig,
    PretrainConfig,
    PromoteConfig,
    SearchConfig,
    SyncConfig,
)

__all__ = [
    "PRESETS", "VERBS", "Config", "DataFields", "DistillConfig", "EvaluateConfig", "FinetuneConfig", "ImportConfig",
    "ModelFields", "PixelFields", "PredictConfig", "PrepareConfig", "PretrainConfig", "PretrainFields",
    "PromoteConfig", "RunFields", "SearchConfig", "SyncConfig", "TrainFields", "launch", "parse",
]  # fmt: skip
