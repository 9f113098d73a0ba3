"""CLIP-ViL: one BERT over text tokens and the cells of CLIP's grid, trained end to end (Shen et al. 2022).

Parameter names are the original's, so that its checkpoints load as they are. Shapes: G = h*w cells of the grid, or
the number of sampled ones; C = 32 * vision_width channels. Every cell is attended, those of a black margin too.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.errors import ConfigError
from vlx.models.clip_resnet import HEAD_WIDTH, STRIDE, ClipResNet, tokens
from vlx.models.heads import Head, MlmHead, PretrainingSizes, answer_head, mlm_states
from vlx.models.layers import Embeddings, Output, encoder_layers
from vlx.models.spec import ModelSpec

HEADS = {  # objective -> module, by the original's name
    "mlm": "cls.predictions",
    "itm": "cls.seq_relationship",
    "qa": "answer_head",
}
TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}


class ClipVilConfig(PretrainedConfig):
    """BERT's names and the original's; defaults are the published model on RN50 (RN50x4: vision_layers 4,6,10,6 and
    vision_width 80). `heads`: some of HEADS; the first gives the logits. The names with `clip_` are the
    sizes of `unused_weights` alone."""

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
    pos_num: int = 25  # maximum rows and columns of the grid; 0: no position embeddings
    heads: list[str] | tuple[str, ...] = ("mlm", "itm", "qa")
    num_labels: int = 9500
    unused_weights: bool = False  # keep the weights without a use: box branch, CLIP's attention pool and text encoder
    clip_places: int = 50  # of the attention pool: the grid's cells and their mean
    clip_embed_dim: int = 1024
    clip_text_width: int = 512
    clip_text_layers: int = 12
    clip_positions: int = 77
    clip_vocab_size: int = 49408
    tie_word_embeddings: bool = True


class GridEmbeddings(nn.Module):
    """dropout(LayerNorm(dense(cells))): [B,G,C] -> [B,G,H]."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.layer_norm_eps
        self.visn_fc = nn.Linear(channels(config), hidden)
        self.visn_layer_norm = nn.LayerNorm(hidden, eps=eps)
        if config.unused_weights:
            self.box_fc, self.box_layer_norm = nn.Linear(4, hidden), nn.LayerNorm(hidden, eps=eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, cells: Tensor) -> Tensor:
        return self.dropout(self.visn_layer_norm(self.visn_fc(cells)))


class GridPositions(nn.Module):
    """Adds embeddings of a cell's row and column: [B,C,h,w] -> [B,C,h,w]. The original calls the rows x, and adds
    in place, which in fp32 breaks its backward pass."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.x_position_embedding = nn.Embedding(config.pos_num, channels(config))
        self.y_position_embedding = nn.Embedding(config.pos_num, channels(config))

    def forward(self, grid: Tensor) -> Tensor:
        rows, columns = grid.shape[2:]
        limit = self.x_position_embedding.num_embeddings
        if max(rows, columns) > limit:
            cells = f"pos_num={limit}: an image has {rows} x {columns} grid cells of {STRIDE} pixels"
            raise ConfigError(f"{cells}; expected at most {limit} a side. Make the images smaller.")
        row_embeddings = self.x_position_embedding.weight[:rows]
        column_embeddings = self.y_position_embedding.weight[:columns]
        return grid + (row_embeddings[:, None] + column_embeddings).permute(2, 0, 1)  # [h,w,C] -> [C,h,w]


class TextBlock(nn.Module):
    """The weights of one layer of CLIP's text encoder, which has no use here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, max(1, width // HEAD_WIDTH))
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        inner = width * 4
        self.mlp = nn.Sequential(OrderedDict(c_fc=nn.Linear(width, inner), c_proj=nn.Linear(inner, width)))


class Clip(nn.Module):
    """The original's CLIP object; only the grid of `visual` is used: pixels [B,3,H,W] -> [B,C,h,w]."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        embed_dim, width = config.clip_embed_dim, config.clip_text_width
        pool = {"embed_dim": embed_dim, "places": config.clip_places} if config.unused_weights else {}
        self.visual = ClipResNet(tuple(config.vision_layers), config.vision_width, **pool)
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
    """Grid features, embedded, and BERT's layers."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.visn_fc = GridEmbeddings(config)
        self.layer = encoder_layers(config, config.num_hidden_layers, eps=config.layer_norm_eps)
        self.visual_model = Clip(config)
        self.visual_pos = GridPositions(config) if config.pos_num else nn.Identity()

    def grid_features(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[B,G,H] and their mask [B,G]."""
        cells = tokens(self.visual_pos(self.visual_model(batch["pixels"].flatten(0, -4))))
        mask = batch["grid_mask"] if "grid_mask" in batch else cells.new_ones(cells.shape[:2], dtype=torch.bool)
        if "sampled_grid_features" in batch:
            sampled = batch["sampled_grid_features"].flatten(0, -2)
            cells = cells.gather(1, sampled[..., None].expand(-1, -1, cells.shape[-1]))
            mask = mask.gather(1, sampled)
        return self.visn_fc(cells), mask

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
    """Text, grid and layers: the original's LXRTModel with one stream."""

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob, first_rows_fixed=True,
        )  # fmt: skip
        self.encoder = Encoder(config)
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})  # without tanh

    def embed_text(self, batch: dict[str, Tensor]) -> Tensor:
        input_ids = batch["input_ids"].flatten(0, -2)  # [B,1,T] or [B,T] -> [B,T]
        token_type_ids = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        return self.embeddings(input_ids, token_type_ids)


class ClipVil(PreTrainedModel):
    """The trunk and the heads that the configuration names: all for pre-training, `qa` alone for a task."""

    config_class = ClipVilConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: ClipVilConfig) -> None:
        super().__init__(config)
        if not config.heads or set(config.heads) - HEADS.keys():
            raise ConfigError(f"heads={','.join(config.heads)}: expected some of {', '.join(HEADS)}.")
        if config.vision_width % 2 or len(config.vision_layers) != 4 or min(config.vision_layers) < 1:
            sizes = f"vision_width={config.vision_width}, vision_layers={list(config.vision_layers)}"
            raise ConfigError(f"{sizes}: expected an even width and four stages of one block or more.")
        self.bert = Bert(config)
        hidden, eps = config.hidden_size, config.layer_norm_eps
        cls = nn.ModuleDict()
        if "mlm" in config.heads:
            cls["predictions"] = MlmHead(hidden, config.vocab_size, eps=eps)
        if "itm" in config.heads:
            cls["seq_relationship"] = nn.Linear(hidden, 2)
        self.cls = cls
        if "qa" in config.heads:
            head = answer_head(hidden, hidden * 2, config.num_labels, eps=eps)
            self.answer_head = nn.Sequential(OrderedDict(logit_fc=head))
        self._tied_weights_keys = TIED if "mlm" in config.heads else {}
        self.post_init()

    def forward(
        self, batch: dict[str, Tensor], *, heads: Sequence[str] = (),
        output_hidden_states: bool = False, output_attentions: bool = False,
    ) -> Output:  # fmt: skip
        """Score a batch with `heads`, or with the configuration's first; logits are those of the first.

        batch: input_ids, text_mask and optional token_type_ids [B,T] or [B,1,T]; pixels [..,3,H,W], H and W multiples
        of 32; optional sampled_grid_features [..,K]: indices of the grid cells that the layers see; optional grid_mask
        [B,h*w], False: not attended; optional masked_positions. region_hidden are the cells [B,G,H].
        """
        bert = self.bert
        embedded = bert.embed_text(batch)
        cells, cell_mask = bert.encoder.grid_features(batch)
        if len(embedded) != len(cells):
            raise ValueError(f"{len(embedded)} texts and {len(cells)} images do not match.")
        mask = torch.cat([batch["text_mask"].flatten(0, -2), cell_mask], 1)
        states = bert.encoder(torch.cat([embedded, cells], 1), mask)
        length = embedded.shape[1]
        text = states[-1][:, :length]
        pooled = bert.pooler["dense"](text[:, 0])
        masked = mlm_states(text, batch)
        scores = {name: self.score(name, pooled, masked) for name in heads or self.config.heads[:1]}
        return Output(
            logits=next(iter(scores.values())),
            pooled=pooled,
            text_hidden=text,
            region_hidden=states[-1][:, length:],
            hidden_states=tuple(states) if output_hidden_states else (),
            attentions=bert.encoder.attentions(states, mask) if output_attentions else (),
            scores=scores,
        )

    def score(self, name: str, pooled: Tensor, text: Tensor) -> Tensor:
        """mlm [B,T,V] or [K,V], itm [B,2] (1: matching), qa [B,A]."""
        return self.get_submodule(HEADS[name])(text if name == "mlm" else pooled)


def channels(config: ClipVilConfig) -> int:
    return STRIDE * config.vision_width


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> ClipVilConfig:
    return ClipVilConfig(
        vocab_size=vocab_size, max_position_embeddings=options.max_text_tokens, hidden_size=options.hidden_size,
        num_hidden_layers=options.layers, num_attention_heads=options.heads,
        intermediate_size=options.intermediate_size, vision_layers=options.stages(),
        vision_width=options.vision_width, initializer_range=options.initializer_range,
        hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=options.attention_dropout,
    )  # fmt: skip


def head_config(head: Head) -> dict[str, Any]:
    return {"heads": ["qa"], "num_labels": head.labels}


def pretraining_config(sizes: PretrainingSizes) -> dict[str, Any]:
    if not sizes.qa:
        return {"heads": ["mlm", "itm"]}
    return {"heads": ["mlm", "itm", "qa"], "num_labels": sizes.qa}


SPEC = ModelSpec(
    name="clip_vil",
    input="pixels",
    heads=frozenset({"classify"}),
    new_config=new_config,
    head_config=head_config,
    head_prefix="answer_head.",
    pretraining=("mlm", "itm", "qa"),
    pretraining_config=pretraining_config,
    capabilities=frozenset({"hidden_states", "attentions", "clip_and_bert", "vision_optimizer"}),
    vision_prefix="visual_model",
    originals="vlx.checkpoints.originals.clip_vil",
)
AutoConfig.register(ClipVilConfig.model_type, ClipVilConfig)
for auto in (AutoModel, AutoModelForPreTraining):
    auto.register(ClipVilConfig, ClipVil)
