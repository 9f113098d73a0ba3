"""What a format of official files is made of. vlx/registry.py names every format; its file ends in its `Format`s."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlx.corpora.writer import CorpusWriter

Files = dict[str, Path]  # role -> file or folder
IdSpace = Literal["file_name", "coco", "visual_genome"]


@dataclass(frozen=True)
class Format:
    """An official format.

    find: the format's files below a folder, by role. Raises CorpusError if a necessary one is absent.
    read: writes the files into a corpus and returns the detector's name, "none" without regions.
    id_space: what an image id means. COCO and Visual Genome both number their images: image 42 of COCO is not image 42
    of Visual Genome, so that formats of these two spaces cannot share a corpus. Names of files are unambiguous.
    default_task: the task that reads this format unless the user names another format.
    """

    find: Callable[[Path], Files]
    read: Callable[[Files, CorpusWriter], str]
    id_space: IdSpace = "file_name"
    default_task: str = ""
