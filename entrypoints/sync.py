"""Send what a dead tracking server missed.  mlflow run . -e sync -P folder=outputs"""

import logging
from pathlib import Path

from vlx import tracking
from vlx.config import SyncConfig, launch
from vlx.errors import UserError


def main(cfg: SyncConfig) -> int:
    """Returns the number of runs that were brought up to date."""
    folders = sorted(path.parent for path in Path(cfg.folder).rglob(tracking.JOURNAL))
    if not folders:
        raise UserError(f"{cfg.folder}: no run's journal in or under it; give the folder of a run, or one above.")
    done = sum(tracking.sync(folder) for folder in folders)
    logging.getLogger("vlx").info("%d of %d runs are whole on the server.", done, len(folders))
    if done < len(folders):
        raise UserError(f"{len(folders) - done} runs are still not whole: the tracking server is away; sync again later.")
    return done


if __name__ == "__main__":
    launch(main, SyncConfig)
