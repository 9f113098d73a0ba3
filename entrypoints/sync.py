"""Send the parts of runs that a dead tracking server missed.  mlflow run . -e sync -P folder=outputs"""

import logging

from vlx import tracking
from vlx.config import SyncConfig, launch


def main(cfg: SyncConfig) -> int:
    """Return the number of runs that are complete on the server."""
    complete = tracking.sync(cfg.folder)
    logging.getLogger("vlx").info("%d runs are complete on the server.", complete)
    return complete


if __name__ == "__main__":
    launch(main, SyncConfig)
