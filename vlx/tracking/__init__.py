"""All of MLflow: runs and their journals, the registry, figures and tables, serving.

Public names are imported when first used: MLflow imports this package (experiment.py) before MLflow is ready.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlx.tracking.registry import Promotion, download, promote, resolve, rollback  # noqa: F401
    from vlx.tracking.report import (  # noqa: F401
        comparison_figure,
        histogram_figures,
        model_card,
        prediction_figures,
        prediction_files,
        tradeoff_figure,
    )
    from vlx.tracking.runs import Run, Trial, links, run, sync  # noqa: F401
    from vlx.tracking.search_report import log_progress, log_search, pareto_front  # noqa: F401
    from vlx.tracking.stop import Pruned  # noqa: F401
    from vlx.tracking.untracked import UntrackedRun  # noqa: F401

EXPORTS = {  # module -> its public names
    "registry": ("Promotion", "download", "promote", "resolve", "rollback"),
    "report": (
        "comparison_figure",
        "histogram_figures",
        "model_card",
        "prediction_figures",
        "prediction_files",
        "tradeoff_figure",
    ),
    "runs": ("Run", "Trial", "links", "run", "sync"),
    "search_report": ("log_progress", "log_search", "pareto_front"),
    "stop": ("Pruned",),
    "untracked": ("UntrackedRun",),
}


def __getattr__(name: str) -> Any:
    for module, names in EXPORTS.items():
        if name in names:
            return getattr(import_module(f"vlx.tracking.{module}"), name)
    raise AttributeError(f"vlx.tracking has no {name}")
