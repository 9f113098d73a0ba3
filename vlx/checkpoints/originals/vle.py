"""VLE checkpoints, in and out: the original's folders, Lightning's files, DeepSpeed's shards (VLE, modeling_vle.py)."""

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from transformers.models.clip import CLIPVisionConfig
from transformers.models.deberta_v2 import DebertaV2Config

from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import read_weights
from vlx.errors import CheckpointError
from vlx.models.vle import HEADS, TIED, Vle, VleConfig, resize_positions

IS_FOLDER = True
POSITIONS = "vle.vision_model.vision_model.embeddings.position_embedding.weight"
BUFFERS = ("vle.vision_model.vision_model.embeddings.position_ids", "vle.text_model.embeddings.position_ids")
EXTRA = "norm_rel_ebd share_att_key position_buckets conv_kernel_size conv_act conv_groups embedding_size"
VISION = CLIPVisionConfig.__annotations__.keys()
TEXT = DebertaV2Config.__annotations__.keys() | {*EXTRA.split(), "attention_head_size"}  # what its code reads
OWN, LABELS = VleConfig.__annotations__.keys() - {"heads"}, {"id2label", "label2id"}
FOREIGN = ("deepspeed.", "pytorch_lightning.", "lightning.")  # whose objects a file may hold
SHARD = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt")


class Inert:
    """Stands for an object of DeepSpeed's or Lightning's: nothing of it is needed, nothing of theirs is run."""

    def __init__(self, *state: object) -> None: ...


def read_states(path: Path, *needed: str) -> dict[str, Any]:
    """What DeepSpeed or Lightning saved, mapped and not read."""
    try:
        foreign = [name for name in get_unsafe_globals_in_checkpoint(path) if name.startswith(FOREIGN)]
        with safe_globals([(Inert, name) for name in foreign]):
            states = dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except Exception as error:  # torch raises many kinds on a damaged or hostile file
        raise CheckpointError(f"{path}: not a readable checkpoint ({' '.join(str(error).split())[:200]}).") from error
    if absent := [name for name in needed if name not in states]:
        raise CheckpointError(f"{path}: no {absent[0]} in it; expected a file of Lightning's or DeepSpeed's.")
    return states


def merge_zero(folder: Path) -> dict[str, Tensor]:
    """The fp32 weights that ZeRO keeps in a shard a rank, and the buffers, as fp32 too (the original's script)."""
    folder = folder / (folder / "latest").read_text().strip() if (folder / "latest").is_file() else folder
    shards = {int(match[1]): path for path in folder.glob("*.pt") if (match := SHARD.fullmatch(path.name))}
    models = [*folder.glob("mp_rank_00_model_states.pt"), *folder.glob("*zero_pp_rank_0_mp_rank_00_model_states.pt")]
    if not shards or not models:
        raise CheckpointError(f"{folder}: no *_model_states.pt or no *_optim_states.pt. Copy DeepSpeed's whole folder.")
    states = [read_states(shards[rank], "optimizer_state_dict")["optimizer_state_dict"] for rank in sorted(shards)]
    count = states[0].get("partition_count", 0)
    ranks = max(count) if isinstance(count, list) else count
    if sorted(shards) != [*range(ranks)]:
        raise CheckpointError(f"{folder}: shards of ranks {sorted(shards)}, expected 0 to {ranks - 1}. Copy them all.")
    model = read_states(models[0], "module", "buffer_names", "param_shapes")
    groups, weights = model["param_shapes"], {name: model["module"][name].float() for name in model["buffer_names"]}
    if "fp32_flat_groups" in states[0]:  # stage 3
        flats = [torch.cat(list(state["fp32_flat_groups"])) for state in states]
        return weights | cut(torch.stack(flats), {name: group[name] for group in groups for name in group}, str(folder))
    for number, group in enumerate(groups):  # stages 1 and 2: a slice a rank of one vector
        flat = torch.cat([state["single_partition_of_fp32_groups"][number] for state in states])
        weights |= cut(flat[None], group, str(folder), spare=2 * ranks)  # zeros fill it up
    return weights


def cut(rows: Tensor, shapes: dict[str, torch.Size], where: str, *, spare: int = 1) -> dict[str, Tensor]:
    """Tensor after tensor, each in equal parts, one a row: rows [W,n] -> by name. Fewer than `spare` may be left."""
    sizes = [-(-shape.numel() // len(rows)) for shape in shapes.values()]
    if not 0 <= rows.shape[1] - sum(sizes) < spare:
        raise CheckpointError(f"{where}: {rows.shape[1]} numbers, expected {sum(sizes)}. Are all shards of one step?")
    parts = rows[:, : sum(sizes)].split(sizes, 1)
    return {name: part.flatten()[: s.numel()].view(s) for (name, s), part in zip(shapes.items(), parts, strict=True)}


def read_any(path: Path) -> dict[str, Tensor]:
    """Weights of a folder or file of any kind, by the file's own names."""
    if path.is_file() and path.suffix == ".ckpt":
        return read_states(path, "state_dict")["state_dict"]
    if (path / "latest").is_file() or any(path.glob("*_optim_states.pt")):
        return merge_zero(path)
    files = (path / "pytorch_model.bin", path / "model.safetensors", path)
    return read_weights(next(file for file in files if file.is_file() or file == path))


def read_config(path: Path) -> dict[str, Any]:
    """What an original config.json says of the model, without its bookkeeping. Its labels count if they have names."""
    try:
        given = dict(json.loads(path.read_text(encoding="utf-8")))
        text, vision = given["text_config"], given["vision_config"]
        vision = vision["vision_config"] if vision["model_type"] == "clip" else vision
        kinds = text["model_type"], vision["model_type"]
        text, vision = ({k: c[k] for k in known & c.keys()} for c, known in ((text, TEXT), (vision, VISION)))
        unnamed = all(re.fullmatch(r"LABEL_\d+", str(name)) for name in given.get("id2label", {}).values())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; VLE's weights need their config.json.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a VLE configuration ({type(error).__name__}: {error}).") from error
    if kinds != ("deberta-v2", "clip_vision_model"):
        raise CheckpointError(f"{path}: towers {' and '.join(kinds)}, expected deberta-v2 and clip_vision_model.")
    own = {name: given[name] for name in (OWN if unnamed else OWN | LABELS) & given.keys()}
    return own | {"text_config": text, "vision_config": vision}


def fit_positions(vision: dict[str, Any], table: Tensor, image_size: int) -> Tensor:
    """Position embeddings for `image_size`; 0: as they are, and the configuration gets their size if it has another."""
    patch, side = vision.get("patch_size", 32), math.isqrt(len(table) - 1)  # 32 and 224: CLIP's own defaults
    if image_size or vision.get("image_size", 224) // patch != side:
        vision["image_size"] = image_size or side * patch
    return resize_positions(table, image_size // patch) if image_size else table


def load_vle(
    path: Path, *, config: Path | None = None, heads: tuple[str, ...] = (), new_head: bool = False, image_size: int = 0,
    **changes: Any,
) -> tuple[Vle, LoadReport]:  # fmt: skip
    """Weights of any kind; config.json is sought inside and beside. heads: of HEADS, the file's unless given; with
    `new_head` at random where absent. image_size: to resize the position embeddings to. changes: of the config."""
    weights, places = read_any(path), [folder / "config.json" for folder in (path, path.parent)]
    options = read_config(config or next((place for place in places if place.is_file()), places[1]))
    names = {name: name.removeprefix("module.").removeprefix("model.") for name in weights}
    prefixes = {head: f"{module}." for head, module in HEADS.items()}
    if not any(own.startswith("vle.") for own in names.values()):  # a bare trunk
        names = {n: own if own.startswith(tuple(prefixes.values())) else f"vle.{own}" for n, own in names.items()}
    given = {own: name for name, own in names.items()}
    heads = heads or tuple(head for head in HEADS if any(own.startswith(prefixes[head]) for own in given))
    if not heads:
        raise CheckpointError(f"{path}: it has no head. Name those that shall start at random, of {', '.join(HEADS)}.")
    weights |= {given[own]: weights[given[source]] for own, source in TIED.items() if {own, source} <= given.keys()}
    if name := given.get(POSITIONS):
        weights[name] = fit_positions(options["vision_config"], weights[name], image_size)
    if "id2label" not in options and "vqa_classifier.3.bias" in given:
        options["num_labels"] = len(weights[given["vqa_classifier.3.bias"]])
    model = Vle(VleConfig(**(options | {"heads": list(heads)} | changes)))
    idle = (*BUFFERS, *(prefixes[head] for head in HEADS if head not in heads))
    allowed = {"may_exceed": tuple(name for name, own in names.items() if own.startswith(idle))}
    allowed["may_miss"] = (*TIED, *(prefixes[head] for head in heads if new_head))
    return model, load_weights(model, weights, source=str(path), rename=names.__getitem__, **allowed)


def load_original(path: Path) -> tuple[Vle, LoadReport]:
    return load_vle(path)


def input_shape(model: Vle) -> tuple[int, int]:
    """Images of an example and features of a region: it reads pixels."""
    return 1, 0


def export_original(model: Vle) -> dict[str, Tensor]:
    """The weights under the original's names, which are the model's, and the buffers that its transformers 4.26 has."""
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    sizes = len(weights[POSITIONS]), model.config.text_config.max_position_embeddings
    return weights | {name: torch.arange(size)[None] for name, size in zip(BUFFERS, sizes, strict=True)}
