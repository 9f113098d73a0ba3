"""CLIP-ViL's weights files, pre-trained (Epoch11_LXRT.pth) and fine-tuned (BEST.pth), and the weights of CLIP and BERT
that pre-training starts from (CLIP-ViL, CLIP-ViL-Pretrain/src/lxrt/modeling.py).

Sizes come from the shapes; attention heads are 64 wide.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vlx.checkpoints.answers import answer_rows
from vlx.checkpoints.report import LoadReport, load_weights
from vlx.checkpoints.weights import copied_weights, modern_name, read_weights
from vlx.errors import CheckpointError
from vlx.models.clip_resnet import HEAD_WIDTH
from vlx.models.clip_vil import HEADS, TIED, ClipVil, ClipVilConfig

IS_FOLDER = False
CLIP = "bert.encoder.visual_model."
POSITIONS = "bert.encoder.visual_pos."
TEXT_TOWER = ("positional_embedding", "text_projection", "logit_scale", "transformer.", "token_embedding.", "ln_final.")
UNUSED = ("bert.encoder.visn_fc.box_", *(CLIP + name for name in ("visual.attnpool.", *TEXT_TOWER)))
NUMBERS = ("input_resolution", "context_length", "vocab_size")  # among CLIP's weights
IN_ONE_ONLY = ("bert.encoder.visn_fc.", POSITIONS, "answer_head.", "bert.embeddings.position_ids", *UNUSED)
LAST_LAYER = ("answer_head.logit_fc.3.weight", "answer_head.logit_fc.3.bias")  # one row for each answer
WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
STEM = f"{CLIP}visual.conv3.weight"
SIZES = {  # weight -> entries of the configuration that its rows and columns give
    WORD_EMBEDDINGS: ("vocab_size", "hidden_size"),
    STEM: ("vision_width",),
    LAST_LAYER[0]: ("num_labels",),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings",),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size",),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size",),
    f"{POSITIONS}x_position_embedding.weight": ("pos_num",),
    f"{CLIP}visual.attnpool.positional_embedding": ("clip_places",),
    f"{CLIP}visual.attnpool.c_proj.weight": ("clip_embed_dim",),
    f"{CLIP}token_embedding.weight": ("clip_vocab_size", "clip_text_width"),
    f"{CLIP}positional_embedding": ("clip_positions",),
}


def pretrained_name(name: str) -> str:
    """The name in a pre-trained file of a weight of any CLIP-ViL file."""
    name = modern_name(name.removeprefix("module.").removeprefix("lxrt_encoder.model."))
    return f"answer_head.{name}" if name.startswith("logit_fc.") else name


def infer(weights: dict[str, Tensor], source: str) -> dict[str, Any]:
    """The entries of the configuration that names and shapes give."""
    for name in (WORD_EMBEDDINGS, STEM):
        if name not in weights:
            raise CheckpointError(f"{source}: no {name} in it; expected a BERT and a CLIP of the kind RN50.")
    options: dict[str, Any] = {"heads": [head for head, module in HEADS.items() if count(weights, f"{module}.")]}
    for name, keys in SIZES.items():
        options |= dict(zip(keys, weights[name].shape if name in weights else (), strict=False))
    return options | {
        "num_hidden_layers": count(weights, "bert.encoder.layer."),
        "num_attention_heads": max(1, options["hidden_size"] // HEAD_WIDTH),
        "vision_layers": [count(weights, f"{CLIP}visual.layer{stage}.") for stage in (1, 2, 3, 4)],
        "clip_text_layers": count(weights, f"{CLIP}transformer.resblocks."),
    }


def count(weights: dict[str, Tensor], prefix: str) -> int:
    """The number of modules directly below a module."""
    return len({name[len(prefix) :].partition(".")[0] for name in weights if name.startswith(prefix)})


def load_clip_vil(
    path: Path,
    *,
    new_prefixes: tuple[str, ...] = (),
    answers: tuple[Sequence[str], Sequence[str]] | None = None,
    **entries: Any,
) -> tuple[ClipVil, LoadReport]:
    """Load a pre-trained or fine-tuned file. Weights of absent heads are skipped; so are unused weights, unless
    `unused_weights`.

    new_prefixes: weights whose names begin so keep their random initialization. answers: those of pre-training and
    those of the model, whose rows of the answer head are copied. entries: of the configuration.
    """
    file_weights = {pretrained_name(name): tensor for name, tensor in read_weights(path).items()}
    weights = {name: tensor for name, tensor in file_weights.items() if not name.startswith(new_prefixes)}
    if answers:
        if LAST_LAYER[0] not in weights:
            expected = "expected a file of stage two, with rows of answers"
            raise CheckpointError(f"{path}: no {LAST_LAYER[0]} in it; {expected}.")
        weights |= {name: answer_rows(weights[name], *answers) for name in LAST_LAYER}
    options = {"pos_num": 0} | infer(weights, str(path)) | entries
    return build(options, weights, source=str(path), optional=new_prefixes)


def load_clip_and_bert(clip: Path, bert: Path, **entries: Any) -> tuple[ClipVil, LoadReport]:
    """Initialize pre-training from CLIP's image encoder (OpenAI's file or open_clip's) and BERT's text encoder with
    both of its heads. Other weights are initialized first; the original initializes them last, over some of CLIP's
    weights too."""
    weights = {modern_name(name): tensor for name, tensor in read_weights(bert).items()}
    weights |= {tied: weights[name] for tied, name in TIED.items() if name in weights}
    weights |= {CLIP + name: tensor for name, tensor in read_clip(clip).items()}
    source = f"{clip} and {bert}"
    return build(infer(weights, source) | entries, weights, source=source, optional=IN_ONE_ONLY)


def read_clip(path: Path) -> dict[str, Tensor]:
    try:
        return {name: tensor for name, tensor in read_weights(path).items() if name not in NUMBERS}
    except CheckpointError as error:
        if "TorchScript" not in str(error):
            raise
        command = 'torch.save(torch.jit.load("RN50.pt", map_location="cpu").state_dict(), "RN50.pth")'
        message = f"{path}: a TorchScript program, not weights. If you trust it, run {command}."
        raise CheckpointError(message) from error


def build(
    options: dict[str, Any], weights: dict[str, Tensor], *, source: str, optional: tuple[str, ...]
) -> tuple[ClipVil, LoadReport]:
    """optional: prefixes of names that the model alone or the file alone may have."""
    model = ClipVil(ClipVilConfig(**options))
    skipped = [f"{module}." for head, module in HEADS.items() if head not in model.config.heads]
    if not model.config.unused_weights:
        skipped += UNUSED
    if not model.config.pos_num:
        skipped.append(POSITIONS)
    report = load_weights(model, weights, source=source, may_miss=optional, may_exceed=(*optional, *skipped))
    return model, report


def load_original(path: Path) -> tuple[ClipVil, LoadReport]:
    return load_clip_vil(path)


def input_shape(model: ClipVil) -> tuple[int, int]:
    """Images of an example and features of a region; 0: the model reads pixels."""
    return 1, 0


def export_original(model: ClipVil) -> dict[str, Tensor]:
    """The weights under the original's names; with `qa` as the only head, those of a fine-tuned file."""
    weights = copied_weights(model)
    if list(model.config.heads) != ["qa"]:
        return weights
    return {fine_tuned_name(name): tensor for name, tensor in weights.items()}


def fine_tuned_name(name: str) -> str:
    return f"lxrt_encoder.model.{name}" if name.startswith("bert.") else name.removeprefix("answer_head.")
