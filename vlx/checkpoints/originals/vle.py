"""VLE's checkpoints: the original's folders, Lightning's files, DeepSpeed's shards (VLE, modeling_vle.py)."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers.models.clip import CLIPVisionConfig
from transformers.models.deberta_v2 import DebertaV2Config

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import copied_weights, read_weights
from vlx.errors import CheckpointError
from vlx.models.vle import HEADS, TIED, Vle, VleConfig, resize_positions

IS_FOLDER = True
Groups = Sequence[dict[str, torch.Size]]  # shapes of the weights that an optimizer group holds
POSITIONS = "vle.vision_model.vision_model.embeddings.position_embedding.weight"
BUFFERS = ("vle.vision_model.vision_model.embeddings.position_ids", "vle.text_model.embeddings.position_ids")
DEBERTA_ONLY = {  # entries that DeBERTa's code reads and its configuration class does not declare
    "norm_rel_ebd", "share_att_key", "position_buckets", "conv_kernel_size", "conv_act", "conv_groups",
    "embedding_size", "attention_head_size",
}  # fmt: skip
VISION_NAMES = CLIPVisionConfig.__annotations__.keys()
TEXT_NAMES = DebertaV2Config.__annotations__.keys() | DEBERTA_ONLY
NAMES = VleConfig.__annotations__.keys() - {"heads"}
LABEL_NAMES = {"id2label", "label2id"}
FOREIGN = ("deepspeed.", "pytorch_lightning.", "lightning.")  # packages whose objects a file may hold
SHARD = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt")


class Inert:
    """In place of an object of DeepSpeed's or Lightning's, whose code is not run."""

    def __init__(self, *state: object) -> None: ...


def read_states(path: Path, *names: str) -> dict[str, Any]:
    """A file that DeepSpeed or Lightning saved, mapped into memory. names: the entries that it must have."""
    try:
        foreign = [name for name in get_unsafe_globals_in_checkpoint(path) if name.startswith(FOREIGN)]
        with safe_globals([(Inert, name) for name in foreign]):
            states = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except Exception as error:  # torch raises many kinds on a damaged or hostile file
        raise CheckpointError(f"{path}: not a readable checkpoint ({' '.join(str(error).split())[:200]}).") from error
    for name in names:
        if name not in states:
            raise CheckpointError(f"{path}: no {name} in it; expected a file of Lightning's or DeepSpeed's.")
    return states


def merge_zero(folder: Path) -> dict[str, Tensor]:
    """The fp32 weights that ZeRO splits into one shard a rank, and the buffers, as fp32 too (DeepSpeed,
    zero_to_fp32.py)."""
    latest = folder / "latest"
    if latest.is_file():
        folder = folder / latest.read_text().strip()
    shards = {int(match[1]): path for path in folder.glob("*.pt") if (match := SHARD.fullmatch(path.name))}
    models = [*folder.glob("mp_rank_00_model_states.pt"), *folder.glob("*zero_pp_rank_0_mp_rank_00_model_states.pt")]
    if not shards or not models:
        raise CheckpointError(f"{folder}: no *_model_states.pt or no *_optim_states.pt. Copy DeepSpeed's whole folder.")
    states = [read_states(shards[rank], "optimizer_state_dict")["optimizer_state_dict"] for rank in sorted(shards)]
    count = states[0].get("partition_count", 0)
    ranks = max(count) if isinstance(count, list) else count
    if sorted(shards) != list(range(ranks)):
        raise CheckpointError(f"{folder}: shards of ranks {sorted(shards)}, expected 0 to {ranks - 1}. Copy them all.")
    model = read_states(models[0], "module", "buffer_names", "param_shapes")
    buffers = {name: model["module"][name].float() for name in model["buffer_names"]}
    is_stage_three = "fp32_flat_groups" in states[0]
    merge = merge_stage_three if is_stage_three else merge_stage_two
    return buffers | merge(states, model["param_shapes"], str(folder))


def merge_stage_three(states: Sequence[dict[str, Any]], groups: Groups, source: str) -> dict[str, Tensor]:
    """Every rank has a part of every weight."""
    rows = torch.stack([torch.cat(list(state["fp32_flat_groups"])) for state in states])
    return split(rows, {name: group[name] for group in groups for name in group}, source)


def merge_stage_two(states: Sequence[dict[str, Any]], groups: Groups, source: str) -> dict[str, Tensor]:
    """Stages 1 and 2: every rank has a slice of one vector of all weights, which ends in zeros."""
    weights: dict[str, Tensor] = {}
    for number, group in enumerate(groups):
        vector = torch.cat([state["single_partition_of_fp32_groups"][number] for state in states])
        weights |= split(vector[None], group, source, padding=2 * len(states))
    return weights


def split(rows: Tensor, shapes: dict[str, torch.Size], source: str, *, padding: int = 1) -> dict[str, Tensor]:
    """Split rows [W,n] into tensors by name. A tensor follows the one before it and has an equal part in each row.
    padding: the numbers at the end of a row are fewer than this."""
    sizes = [-(-shape.numel() // len(rows)) for shape in shapes.values()]
    if not 0 <= rows.shape[1] - sum(sizes) < padding:
        counts = f"{rows.shape[1]} numbers, expected {sum(sizes)}"
        raise CheckpointError(f"{source}: {counts}. Are all shards of one step?")
    parts = zip(shapes.items(), rows[:, : sum(sizes)].split(sizes, 1), strict=True)
    return {name: part.flatten()[: shape.numel()].view(shape) for (name, shape), part in parts}


def read_any(path: Path) -> dict[str, Tensor]:
    """Weights of a folder or file of any kind, by the file's names."""
    if path.is_file() and path.suffix == ".ckpt":
        return read_states(path, "state_dict")["state_dict"]
    if (path / "latest").is_file() or any(path.glob("*_optim_states.pt")):
        return merge_zero(path)
    files = (path / "pytorch_model.bin", path / "model.safetensors", path)
    return read_weights(next(file for file in files if file.is_file() or file == path))


def read_config(path: Path) -> dict[str, Any]:
    """The model's entries of an original config.json. Its labels count unless they are LABEL_0, LABEL_1, ..."""
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        text = content["text_config"]
        vision = content["vision_config"]
        if vision["model_type"] == "clip":
            vision = vision["vision_config"]
        kinds = (text["model_type"], vision["model_type"])
        text_entries = {name: text[name] for name in TEXT_NAMES & text.keys()}
        vision_entries = {name: vision[name] for name in VISION_NAMES & vision.keys()}
        labels = content.get("id2label", {}).values()
        unnamed = all(re.fullmatch(r"LABEL_\d+", str(label)) for label in labels)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; VLE's weights need their config.json.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a VLE configuration ({type(error).__name__}: {error}).") from error
    if kinds != ("deberta-v2", "clip_vision_model"):
        raise CheckpointError(f"{path}: towers {' and '.join(kinds)}, expected deberta-v2 and clip_vision_model.")
    names = NAMES if unnamed else NAMES | LABEL_NAMES
    entries = {name: content[name] for name in names & content.keys()}
    return entries | {"text_config": text_entries, "vision_config": vision_entries}


def fit_positions(vision: dict[str, Any], table: Tensor, image_size: int) -> Tensor:
    """Position embeddings [1+P,H] of images of `image_size`; 0: the table as it is. Sets the image size of the vision
    configuration, whose defaults 32 and 224 are CLIP's."""
    patch = vision.get("patch_size", 32)
    grid = math.isqrt(len(table) - 1)
    if image_size or vision.get("image_size", 224) // patch != grid:
        vision["image_size"] = image_size or grid * patch
    return resize_positions(table, image_size // patch) if image_size else table


def model_names(names: Iterable[str]) -> dict[str, str]:
    """The model's name of every weight of a file: without the prefixes of DeepSpeed and Lightning; weights of a trunk
    that was saved alone get the trunk's."""
    by_file = {name: name.removeprefix("module.").removeprefix("model.") for name in names}
    if any(name.startswith("vle.") for name in by_file.values()):
        return by_file
    heads = tuple(f"{module}." for module in HEADS.values())
    return {file_name: name if name.startswith(heads) else f"vle.{name}" for file_name, name in by_file.items()}


def find_config(path: Path) -> Path:
    """The config.json in a folder, or else in the folder that holds the path."""
    inside = path / "config.json"
    return inside if inside.is_file() else path.parent / "config.json"


def load_vle(
    path: Path, *, config: Path | None = None, heads: tuple[str, ...] = (), new_head: bool = False, image_size: int = 0,
    **entries: Any,
) -> tuple[Vle, LoadReport]:  # fmt: skip
    """Load weights of any kind.

    config: a config.json; by default the one in the folder or beside the file. heads: of HEADS; by default the file's.
    new_head: heads that the file does not have keep their random initialization. image_size: position embeddings are
    resized to it. entries: of the configuration.
    """
    weights = read_any(path)
    options = read_config(config or find_config(path))
    names = model_names(weights)
    file_name = {name: name_in_file for name_in_file, name in names.items()}
    prefixes = {head: f"{module}." for head, module in HEADS.items()}
    if not heads:
        heads = tuple(head for head in HEADS if any(name.startswith(prefixes[head]) for name in file_name))
    if not heads:
        choices = ", ".join(HEADS)
        raise CheckpointError(f"{path}: it has no head. Name those that shall start at random, of {choices}.")
    for name, source in TIED.items():
        if {name, source} <= file_name.keys():
            weights[file_name[name]] = weights[file_name[source]]
    if table := file_name.get(POSITIONS):
        weights[table] = fit_positions(options["vision_config"], weights[table], image_size)
    if "id2label" not in options and "vqa_classifier.3.bias" in file_name:
        options["num_labels"] = len(weights[file_name["vqa_classifier.3.bias"]])
    model = Vle(VleConfig(**(options | {"heads": list(heads)} | entries)))
    skipped = (*BUFFERS, *(prefixes[head] for head in HEADS if head not in heads))
    new_prefixes = tuple(prefixes[head] for head in heads) if new_head else ()
    report = load_weights(
        model, weights, source=str(path), rename=names.__getitem__, may_miss=(*TIED, *new_prefixes),
        may_exceed=tuple(name_in_file for name_in_file, name in names.items() if name.startswith(skipped)),
    )  # fmt: skip
    return model, report


def load_original(path: Path) -> tuple[Vle, LoadReport]:
    return load_vle(path)


def input_shape(model: Vle) -> tuple[int, int]:
    """Images of an example and features of a region; 0: the model reads pixels."""
    return 1, 0


def export_original(model: Vle) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's, and the buffers of transformers 4.26."""
    weights = copied_weights(model)
    sizes = (len(weights[POSITIONS]), model.config.text_config.max_position_embeddings)
    return weights | {name: torch.arange(size)[None] for name, size in zip(BUFFERS, sizes, strict=True)}
