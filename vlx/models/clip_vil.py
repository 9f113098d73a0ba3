"""CLIP-ViL: one BERT over words and the places of CLIP's grid, picture and text learnt together (Shen et al. 2022).

Parameter names are the original's, so that its checkpoints load as they are. Shapes: G = h*w places of the grid, or as
many as are kept; C = 32 * vision_width channels. Every place is attended, also those of a black margin.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.errors import ConfigError
from vlx.models.clip_resnet import HEAD_WIDTH, STRIDE, ClipResNet, tokens
from vlx.models.heads import Head, Sizes, Targets, WordHead, answer_head, guessed
from vlx.models.layers import Embeddings, Layer, Output

HEADS = {  # by name: where the original keeps it
    "words": "cls.predictions",
    "matched": "cls.seq_relationship",
    "answers": "answer_head",
}
VISION = "visual_model"  # in the names of the weights of CLIP's network
TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}


class ClipVilConfig(PretrainedConfig):
    """BERT's names and the original's; defaults are the published model on RN50 (RN50x4: vision_layers 4,6,10,6 and
    vision_width 80). `heads`: those the model has, of HEADS; the first gives the logits. The names with `clip_` tell
    the sizes of `unused_weights` alone."""

    model_type = "vlx-clip-vil"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    vision_layers: list[int] | tuple[int, ...] = (3, 4, 6, 3)
    vision_width: int = 64
    pos_num: int = 25  # rows and columns of the grid at most; 0: a place does not tell where it is
    heads: list[str] | tuple[str, ...] = ("words", "matched", "answers")
    num_labels: int = 9500
    unused_weights: bool = False  # keep what nothing reads: the box branch, CLIP's attention pool and text tower
    clip_places: int = 50  # of the attention pool: a grid's and their mean
    clip_embed_dim: int = 1024
    clip_text_width: int = 512
    clip_text_layers: int = 12
    clip_positions: int = 77
    clip_vocab_size: int = 49408
    tie_word_embeddings: bool = True


class GridEmbeddings(nn.Module):
    """dropout(LayerNorm(dense(places))): [B,G,C] -> [B,G,H]."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_eps
        self.visn_fc, self.visn_layer_norm = nn.Linear(channels(config), hidden), nn.LayerNorm(hidden, eps=eps)
        if config.unused_weights:
            self.box_fc, self.box_layer_norm = nn.Linear(4, hidden), nn.LayerNorm(hidden, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, places: Tensor) -> Tensor:
        return self.dropout(self.visn_layer_norm(self.visn_fc(places)))


class GridPositions(nn.Module):
    """Adds what a place's row and its column say: [B,C,h,w] -> [B,C,h,w]. The original calls the rows x, and adds
    in place, which in fp32 breaks its backward pass."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.x_position_embedding = nn.Embedding(config.pos_num, channels(config))
        self.y_position_embedding = nn.Embedding(config.pos_num, channels(config))

    def forward(self, grid: Tensor) -> Tensor:
        rows, columns = grid.shape[2:]
        known = self.x_position_embedding.num_embeddings
        if max(rows, columns) > known:
            found = f"pos_num={known}: a picture has {rows} x {columns} places of {STRIDE} pixels"
            raise ConfigError(f"{found}; expected at most {known} a side. Make the pictures smaller.")
        down, right = self.x_position_embedding.weight[:rows], self.y_position_embedding.weight[:columns]
        return grid + (down[:, None] + right).permute(2, 0, 1)  # [h,w,C] -> [C,h,w]


class TextBlock(nn.Module):
    """The weights of one layer of CLIP's text tower, which nothing reads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // HEAD_WIDTH))
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        inner = width * 4
        self.mlp = nn.Sequential(OrderedDict(c_fc=nn.Linear(width, inner), c_proj=nn.Linear(inner, width)))


class Clip(nn.Module):
    """The original's CLIP object, of which only the grid of `visual` is read: pixels [B,3,H,W] -> [B,C,h,w]."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        layers, embed_dim, width = tuple(config.vision_layers), config.clip_embed_dim, config.clip_text_width
        pool = {"embed_dim": embed_dim, "places": config.clip_places} if config.unused_weights else {}
        self.visual = ClipResNet(layers, config.vision_width, **pool)
        if config.unused_weights:
            self.positional_embedding = nn.Parameter(torch.zeros(config.clip_positions, width))
            self.text_projection = nn.Parameter(torch.zeros(width, embed_dim))
            self.logit_scale = nn.Parameter(torch.zeros(()))
            blocks = nn.Sequential(*(TextBlock(width) for _ in range(config.clip_text_layers)))
            self.transformer = nn.ModuleDict({"resblocks": blocks})
            self.token_embedding = nn.Embedding(config.clip_vocab_size, width)
            self.ln_final = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)


class Encoder(nn.Module):
    """The picture's way to BERT's layers, and the layers."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        sizes = config.hidden_size, config.num_attention_heads, config.intermediate_size
        eps, dropout, attention = config.layer_norm_eps, config.hidden_dropout_prob, config.attention_probs_dropout_prob
        layers = range(config.num_hidden_layers)
        self.visn_fc = GridEmbeddings(config)
        self.layer = nn.ModuleList(Layer(*sizes, eps=eps, dropout=dropout, attention_dropout=attention) for _ in layers)
        self.visual_model = Clip(config)
        self.visual_pos = GridPositions(config) if config.pos_num else nn.Identity()

    def places(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[B,G,H] and their mask [B,G]."""
        found = tokens(self.visual_pos(self.visual_model(batch["pixels"])))
        mask = batch["grid_mask"] if "grid_mask" in batch else found.new_ones(found.shape[:2], dtype=torch.bool)
        if "kept_places" in batch:
            kept = batch["kept_places"]
            found, mask = found.gather(1, kept[..., None].expand(-1, -1, found.shape[-1])), mask.gather(1, kept)
        return self.visn_fc(found), mask

    def forward(self, hidden: Tensor, mask: Tensor) -> list[Tensor]:
        """hidden [B,L,H], mask [B,L] -> the input and every layer's output."""
        states = [hidden]
        for layer in self.layer:
            states.append(layer(states[-1], mask))
        return states

    def attentions(self, states: list[Tensor], mask: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.layer, states[:-1], strict=True)
        return tuple(layer.probabilities(hidden, mask) for layer, hidden in pairs)  # type: ignore[operator]


class Bert(nn.Module):
    """Words, places and layers: the original's LXRTModel with one stream."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob, first_rows_fixed=True,
        )  # fmt: skip
        self.encoder = Encoder(config)
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})  # without tanh

    def embed_text(self, batch: dict[str, Tensor]) -> Tensor:
        input_ids = batch["input_ids"]
        return self.embeddings(input_ids, batch.get("token_type_ids", torch.zeros_like(input_ids)))


class ClipVil(PreTrainedModel):
    """The trunk and the heads that the configuration names: all for pre-training, `answers` alone for a task."""

    config_class = ClipVilConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__(config)
        if not config.heads or set(config.heads) - HEADS.keys():
            raise ConfigError(f"heads={','.join(config.heads)}: expected some of {', '.join(HEADS)}.")
        if config.vision_width % 2 or len(config.vision_layers) != 4 or min(config.vision_layers) < 1:
            found = f"vision_width={config.vision_width}, vision_layers={list(config.vision_layers)}"
            raise ConfigError(f"{found}: expected an even width and four stages of one block or more.")
        self.bert = Bert(config)
        hidden, eps = config.hidden_size, config.layer_norm_eps
        cls = nn.ModuleDict()
        if "words" in config.heads:
            cls["predictions"] = WordHead(hidden, config.vocab_size, eps=eps)
        if "matched" in config.heads:
            cls["seq_relationship"] = nn.Linear(hidden, 2)
        self.cls = cls
        if "answers" in config.heads:
            head = answer_head(hidden, hidden * 2, config.num_labels, eps=eps)
            self.answer_head = nn.Sequential(OrderedDict(logit_fc=head))
        self._tied_weights_keys = TIED if "words" in config.heads else {}
        self.post_init()

    def forward(
        self, batch: dict[str, Tensor], *, heads: Sequence[str] = (),
        output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> Output:  # fmt: skip
        """Score a batch with `heads`, or with the configuration's first; logits are the first one's.

        batch: input_ids and text_mask [B,T], optional token_type_ids [B,T]; pixels [B,3,H,W], sides multiples of 32;
        optional kept_places [B,K], those of the grid that the layers see; optional grid_mask [B,h*w], False: not
        attended; optional word_places, where alone words are guessed. region_hidden are the places seen, [B,G,H].
        """
        if len(batch["input_ids"]) != len(batch["pixels"]):
            found = f"{len(batch['input_ids'])} texts and {len(batch['pixels'])} pictures"
            raise ValueError(f"{found} do not go together.")
        text, bert = self.bert.embed_text(batch), self.bert
        places, place_mask = bert.encoder.places(batch)
        mask = torch.cat([batch["text_mask"], place_mask], 1)
        states = bert.encoder(torch.cat([text, places], 1), mask)
        text, places = states[-1][:, : text.shape[1]], states[-1][:, text.shape[1] :]
        pooled = bert.pooler["dense"](text[:, 0])
        told = guessed(text, batch)
        scores = {name: self.score(name, pooled, told) for name in heads or self.config.heads[:1]}
        kept = tuple(states) if output_hidden_states else ()
        attentions = bert.encoder.attentions(states, mask) if output_attentions else ()
        return Output(next(iter(scores.values())), pooled, text, places, kept, attentions, scores)

    def score(self, name: str, pooled: Tensor, text: Tensor) -> Tensor:
        """words [B,T,V] or [K,V], matched [B,2] (1: they belong together), answers [B,A]."""
        return self.get_submodule(HEADS[name])(text if name == "words" else pooled)


def channels(config: ClipVilConfig) -> int:
    return STRIDE * config.vision_width


def configure(head: Head, sizes: Sizes) -> ClipVilConfig:
    """A new model for any head."""
    return ClipVilConfig(
        vocab_size=sizes.vocab_size, max_position_embeddings=sizes.positions, hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads, intermediate_size=sizes.intermediate,
        vision_layers=sizes.vision_layers, vision_width=sizes.vision_width, initializer_range=sizes.initializer_range,
        hidden_dropout_prob=sizes.dropout, attention_probs_dropout_prob=sizes.attention_dropout, **with_head(head),
    )  # fmt: skip


def with_head(head: Head) -> dict[str, Any]:
    """The options of a configuration that are the head's."""
    return {"heads": ["answers"], "num_labels": head.labels}


def with_targets(targets: Targets) -> dict[str, Any]:
    """The options of a configuration that are pre-training's."""
    answers = {"num_labels": targets.answers} if targets.answers else {}
    return {"heads": ["words", "matched", *(["answers"] if answers else [])]} | answers


AutoConfig.register(ClipVilConfig.model_type, ClipVilConfig)
for auto in (AutoModel, AutoModelForPreTraining):
    auto.register(ClipVilConfig, ClipVil)
