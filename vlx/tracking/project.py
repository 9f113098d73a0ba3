"""The project and its experiment, by name and place.

Imports neither MLflow nor the rest of vlx.tracking: MLflow imports this module while it is itself half imported.
"""

from pathlib import Path

EXPERIMENT = "vlx"


def project_folder() -> Path | None:
    """Return the nearest folder with vlx's MLproject, from the working directory upwards."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        file = folder / "MLproject"
        if file.is_file() and "name: vlx" in file.read_text(encoding="utf-8", errors="ignore").splitlines():
            return folder
    return None
