"""All of MLflow: runs and their journals, the registry, figures and tables, serving."""

from vlx.tracking.registry import Promotion, download, promote, resolve, rollback
from vlx.tracking.run import Run, links, run, sync

__all__ = [
    "Promotion",
    "Run",
    "download",
    "links",
    "promote",
    "resolve",
    "rollback",
    "run",
    "sync",
]
