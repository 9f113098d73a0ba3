"""CLIP-ViL's data: LXMERT's annotations about pictures alone, which its network reads itself.

clip-vil-vqa        <source>/vqa/ as of lxmert-vqa; pictures in <source>/mscoco/
clip-vil-gqa        <source>/gqa/ as of lxmert-gqa; pictures in <source>/gqa_raw_images/
clip-vil-pretrain   <source>/lxmert/ as of lxmert-pretrain; pictures in <source>/mscoco/ and <source>/vg_raw_images/

Pictures are sought in all of the source where there is no such folder. With mscoco/width_heigths.json (so spelt), which
lists the pictures that can be read, pre-training leaves out those that it does not list, as the original does.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from vlx.corpora.formats import lxmert
from vlx.corpora.formats.files import Format, load_json
from vlx.corpora.formats.sources import add_images
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

PICTURES = {"vqa": ("mscoco",), "gqa": ("gqa_raw_images",), "lxmert": ("mscoco", "vg_raw_images")}
SIZES = Path("mscoco") / "width_heigths.json"

log = logging.getLogger("vlx")


def find(folder: Path, *, name: str) -> dict[str, Path]:
    """The splits there are, the vocabulary and pictures. `name`: of PICTURES."""
    found = {role: path for role, path in lxmert.find(folder, name).items() if not role.startswith("regions ")}
    own = tuple(f"pictures {part}/" for part in PICTURES[name] if (folder / part).is_dir())
    others = [role for role in found if own and role.startswith("pictures ") and not f"{role}/".startswith(own)]
    sizes = {"sizes": folder / SIZES} if name == "lxmert" and (folder / SIZES).is_file() else {}
    return {role: path for role, path in found.items() if role not in others} | sizes


def read_pretraining(files: dict[str, Path], writer: CorpusWriter) -> str:
    """With all answers of all_ans.json."""
    table, wanted = lxmert.pretraining_answers(files["vocabulary"], lxmert.QA_SETS), dict[str, str]()
    known = readable(files["sizes"]) if "sizes" in files else None
    writer.add_answers("pretrain", table)
    for split in [name for name in lxmert.SPLITS["lxmert"] if name in files]:
        rows = lxmert.sentences(files[split], frozenset(table), wanted)
        writer.add_examples("pretrain", split, (row for row in rows if known is None or row.image_ids[0] in known))
    kept = {image: who for image, who in wanted.items() if known is None or image in known}
    if len(kept) < len(wanted):
        log.warning(
            "%s lists %s of %s images; the others are left out", SIZES.name, f"{len(kept):,}", f"{len(wanted):,}"
        )
    return add_images(writer, files, kept)


def readable(path: Path) -> set[str]:
    """The pictures' names of a JSON object: file of a picture -> its [height, width], in spite of the file's name."""
    content: dict[str, Any] = load_json(path, dict)
    for name, size in content.items():
        if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise CorpusError(
                f"{path}: {ascii(name)}: found {ascii(size)[:60]}, expected [height, width]. Make it again."
            )
    return {Path(name).stem for name in content}


FORMATS = {
    f"clip-vil-{name}": Format(partial(find, name=name), partial(lxmert.read, task=name)) for name in ("vqa", "gqa")
}
FORMATS["clip-vil-pretrain"] = Format(partial(find, name="lxmert"), read_pretraining)
