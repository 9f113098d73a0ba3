"""ViLBERT 12-in-1: a text and an image stream that meet in co-attention bridges, one head a task (Lu et al. 2020).

Parameter names are the original's, so that its checkpoints load as they are. Rows: a batch has texts [B,T] or [B,N,T]
and images [B,R,D] or [B,N,R,D]; the streams run over B or B*N rows of their own and meet as M rows, B*N if either has
N. So one caption against N images is read once (the original's fast mode), and so is one image under N captions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vlx.errors import ConfigError
from vlx.models.heads import Head, Sizes, Targets, guessed
from vlx.models.layers import DenseNorm, Embeddings, Layer, Output, leading, repeat
from vlx.models.vilbert_heads import HEADS, KINDS, PRETRAINING, States, pretraining_heads, score, task_head

HEAD_DROPOUT = 0.1  # of the pooled vectors and of the states that heads read: a constant of the original
WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)  # the box of the global region


class VilbertConfig(PretrainedConfig):
    """The original's names; defaults are the published model's (bert_base_6layer_6conect)."""

    model_type = "vlx-vilbert"

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
    v_feature_size: int = 2048
    v_target_size: int = 1601
    v_hidden_size: int = 1024
    v_num_hidden_layers: int = 6
    v_num_attention_heads: int = 8
    v_intermediate_size: int = 1024
    v_hidden_dropout_prob: float | int = 0.1
    v_attention_probs_dropout_prob: float | int = 0.1
    bi_hidden_size: int = 1024
    bi_num_attention_heads: int = 8
    v_biattention_id: list[int] | tuple[int, ...] = (0, 1, 2, 3, 4, 5)  # bridge k stands before these image layers
    t_biattention_id: list[int] | tuple[int, ...] = (6, 7, 8, 9, 10, 11)  # and before these text layers
    with_coattention: bool = True
    fixed_v_layer: int = 0  # image layers below it get no gradient
    fixed_t_layer: int = 0  # text layers below it get no gradient, nor do the embeddings under them
    fusion_method: str = "mul"
    dynamic_attention: bool = False  # the text gates the queries and keys of the image layers
    task_specific_tokens: bool = False
    task_tokens: int = 20  # rows of the table of task tokens
    global_region: bool = True  # the model puts the mean of the regions first; False: the batch's first region is it
    heads: dict[str, Any] = field(default_factory=lambda: dict(HEADS))
    head: str = "vil_prediction"  # the one that gives the logits unless asked for others
    tie_word_embeddings: bool = True


def check(config: VilbertConfig) -> None:
    """Refuse what cannot be built."""
    c, streams = config, (("t", config.num_hidden_layers), ("v", config.v_num_hidden_layers))
    if len(c.t_biattention_id) != len(c.v_biattention_id):
        raise ConfigError(
            f"t_biattention_id={c.t_biattention_id}: expected as many as v_biattention_id={c.v_biattention_id}."
        )
    for stream, layers in streams:
        places, fixed = list(getattr(c, f"{stream}_biattention_id")), getattr(c, f"fixed_{stream}_layer")
        if not places or places != sorted(set(places)) or places[0] < 0 or places[-1] >= layers:
            raise ConfigError(f"{stream}_biattention_id={places}: expected rising indices of the {layers} layers.")
        if fixed > places[0]:
            raise ConfigError(f"fixed_{stream}_layer={fixed}: expected at most the first bridge's place, {places[0]}.")
    if c.fusion_method not in ("mul", "sum"):
        raise ConfigError(f"fusion_method={c.fusion_method}: expected mul or sum.")
    for name, (kind, _) in c.heads.items():
        if kind not in KINDS:
            raise ConfigError(f"heads: {name} is of kind {kind}; expected one of {', '.join(KINDS)}.")
    if c.head not in PRETRAINING | c.heads:
        raise ConfigError(f"head={c.head}: expected one of {', '.join(PRETRAINING | c.heads)}.")


class Mix(nn.Module):
    """Attention over given projections: query [M,L,H], key and value [M,C,H], key_mask [M,C] -> [M,L,H]."""

    def __init__(self, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
        query, key, value = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        mask, dropout = key_mask[:, None, None, :], self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


class RegionAttention(nn.Module):
    """Regions look at regions. With dynamic attention the text, summed up as [M,H], gates queries and keys."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        width = config.v_hidden_size
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mix = Mix(config.v_num_attention_heads, dropout=config.v_attention_probs_dropout_prob)
        if config.dynamic_attention:
            self.dyLinear_q, self.dyLinear_k = (nn.Linear(config.hidden_size, width) for _ in range(2))

    def forward(self, regions: Tensor, region_mask: Tensor, summary: Tensor | None) -> Tensor:
        query, key = self.query(regions), self.key(regions)
        if summary is not None:
            query = query * (1 + self.dyLinear_q(summary).sigmoid())[:, None]
            key = key * (1 + self.dyLinear_k(summary).sigmoid())[:, None]
        return self.mix(query, key, self.value(regions), region_mask)


class RegionLayer(GradientCheckpointingLayer):
    """One layer of the image stream: regions [M,R,V] -> [M,R,V]."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        width, inner = config.v_hidden_size, config.v_intermediate_size
        norm = {"eps": config.layer_norm_eps, "dropout": config.v_hidden_dropout_prob}
        self.attention = nn.ModuleDict({"self": RegionAttention(config), "output": DenseNorm(width, width, **norm)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = DenseNorm(inner, width, **norm)

    def forward(self, regions: Tensor, region_mask: Tensor, summary: Tensor | None) -> Tensor:
        attended = self.attention["output"](self.attention["self"](regions, region_mask, summary), regions)
        return self.output(F.gelu(self.intermediate["dense"](attended)), attended)


class Bridge(GradientCheckpointingLayer):
    """Co-attention: each stream looks at the other, then its own feed-forward part. 1 = image side, 2 = text side."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        inner, sides = config.bi_hidden_size, {1: config.v_hidden_size, 2: config.hidden_size}
        drops = {1: config.v_hidden_dropout_prob, 2: config.hidden_dropout_prob}
        eps, heads = config.layer_norm_eps, config.bi_num_attention_heads
        self.biattention = nn.ModuleDict(
            {f"{part}{n}": nn.Linear(sides[n], inner) for n in sides for part in ("query", "key", "value")}
        )
        self.look = Mix(heads, dropout=config.v_attention_probs_dropout_prob)  # the text looks at regions
        self.read = Mix(heads, dropout=config.attention_probs_dropout_prob)  # regions read the text
        dense = {f"dense{n}": nn.Linear(inner, sides[n]) for n in sides}
        norms = {f"LayerNorm{n}": nn.LayerNorm(sides[n], eps=eps) for n in sides}
        self.biOutput = nn.ModuleDict(dense | norms | {f"dropout{n}": nn.Dropout(drops[n]) for n in sides})
        self.v_intermediate = nn.ModuleDict({"dense": nn.Linear(sides[1], config.v_intermediate_size)})
        self.v_output = DenseNorm(config.v_intermediate_size, sides[1], eps=eps, dropout=drops[1])
        self.t_intermediate = nn.ModuleDict({"dense": nn.Linear(sides[2], config.intermediate_size)})
        self.t_output = DenseNorm(config.intermediate_size, sides[2], eps=eps, dropout=drops[2])

    def add(self, hidden: Tensor, mixed: Tensor, n: int) -> Tensor:
        out = self.biOutput
        return out[f"LayerNorm{n}"](hidden + out[f"dropout{n}"](out[f"dense{n}"](mixed)))

    def forward(self, regions: Tensor, region_mask: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """regions [M,R,V], text [M,T,H] -> both; each reads the other as it came in."""
        own = self.biattention
        seen = self.look(own["query2"](text), own["key1"](regions), own["value1"](regions), region_mask)
        heard = self.read(own["query1"](regions), own["key2"](text), own["value2"](text), text_mask)
        regions, text = self.add(regions, heard, 1), self.add(text, seen, 2)
        regions = self.v_output(F.gelu(self.v_intermediate["dense"](regions)), regions)
        return regions, self.t_output(F.gelu(self.t_intermediate["dense"](text)), text)


class Encoder(nn.Module):
    """Text layers, image layers and the bridges between them."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.hidden_size, config.num_attention_heads, config.intermediate_size
        eps, dropout, attention = config.layer_norm_eps, config.hidden_dropout_prob, config.attention_probs_dropout_prob
        layers = range(config.num_hidden_layers)
        self.layer = nn.ModuleList(Layer(*sizes, eps=eps, dropout=dropout, attention_dropout=attention) for _ in layers)
        self.v_layer = nn.ModuleList(RegionLayer(config) for _ in range(config.v_num_hidden_layers))
        self.c_layer = nn.ModuleList(Bridge(config) for _ in config.v_biattention_id)

    def forward(
        self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, *, rows: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each stream in its own rows -> text [M,T,H], regions [M,R,V] and region_mask [M,R], M = rows."""
        c, t, v = self.config, 0, 0
        for bridge, t_next, v_next in zip(self.c_layer, c.t_biattention_id, c.v_biattention_id, strict=True):
            text = run(self.layer, range(t, t_next), c.fixed_t_layer, text, text_mask)
            text, text_mask = repeat(text, rows), repeat(text_mask, rows)
            regions, region_mask = repeat(regions, rows), repeat(region_mask, rows)
            summary = self.summary(text, text_mask)
            regions = run(self.v_layer, range(v, v_next), c.fixed_v_layer, regions, region_mask, summary)
            if c.with_coattention:
                regions, text = bridge(regions, region_mask, text, text_mask)
            t, v = t_next, v_next
        summary = self.summary(text, text_mask)
        regions = run(self.v_layer, range(v, len(self.v_layer)), c.fixed_v_layer, regions, region_mask, summary)
        return run(self.layer, range(t, len(self.layer)), c.fixed_t_layer, text, text_mask), regions, region_mask

    def summary(self, text: Tensor, text_mask: Tensor) -> Tensor | None:
        """The mean text position [M,H], if the text gates the image layers."""
        if not self.config.dynamic_attention:
            return None
        weights = text_mask[..., None].to(text.dtype)
        return (text * weights).sum(1) / weights.sum(1).clamp(min=1)


def run(layers: nn.ModuleList, span: range, fixed: int, hidden: Tensor, *context: Tensor | None) -> Tensor:
    """Some of the layers one after another, without gradient below layer `fixed`."""
    for index in span:
        with torch.set_grad_enabled(torch.is_grad_enabled() and index >= fixed):
            hidden = layers[index](hidden, *context)
    return hidden


class RegionEmbeddings(nn.Module):
    """LayerNorm(features + location): features [..,R,D], boxes [..,R,4] in 0..1 -> [..,R,V]."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        self.image_embeddings = nn.Linear(config.v_feature_size, config.v_hidden_size)
        self.image_location_embeddings = nn.Linear(5, config.v_hidden_size)
        self.LayerNorm = nn.LayerNorm(config.v_hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        area = (boxes[..., 2:] - boxes[..., :2]).prod(-1, keepdim=True)
        location = self.image_location_embeddings(torch.cat([boxes, area], -1))
        return self.dropout(self.LayerNorm(self.image_embeddings(features) + location))


class Bert(nn.Module):
    """Both streams with their embeddings and poolers: the original's BertModel."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob,
        )  # fmt: skip
        if config.task_specific_tokens:
            self.embeddings.task_embeddings = nn.Embedding(config.task_tokens, config.hidden_size)
        self.v_embeddings = RegionEmbeddings(config)
        self.encoder = Encoder(config)
        self.t_pooler, self.v_pooler = (
            nn.Sequential(OrderedDict(dense=nn.Linear(width, config.bi_hidden_size), relu=nn.ReLU()))
            for width in (config.hidden_size, config.v_hidden_size)
        )

    def embed_text(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[M,T,H] and its mask; with task tokens T + 1 positions, the task's second, without position or type."""
        input_ids, mask = batch["input_ids"].flatten(0, -2), batch["text_mask"].flatten(0, -2)
        types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        embedded, own = self.embeddings(input_ids, types), self.embeddings
        if not self.config.task_specific_tokens:
            return embedded, mask
        task = own.get_submodule("task_embeddings")(repeat(batch["task_ids"].flatten(), len(input_ids)))[
            :, None
        ]  # [M,1,H]
        task = own.dropout(own.LayerNorm(task))
        return torch.cat([embedded[:, :1], task, embedded[:, 1:]], 1), torch.cat([mask[:, :1], mask], 1)

    def embed_regions(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[M,R,V] and its mask; R + 1, the global region first, if the model makes it."""
        dtype, mask = self.v_embeddings.image_embeddings.weight.dtype, batch["region_mask"].flatten(0, -2)
        features, boxes = (batch[name].flatten(0, -3).to(dtype) for name in ("regions", "boxes"))
        if self.config.global_region:
            counted = batch["counted_mask"].flatten(0, -2) if "counted_mask" in batch else mask
            mean = (features * mask[..., None]).sum(1, keepdim=True) / counted.sum(1).clamp(min=1)[:, None, None]
            features = torch.cat([mean, features], 1)
            boxes = torch.cat([boxes.new_tensor(WHOLE_IMAGE).expand(len(boxes), 1, 4), boxes], 1)
            mask = F.pad(mask, (1, 0), value=True)
        return self.v_embeddings(features, boxes), mask

    def fuse(self, text: Tensor, regions: Tensor) -> Tensor:
        first, second = self.t_pooler(text[:, 0]), self.v_pooler(regions[:, 0])
        return first * second if self.config.fusion_method == "mul" else first + second


class Vilbert(PreTrainedModel):
    """Both streams and the heads that the configuration names; without any of them the model of pre-training."""

    config_class = VilbertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__(config)
        check(config)
        self.bert = Bert(config)
        self.dropout = nn.Dropout(HEAD_DROPOUT)
        widths = {"text": config.hidden_size, "regions": config.v_hidden_size, "pooled": config.bi_hidden_size}
        eps = config.layer_norm_eps
        self.cls = pretraining_heads(config.vocab_size, config.v_target_size, **widths, eps=eps)
        for name, (kind, size) in sorted(config.heads.items()):  # as config.json orders them
            self.add_module(name, task_head(kind, size, **widths, eps=eps))
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, heads: Sequence[str] = ()) -> Output:
        """Score a batch with `heads`, or with the configuration's one; logits are the first one's.

        batch: input_ids and text_mask [B,T] or [B,N,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R];
        optional token_type_ids, like input_ids; task_ids [B], or one a text, if the model has task tokens; optional
        word_places, where alone words are guessed; and counted_mask, like region_mask: the global region is the sum of
        the regions over the number of these.
        """
        lead = leading(batch)
        streams = *self.bert.embed_text(batch), *self.bert.embed_regions(batch)
        text, regions, region_mask = self.bert.encoder(*streams, rows=lead.numel())
        own = int(self.config.global_region)  # what the model put first is pooled, and no region of the batch's
        told, seen = guessed(text, batch), regions[:, own:]
        states = States(self.bert.fuse(text, regions), text, seen, region_mask[:, own:], lead, told)
        scores = {name: self.score(name, states) for name in heads or (self.config.head,)}
        return Output(next(iter(scores.values())), states.pooled, text, states.regions, scores=scores)

    def score(self, name: str, states: States) -> Tensor:
        if name in PRETRAINING:
            return score(self.get_submodule(PRETRAINING[name]), name, states, self.dropout)
        return score(self.get_submodule(name), self.config.heads[name][0], states, self.dropout)


def configure(head: Head, sizes: Sizes) -> VilbertConfig:
    """A new model whose streams are equally wide; the bridges stand before the last text layers."""
    bridges = sizes.cross_layers
    return VilbertConfig(
        vocab_size=sizes.vocab_size, hidden_size=sizes.hidden, num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads, intermediate_size=sizes.intermediate, max_position_embeddings=sizes.positions,
        hidden_dropout_prob=sizes.dropout, attention_probs_dropout_prob=sizes.attention_dropout,
        initializer_range=sizes.initializer_range, v_feature_size=sizes.region_dim, v_hidden_size=sizes.hidden,
        v_num_hidden_layers=max(sizes.region_layers, bridges), v_num_attention_heads=sizes.heads,
        v_intermediate_size=sizes.intermediate, v_hidden_dropout_prob=sizes.dropout,
        v_attention_probs_dropout_prob=sizes.attention_dropout, bi_hidden_size=sizes.hidden,
        bi_num_attention_heads=sizes.heads, v_biattention_id=list(range(bridges)),
        t_biattention_id=list(range(sizes.layers - bridges, sizes.layers)),
        **with_head(head),
    )  # fmt: skip


def with_head(head: Head) -> dict[str, Any]:
    """The options of a configuration that are the head's."""
    kind = {"choose": "match", "point": "regions"}.get(head.kind, {1: "answers", 2: "pair", 3: "triple"}[head.images])
    answer = {"heads": {"answer": (kind, head.labels)}, "head": "answer"}
    return answer | {"task_specific_tokens": False}  # a token is of a task that the model was trained on


def with_targets(targets: Targets) -> dict[str, Any]:
    """The options of a configuration that are pre-training's."""
    return {"heads": {}, "head": "aligned", "v_target_size": targets.regions or 1, "task_specific_tokens": False}


AutoConfig.register(VilbertConfig.model_type, VilbertConfig)
for auto in (AutoModel, AutoModelForPreTraining):
    auto.register(VilbertConfig, Vilbert)
