"""CLIP-ViL's files in and out, pre-trained (Epoch11_LXRT.pth) and fine-tuned (BEST.pth); CLIP's and BERT's weights to
start from (CLIP-ViL, CLIP-ViL-Pretrain/src/lxrt). Sizes are read from the shapes; attention heads are 64 wide."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vlx.checkpoints.answers import answer_rows
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.clip_resnet import HEAD_WIDTH
from vlx.models.clip_vil import HEADS, TIED, ClipVil, ClipVilConfig

IS_FOLDER = False
Loaded = tuple[ClipVil, LoadReport]
CLIP, POSITIONS = "bert.encoder.visual_model.", "bert.encoder.visual_pos."
TEXT_TOWER = ("positional_embedding", "text_projection", "logit_scale", "transformer.", "token_embedding.", "ln_final.")
UNUSED = ("bert.encoder.visn_fc.box_", *(CLIP + name for name in ("visual.attnpool.", *TEXT_TOWER)))
NUMBERS = ("input_resolution", "context_length", "vocab_size")  # among CLIP's weights
NOT_BOTH = ("bert.encoder.visn_fc.", POSITIONS, "answer_head.", "bert.embeddings.position_ids", *UNUSED)
LAST = ("answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.bias")  # a row each for an answer
NEEDED = ("bert.embeddings.word_embeddings.weight", f"{CLIP}visual.conv3.weight")
SIZES = {  # the weights that tell, by their rows and columns
    **{NEEDED[0]: ("vocab_size", "hidden_size"), NEEDED[1]: ("vision_width",), LAST[0]: ("num_labels",)},
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings",),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size",),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size",),
    f"{POSITIONS}x_position_embedding.weight": ("pos_num",),
    f"{CLIP}visual.attnpool.positional_embedding": ("clip_places",),
    f"{CLIP}visual.attnpool.c_proj.weight": ("clip_embed_dim",),
    f"{CLIP}token_embedding.weight": ("clip_vocab_size", "clip_text_width"),
    f"{CLIP}positional_embedding": ("clip_positions",),
}


def own_name(name: str) -> str:
    """The pre-trained file's name of a weight of any CLIP-ViL file."""
    name = modern_name(name.removeprefix("module.").removeprefix("lxrt_encoder.model."))
    return f"answer_head.{name}" if name.startswith("logit_fc.") else name


def infer(weights: dict[str, Tensor], source: str) -> dict[str, Any]:
    """The configuration as far as the weights tell."""
    if lacking := [name for name in NEEDED if name not in weights]:
        raise CheckpointError(f"{source}: no {lacking[0]} in it; expected a BERT and a CLIP of the kind RN50.")

    def count(prefix: str) -> int:
        return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})

    options: dict[str, Any] = {"heads": [name for name, place in HEADS.items() if count(f"{place}.")]}
    for name, keys in SIZES.items():
        options |= dict(zip(keys, weights[name].shape if name in weights else (), strict=False))
    return options | {
        "num_hidden_layers": count("bert.encoder.layer."),
        "num_attention_heads": max(1, options["hidden_size"] // HEAD_WIDTH),
        "vision_layers": [count(f"{CLIP}visual.layer{stage}.") for stage in (1, 2, 3, 4)],
        "clip_text_layers": count(f"{CLIP}transformer.resblocks."),
    }


def load_clip_vil(
    path: Path, *, new: tuple[str, ...] = (), tables: tuple[Sequence[str], Sequence[str]] | None = None, **changes: Any
) -> Loaded:
    """A pre-trained or fine-tuned file. `changes` are of the configuration: the heads that it leaves out are not read,
    nor is what nothing uses, unless `unused_weights`. What starts with one of `new` is not taken but drawn. `tables`:
    the answers that pre-training had and those that the model shall have, whose rows are taken over.
    """
    given = ((own_name(name), tensor) for name, tensor in read_weights(path).items())
    weights = {name: tensor for name, tensor in given if not name.startswith(new)}
    if tables and LAST[0] not in weights:
        raise CheckpointError(f"{path}: no {LAST[0]} in it, whose rows were asked for; expected a file of stage two.")
    if tables:
        weights |= {name: answer_rows(weights[name], *tables) for name in LAST}
    return build({"pos_num": 0} | infer(weights, str(path)) | changes, weights, source=str(path), loose=new)


def load_clip_and_bert(clip: Path, bert: Path, **changes: Any) -> Loaded:
    """To pre-train: CLIP's grid (OpenAI's file or open_clip's), BERT's text side with both heads; the rest is drawn
    before, while the original draws it after, over some of CLIP's weights too."""
    weights = {modern_name(name): tensor for name, tensor in read_weights(bert).items()}
    weights |= {tied: weights[name] for tied, name in TIED.items() if name in weights}
    weights |= {CLIP + name: tensor for name, tensor in read_clip(clip).items()}
    source = f"{clip} and {bert}"
    return build(infer(weights, source) | changes, weights, source=source, loose=NOT_BOTH)


def read_clip(path: Path) -> dict[str, Tensor]:
    try:
        return {name: tensor for name, tensor in read_weights(path).items() if name not in NUMBERS}
    except CheckpointError as error:
        if "TorchScript" not in str(error):
            raise
        way = 'torch.save(torch.jit.load("RN50.pt", map_location="cpu").state_dict(), "RN50.pth")'
        raise CheckpointError(f"{path}: a TorchScript program, not weights. If you trust it, run {way}.") from error


def build(options: dict[str, Any], weights: dict[str, Tensor], *, source: str, loose: tuple[str, ...]) -> Loaded:
    """`loose`: starts of names that only the model or only the file may have."""
    model = ClipVil(ClipVilConfig(**options))
    idle = [f"{place}." for name, place in HEADS.items() if name not in model.config.heads]
    idle += [*([] if model.config.unused_weights else UNUSED), *([] if model.config.pos_num else [POSITIONS])]
    return model, load_weights(model, weights, source=source, may_miss=loose, may_exceed=(*loose, *idle))


def load_original(path: Path) -> Loaded:
    return load_clip_vil(path)


def input_shape(model: ClipVil) -> tuple[int, int]:
    """Images of an example and features of a region: it reads pixels."""
    return 1, 0


def export_original(model: ClipVil) -> dict[str, Tensor]:
    """The weights under the original's names: a fine-tuned file's where `qa` is the only head."""
    tuned, weights = list(model.config.heads) == ["qa"], model.state_dict().items()
    wrap, head = ("lxrt_encoder.model.", "answer_head.") if tuned else ("", "")
    return {(wrap if n.startswith("bert.") else "") + n.removeprefix(head): t.detach().clone() for n, t in weights}
