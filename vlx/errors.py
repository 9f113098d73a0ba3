"""What a user can do wrong.

UserError
├── ConfigError       an option is unknown, of the wrong type, or impossible
├── CorpusError       data files are missing, corrupt or do not fit together
├── CheckpointError   weights are missing, corrupt or of another model
├── RegistryError     a registered model, version or alias is not there
├── TrainingError     training cannot go on with these options
└── SubmissionError   a submission file is not what the official evaluation takes
"""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """One line: what was found, what was expected, what to do. Shown without a traceback; exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """An option is unknown, of the wrong type, or impossible."""


class CorpusError(UserError):
    """Data files are missing, corrupt or do not fit together."""


class CheckpointError(UserError):
    """Weights are missing, corrupt or of another model."""


class RegistryError(UserError):
    """A registered model, version or alias is not there."""


class TrainingError(UserError):
    """Training cannot go on with these options."""


class SubmissionError(UserError):
    """A submission file is not what the official evaluation takes."""


def did_you_mean(word: str, names: Sequence[str]) -> str:
    """What a user who wrote `word` meant, as the end of an error; empty if nothing is near."""
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
