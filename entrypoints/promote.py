"""Make a better version the champion.  mlflow run . -e promote -P name=vlx-nlvr2-student"""

import logging

from vlx import tracking
from vlx.config import PromoteConfig, launch


def main(cfg: PromoteConfig) -> bool:
    """Move the alias champion if the version is better, or back; return whether it moved."""
    if cfg.rollback:
        outcome = tracking.rollback(cfg.name)
    else:
        outcome = tracking.promote(cfg.name, cfg.version or None, metric=cfg.metric, margin=cfg.margin)
    logging.getLogger("vlx").info("%s: %s", cfg.name, outcome.reason)
    return outcome.moved


if __name__ == "__main__":
    launch(main, PromoteConfig)
