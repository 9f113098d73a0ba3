"""Send what a dead tracking server missed.  mlflow run . -e sync -P folder=outputs"""

import logging

from vlx import tracking
from vlx.config import SyncConfig, launch


def main(cfg: SyncConfig) -> int:
    """Returns the number of runs that are whole on the server."""
    done = tracking.sync(cfg.folder)
    logging.getLogger("vlx").info("%d runs are whole on the server.", done)
    return done


if __name__ == "__main__":
    launch(main, SyncConfig)
