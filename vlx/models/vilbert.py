"""ViLBERT 12-in-1: a text and an image stream that meet in co-attention bridges, one head a task (Lu et al. 2020).

Parameter names are the original's, so that its checkpoints load as they are. Rows: a batch has texts [B,T] or [B,N,T]
and images [B,R,D] or [B,N,R,D]; the streams run over B or B*N rows of their own and meet as M rows, B*N if either has
N. So one caption against N images is read once (the original's fast mode), and so is one image under N captions.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vlx.errors import ConfigError
from vlx.models.heads import Head, PretrainingSizes, mlm_states
from vlx.models.layers import DenseNorm, Embeddings, Output, attend, batch_shape, encoder_layers, repeat
from vlx.models.spec import ModelSpec
from vlx.models.vilbert_config import VilbertConfig, check
from vlx.models.vilbert_heads import PRETRAINING, States, pretraining_heads, score, task_head

HEAD_DROPOUT = 0.1  # before every head: a constant of the original
WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)  # the box of the global region


class MixedAttention(nn.Module):
    """Attention over given projections: query [M,L,H], key and value [M,C,H], key_mask [M,C] -> [M,L,H]."""

    def __init__(self, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return attend(query, key, value, key_mask[:, None, None], heads=self.heads, dropout=dropout)


class RegionAttention(nn.Module):
    """Self-attention over regions. With dynamic attention the mean text state [M,H] gates queries and keys."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        width = config.v_hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = MixedAttention(config.v_num_attention_heads, dropout=config.v_attention_probs_dropout_prob)
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
    """Co-attention between the streams, then a feed-forward part for each. 1 = image stream, 2 = text stream."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        inner = config.bi_hidden_size
        widths = {1: config.v_hidden_size, 2: config.hidden_size}
        drops = {1: config.v_hidden_dropout_prob, 2: config.hidden_dropout_prob}
        eps = config.layer_norm_eps
        heads = config.bi_num_attention_heads
        self.biattention = nn.ModuleDict(
            {f"{part}{n}": nn.Linear(widths[n], inner) for n in widths for part in ("query", "key", "value")}
        )
        self.text_to_regions = MixedAttention(heads, dropout=config.v_attention_probs_dropout_prob)
        self.regions_to_text = MixedAttention(heads, dropout=config.attention_probs_dropout_prob)
        dense = {f"dense{n}": nn.Linear(inner, widths[n]) for n in widths}
        norms = {f"LayerNorm{n}": nn.LayerNorm(widths[n], eps=eps) for n in widths}
        self.biOutput = nn.ModuleDict(dense | norms | {f"dropout{n}": nn.Dropout(drops[n]) for n in widths})
        self.v_intermediate = nn.ModuleDict({"dense": nn.Linear(widths[1], config.v_intermediate_size)})
        self.v_output = DenseNorm(config.v_intermediate_size, widths[1], eps=eps, dropout=drops[1])
        self.t_intermediate = nn.ModuleDict({"dense": nn.Linear(widths[2], config.intermediate_size)})
        self.t_output = DenseNorm(config.intermediate_size, widths[2], eps=eps, dropout=drops[2])

    def residual(self, hidden: Tensor, mixed: Tensor, n: int) -> Tensor:
        output = self.biOutput
        return output[f"LayerNorm{n}"](hidden + output[f"dropout{n}"](output[f"dense{n}"](mixed)))

    def forward(self, regions: Tensor, region_mask: Tensor, text: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """regions [M,R,V], text [M,T,H] -> both, each updated from the other's input."""
        linear = self.biattention
        for_text = self.text_to_regions(
            linear["query2"](text), linear["key1"](regions), linear["value1"](regions), region_mask
        )
        for_regions = self.regions_to_text(
            linear["query1"](regions), linear["key2"](text), linear["value2"](text), text_mask
        )
        regions = self.residual(regions, for_regions, 1)
        text = self.residual(text, for_text, 2)
        regions = self.v_output(F.gelu(self.v_intermediate["dense"](regions)), regions)
        return regions, self.t_output(F.gelu(self.t_intermediate["dense"](text)), text)


class Encoder(nn.Module):
    """Text layers, image layers and the bridges between them."""

    def __init__(self, config: VilbertConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = encoder_layers(config, config.num_hidden_layers, eps=config.layer_norm_eps)
        self.v_layer = nn.ModuleList(RegionLayer(config) for _ in range(config.v_num_hidden_layers))
        self.c_layer = nn.ModuleList(Bridge(config) for _ in config.v_biattention_id)

    def forward(
        self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, *, rows: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each stream with rows of its own -> text [M,T,H], regions [M,R,V] and region_mask [M,R], M = rows."""
        config = self.config
        frozen_text = config.fixed_t_layer
        frozen_image = config.fixed_v_layer
        text_start = image_start = 0
        bridges = zip(self.c_layer, config.t_biattention_id, config.v_biattention_id, strict=True)
        for bridge, text_end, image_end in bridges:
            text = run(self.layer, range(text_start, text_end), frozen_text, text, text_mask)
            text, text_mask = repeat(text, rows), repeat(text_mask, rows)
            regions, region_mask = repeat(regions, rows), repeat(region_mask, rows)
            summary = self.summary(text, text_mask)
            regions = run(self.v_layer, range(image_start, image_end), frozen_image, regions, region_mask, summary)
            if config.with_coattention:
                regions, text = bridge(regions, region_mask, text, text_mask)
            text_start, image_start = text_end, image_end
        summary = self.summary(text, text_mask)
        image_layers = range(image_start, len(self.v_layer))
        regions = run(self.v_layer, image_layers, frozen_image, regions, region_mask, summary)
        text = run(self.layer, range(text_start, len(self.layer)), frozen_text, text, text_mask)
        return text, regions, region_mask

    def summary(self, text: Tensor, text_mask: Tensor) -> Tensor | None:
        """The mean text position [M,H], if the text gates the image layers."""
        if not self.config.dynamic_attention:
            return None
        weights = text_mask[..., None].to(text.dtype)
        return (text * weights).sum(1) / weights.sum(1).clamp(min=1)


def run(layers: nn.ModuleList, span: range, fixed: int, hidden: Tensor, *context: Tensor | None) -> Tensor:
    """The layers of `span` one after another, without gradient below layer `fixed`."""
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
        input_ids = batch["input_ids"].flatten(0, -2)
        mask = batch["text_mask"].flatten(0, -2)
        types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        embeddings = self.embeddings
        embedded = embeddings(input_ids, types)
        if not self.config.task_specific_tokens:
            return embedded, mask
        task_ids = repeat(batch["task_ids"].flatten(), len(input_ids))
        task = embeddings.get_submodule("task_embeddings")(task_ids)[:, None]  # [M,1,H]
        task = embeddings.dropout(embeddings.LayerNorm(task))
        return torch.cat([embedded[:, :1], task, embedded[:, 1:]], 1), torch.cat([mask[:, :1], mask], 1)

    def embed_regions(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """[M,R,V] and its mask; with global_region R + 1 positions, the global region first."""
        dtype = self.v_embeddings.image_embeddings.weight.dtype
        mask = batch["region_mask"].flatten(0, -2)
        features = batch["regions"].flatten(0, -3).to(dtype)
        boxes = batch["boxes"].flatten(0, -3).to(dtype)
        if self.config.global_region:
            visible = batch["visible_region_mask"].flatten(0, -2) if "visible_region_mask" in batch else mask
            mean = (features * mask[..., None]).sum(1, keepdim=True) / visible.sum(1).clamp(min=1)[:, None, None]
            features = torch.cat([mean, features], 1)
            boxes = torch.cat([boxes.new_tensor(WHOLE_IMAGE).expand(len(boxes), 1, 4), boxes], 1)
            mask = F.pad(mask, (1, 0), value=True)
        return self.v_embeddings(features, boxes), mask

    def fuse(self, text: Tensor, regions: Tensor) -> Tensor:
        text_vector = self.t_pooler(text[:, 0])
        image_vector = self.v_pooler(regions[:, 0])
        multiplied = self.config.fusion_method == "mul"
        return text_vector * image_vector if multiplied else text_vector + image_vector


class Vilbert(PreTrainedModel):
    """Both streams, the heads of pre-training, and the task heads that the configuration names."""

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
        for name, (kind, size) in sorted(config.heads.items()):  # in the order of config.json
            self.add_module(name, task_head(kind, size, **widths, eps=eps))
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, heads: Sequence[str] = ()) -> Output:
        """Score a batch with `heads`, or with the configuration's `head`; logits are those of the first.

        batch: input_ids and text_mask [B,T] or [B,N,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R];
        optional token_type_ids, like input_ids; task_ids [B], or one a text, if the model has task tokens; optional
        masked_positions; and visible_region_mask, like region_mask: the global region is the sum of the regions over
        their number.
        """
        shape = batch_shape(batch)
        streams = *self.bert.embed_text(batch), *self.bert.embed_regions(batch)
        text, regions, region_mask = self.bert.encoder(*streams, rows=shape.numel())
        first = int(self.config.global_region)  # the global region is pooled; it is not one of the batch's regions
        states = States(
            pooled=self.bert.fuse(text, regions),
            text=text,
            regions=regions[:, first:],
            region_mask=region_mask[:, first:],
            shape=shape,
            mlm=mlm_states(text, batch),
        )
        scores = {name: self.score(name, states) for name in heads or (self.config.head,)}
        return Output(next(iter(scores.values())), states.pooled, text, states.regions, scores=scores)

    def score(self, name: str, states: States) -> Tensor:
        if name in PRETRAINING:
            return score(self.get_submodule(PRETRAINING[name]), name, states, self.dropout)
        return score(self.get_submodule(name), self.config.heads[name][0], states, self.dropout)


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> VilbertConfig:
    """Streams of equal width; the bridges stand before the last text layers."""
    bridges = options.cross_layers
    return VilbertConfig(
        vocab_size=vocab_size, hidden_size=options.hidden_size, num_hidden_layers=options.layers,
        num_attention_heads=options.heads, intermediate_size=options.intermediate_size,
        max_position_embeddings=options.max_text_tokens, hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.attention_dropout, initializer_range=options.initializer_range,
        v_feature_size=region_dim, v_hidden_size=options.hidden_size,
        v_num_hidden_layers=max(options.region_layers, bridges), v_num_attention_heads=options.heads,
        v_intermediate_size=options.intermediate_size, v_hidden_dropout_prob=options.dropout,
        v_attention_probs_dropout_prob=options.attention_dropout, bi_hidden_size=options.hidden_size,
        bi_num_attention_heads=options.heads, v_biattention_id=list(range(bridges)),
        t_biattention_id=list(range(options.layers - bridges, options.layers)),
    )  # fmt: skip


def student_config(config: VilbertConfig, layers: int) -> dict[str, Any]:
    """The bridges stand before the last text layers, as in a new model."""
    bridges = len(config.t_biattention_id)
    if layers < bridges:
        raise ConfigError(f"student_layers={layers}: expected at least the {bridges} cross-modality layers.")
    return {"t_biattention_id": list(range(layers - bridges, layers))}


def head_config(head: Head) -> dict[str, Any]:
    """One head, `answer`, and no task token: a token belongs to a task that the model was trained on."""
    classifiers = {1: "answers", 2: "pair", 3: "triple"}  # by number of images
    kind = {"multiple_choice": "match", "grounding": "regions"}.get(head.kind, classifiers[head.images])
    return {"heads": {"answer": (kind, head.labels)}, "head": "answer", "task_specific_tokens": False}


def pretraining_config(sizes: PretrainingSizes) -> dict[str, Any]:
    return {"heads": {}, "head": "itm", "v_target_size": sizes.mrm or 1, "task_specific_tokens": False}


SPEC = ModelSpec(
    name="vilbert",
    input="regions",
    heads=frozenset({"classify", "multiple_choice", "grounding"}),
    max_images=3,
    new_config=new_config,
    head_config=head_config,
    head_prefix="answer.",
    student_config=student_config,
    pretraining=("mlm", "itm", "mrm"),
    pretraining_config=pretraining_config,
    itm_positive_class=0,
    region_masking="overlap",
    capabilities=frozenset({"arbitrary_pairs", "frozen_text_layers"}),
    originals="vlx.checkpoints.originals.vilbert",
)
AutoConfig.register(VilbertConfig.model_type, VilbertConfig)
for auto in (AutoModel, AutoModelForPreTraining):
    auto.register(VilbertConfig, Vilbert)
