"""vlx: the experiment platform for vision-and-language models on MLflow."""

import os
from importlib import import_module

from wrapt import register_post_import_hook

__version__ = "0.1.0"

# Offline and quiet unless the user says otherwise (set before mlflow or transformers are imported).
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# After `import vlx`, AutoModel.from_pretrained(folder) knows vlx's models; nothing heavy is imported until then.
register_post_import_hook(lambda _: import_module("vlx.models"), "transformers.models.auto.modeling_auto")
