"""CLIP-ViL's data: LXMERT's annotations with image files alone, whose pixels the model reads.

clip-vil-vqa        <source>/vqa/ as in lxmert-vqa; images in <source>/mscoco/
clip-vil-gqa        <source>/gqa/ as in lxmert-gqa; images in <source>/gqa_raw_images/
clip-vil-pretrain   <source>/lxmert/ as in lxmert-pretrain; images in <source>/mscoco/ and <source>/vg_raw_images/

Without these folders images are searched in all of the source. mscoco/width_heigths.json (so spelled) lists the
readable images; with it, pre-training leaves out all others, as the original does.
"""

import logging
from functools import partial
from pathlib import Path

from vlx.corpora.formats.annotations import lxmert
from vlx.corpora.formats.format import Files, Format
from vlx.corpora.formats.records import Record, load_json
from vlx.corpora.formats.sources import IMAGES, REGIONS, add_images, with_role, without_role
from vlx.corpora.writer import CorpusWriter
from vlx.errors import CorpusError

SIZES = Path("mscoco") / "width_heigths.json"

log = logging.getLogger("vlx")


def find(folder: Path, *, annotations: lxmert.AnnotationFiles, image_folders: tuple[str, ...]) -> Files:
    """The splits that exist, the vocabulary and images."""
    files = without_role(lxmert.find(folder, annotations), REGIONS)
    existing = tuple(f"{IMAGES}{name}/" for name in image_folders if (folder / name).is_dir())
    if existing:
        elsewhere = {role for role in with_role(files, IMAGES) if not f"{role}/".startswith(existing)}
        files = {role: path for role, path in files.items() if role not in elsewhere}
    return files


def find_pretraining(folder: Path) -> Files:
    files = find(folder, annotations=lxmert.PRETRAIN_FILES, image_folders=("mscoco", "vg_raw_images"))
    return files | ({"sizes": folder / SIZES} if (folder / SIZES).is_file() else {})


def read_pretraining(files: Files, writer: CorpusWriter) -> str:
    """With all answers of all_ans.json."""
    table = lxmert.pretraining_answers(files["vocabulary"], lxmert.QA_SETS)
    writer.add_answers("pretrain", table)
    mentions: dict[str, str] = {}
    readable = readable_images(files["sizes"]) if "sizes" in files else None
    for split in [name for name in lxmert.PRETRAIN_FILES.splits if name in files]:
        rows = lxmert.sentences(files[split], frozenset(table), mentions)
        writer.add_examples("pretrain", split, (row for row in rows if not readable or row.image_ids[0] in readable))
    if readable:
        mentions = only_readable(mentions, readable)
    return add_images(writer, files, mentions)


def only_readable(mentions: dict[str, str], readable: set[str]) -> dict[str, str]:
    rest = {image: where for image, where in mentions.items() if image in readable}
    if len(rest) < len(mentions):
        count = f"{len(rest):,} of {len(mentions):,} images"
        log.warning("%s lists %s; all others are left out", SIZES.name, count)
    return rest


def readable_images(path: Path) -> set[str]:
    """The images' names of a JSON object: file of an image -> [height, width], in spite of the file's name."""
    content: Record = load_json(path, dict)
    for name, size in content.items():
        if (
            not isinstance(size, list)
            or len(size) != 2
            or not all(type(length) is int and length > 0 for length in size)
        ):
            problem = f"{ascii(name)}: found {ascii(size)[:60]}, expected [height, width]"
            raise CorpusError(f"{path}: {problem}. Make it again.")
    return {Path(name).stem for name in content}


CLIP_VIL_VQA = Format(
    partial(find, annotations=lxmert.VQA_FILES, image_folders=("mscoco",)),
    partial(lxmert.read_questions, task="vqa", annotations=lxmert.VQA_FILES),
)
CLIP_VIL_GQA = Format(
    partial(find, annotations=lxmert.GQA_FILES, image_folders=("gqa_raw_images",)),
    partial(lxmert.read_questions, task="gqa", annotations=lxmert.GQA_FILES),
    id_space="visual_genome",
)
CLIP_VIL_PRETRAIN = Format(find_pretraining, read_pretraining, id_space="visual_genome")
