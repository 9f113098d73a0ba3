"""vlx: the experiment platform for vision-and-language models on MLflow."""

import os
from importlib import import_module
from typing import Any

from vlx.import_hook import after_import

__version__ = "0.1.0"

# The public API is imported when it is first used: functions of vlx.api, one function for each distillation method of
# the registry, such as vlx.kd, and submodules.
API = ("corpus", "evaluate", "fit", "load", "model", "run", "student", "supervised", "task")
MODULES = ("checkpoints", "corpora", "errors", "models", "objectives", "recipes", "tasks", "tracking")

# Offline and quiet unless the user says otherwise (set before mlflow, torch or transformers are imported).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# OpenMP threads that wait spin for a moment (libgomp: 2000 turns, about 20 microseconds) and then sleep. Threads that
# spin for longer stall a step when another process needs the core; threads that sleep at once are slower alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# After `import vlx`, AutoModel.from_pretrained(folder) knows vlx's models; vlx.models waits for AutoModel's import.
after_import("transformers.models.auto.modeling_auto", lambda: import_module("vlx.models"))


def method_names() -> tuple[str, ...]:
    """The distillation methods of the registry."""
    return tuple(import_module("vlx.registry").METHODS)


def __getattr__(name: str) -> Any:
    if name in API:
        return getattr(import_module("vlx.api"), name)
    if name in MODULES:
        return import_module(f"vlx.{name}")
    methods = method_names()
    if name in methods:
        return import_module("vlx.api").distillation_method(name)
    raise AttributeError(f"vlx has no {name}; its public names are {', '.join((*API, *methods, *MODULES))}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *API, *method_names(), *MODULES})
