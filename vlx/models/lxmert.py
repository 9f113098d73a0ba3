"""LXMERT: a language and a region stream that meet in cross-modality layers (Tan and Bansal 2019).

Parameter names are the original's, so that its checkpoints load nearly as they are. Rows: texts [B,T] or [B,N,T] and
images [B,R,D] or [B,N,R,D] run through the layers of their own stream as they are and meet as M rows, B*N if either
has N; so a sentence about two images is read once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vlx.models.heads import Head, MlmHead, PretrainingSizes, Transform, answer_head, mlm_states
from vlx.models.layers import DenseNorm, Embeddings, Output, Pooler, SelfAttention, batch_shape, encoder_layers, repeat
from vlx.models.spec import ModelSpec

EPS = 1e-12  # of every LayerNorm, a constant of the original
REGION_HEADS = {"mrc_objects": "obj", "mrc_attributes": "attr", "mrfr": "feat"}  # over a shared transform
HEADS = {  # of pre-training: objective -> module
    "mlm": "cls.predictions",
    "itm": "cls.seq_relationship",
    "qa": "answer_head.logit_fc",
    "mrc_objects": "obj_predict_head.decoder_dict.obj",
    "mrc_attributes": "obj_predict_head.decoder_dict.attr",
    "mrfr": "obj_predict_head.decoder_dict.feat",
}


class LxmertConfig(PretrainedConfig):
    """BERT's configuration and LXMERT's; defaults are the published model's (lxr955) with VQA's head."""

    model_type = "vlx-lxmert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 9  # of language
    region_layers: int = 5
    cross_layers: int = 5
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    visual_feat_dim: int = 2048
    visual_pos_dim: int = 4
    num_labels: int = 3129
    num_images: int = 1  # the head reads their pooled vectors together
    grounding: bool = False  # one logit for each region
    num_qa_labels: int = 9500  # 0: pre-training has no answer head
    num_object_labels: int = 1600
    num_attr_labels: int = 400
    visual_losses: list[str] | tuple[str, ...] = ("obj", "attr", "feat")
    tie_word_embeddings: bool = True


class CrossLayer(GradientCheckpointingLayer):
    """Cross-attention in both directions, then self-attention and a feed-forward part for each stream."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        inner = config.intermediate_size
        norm = {"eps": EPS, "dropout": config.hidden_dropout_prob}

        def attention(name: str) -> nn.ModuleDict:
            heads = config.num_attention_heads
            layer = SelfAttention(hidden, heads, dropout=config.attention_probs_dropout_prob)
            return nn.ModuleDict({name: layer, "output": DenseNorm(hidden, hidden, **norm)})

        self.visual_attention = attention("att")
        self.lang_self_att, self.visn_self_att = attention("self"), attention("self")
        self.lang_inter, self.visn_inter = (nn.ModuleDict({"dense": nn.Linear(hidden, inner)}) for _ in range(2))
        self.lang_output, self.visn_output = (DenseNorm(inner, hidden, **norm) for _ in range(2))

    def forward(
        self, text: Tensor, text_mask: Tensor, regions: Tensor, region_mask: Tensor, only_first: bool
    ) -> tuple[Tensor, Tensor]:
        """text [M,T,H], regions [M,R,H] -> both updated, each from the other's input; with only_first the text is
        [M,1,H], the [CLS] state, and the regions stay as they are."""
        attention = self.visual_attention["att"]  # shared by both directions
        output = self.visual_attention["output"]
        crossed_text = output(attention(text, region_mask, regions), text)
        if only_first:
            return self.self_layer("lang", crossed_text[:, :1], text_mask, crossed_text), regions
        crossed_regions = output(attention(regions, text_mask, text), regions)
        return self.self_layer("lang", crossed_text, text_mask), self.self_layer("visn", crossed_regions, region_mask)

    def self_layer(self, stream: str, hidden: Tensor, key_mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Self-attention and feed-forward of a stream, `lang` or `visn`."""
        attention = getattr(self, f"{stream}_self_att")
        dense = getattr(self, f"{stream}_inter")["dense"]
        attended = attention["output"](attention["self"](hidden, key_mask, context), hidden)
        return getattr(self, f"{stream}_output")(F.gelu(dense(attended)), attended)


class RegionEmbeddings(nn.Module):
    """The mean of features and boxes, each projected and normed: [..,R,D] and [..,R,4] -> [..,R,H]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.visn_fc = nn.Linear(config.visual_feat_dim, config.hidden_size)
        self.visn_layer_norm = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.box_fc = nn.Linear(config.visual_pos_dim, config.hidden_size)
        self.box_layer_norm = nn.LayerNorm(config.hidden_size, eps=EPS)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        dtype = self.visn_fc.weight.dtype
        visual = self.visn_layer_norm(self.visn_fc(features.to(dtype)))
        position = self.box_layer_norm(self.box_fc(boxes.to(dtype)))
        return self.dropout((visual + position) / 2)


class Encoder(nn.Module):
    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.visn_fc = RegionEmbeddings(config)
        self.layer = encoder_layers(config, config.num_hidden_layers, eps=EPS)
        self.r_layers = encoder_layers(config, config.region_layers, eps=EPS)
        self.x_layers = nn.ModuleList(CrossLayer(config) for _ in range(config.cross_layers))


class Bert(nn.Module):
    """Both streams: the original's LXRTModel."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=EPS, dropout=config.hidden_dropout_prob, first_rows_fixed=True,
        )  # fmt: skip
        self.encoder = Encoder(config)
        self.pooler = Pooler(config.hidden_size)

    def forward(self, batch: dict[str, Tensor], *, only_pooled: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """pooled [M,H], text [M,T,H], regions [M,R,H]; only_pooled: text [M,1,H], regions without the last layer.

        batch: input_ids and text_mask [B,T] or [B,N,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R];
        optional token_type_ids, like input_ids.
        """
        rows = batch_shape(batch).numel()
        last = len(self.encoder.x_layers) - 1
        types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
        text = self.embeddings(batch["input_ids"].flatten(0, -2), types.flatten(0, -2))
        regions = self.encoder.visn_fc(batch["regions"].flatten(0, -3), batch["boxes"].flatten(0, -3))
        text_mask, region_mask = batch["text_mask"].flatten(0, -2), batch["region_mask"].flatten(0, -2)
        for layer in self.encoder.layer:
            text = layer(text, text_mask)
        for layer in self.encoder.r_layers:
            regions = layer(regions, region_mask)
        text, text_mask = repeat(text, rows), repeat(text_mask, rows)
        regions, region_mask = repeat(regions, rows), repeat(region_mask, rows)
        for number, layer in enumerate(self.encoder.x_layers):
            text, regions = layer(text, text_mask, regions, region_mask, only_pooled and number == last)
        return self.pooler(text), text, regions


class Lxmert(PreTrainedModel):
    """Answers from the pooled vector of one image, or of N together (NLVR2: 2)."""

    config_class = LxmertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.bert = Bert(config)
        width = config.hidden_size
        answers = answer_head(config.num_images * width, 2 * width, config.num_labels, eps=EPS)
        self.logit_fc = nn.Linear(width, 1) if config.grounding else answers
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, output_hidden: bool = False) -> Output:
        """batch: see Bert.forward. output_hidden: also text_hidden and region_hidden, which classification skips."""
        full = output_hidden or self.config.grounding
        pooled, text, regions = self.bert(batch, only_pooled=not full)
        logits = self.logits(batch, pooled, regions)
        return Output(logits, pooled, text, regions) if full else Output(logits, pooled, None, None)

    def logits(self, batch: dict[str, Tensor], pooled: Tensor, regions: Tensor) -> Tensor:
        """[M,A], or [B,A] of N images; grounding: [M,R], the lowest number at padding."""
        if self.config.grounding:
            scores = self.logit_fc(regions).squeeze(-1)
            mask = repeat(batch["region_mask"].flatten(0, -2), len(scores))
            return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        images = self.config.num_images
        return self.logit_fc(pooled if images == 1 else pooled.unflatten(0, batch_shape(batch)).flatten(1))  # [B,N*H]


class LxmertForPreTraining(PreTrainedModel):
    """All heads of pre-training that the configuration names."""

    config_class = LxmertConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.bert = Bert(config)
        width = config.hidden_size
        mlm = MlmHead(width, config.vocab_size, eps=EPS)
        self.cls = nn.ModuleDict({"predictions": mlm, "seq_relationship": nn.Linear(width, 2)})
        sizes = {"obj": config.num_object_labels, "attr": config.num_attr_labels, "feat": config.visual_feat_dim}
        decoders = nn.ModuleDict({name: nn.Linear(width, sizes[name]) for name in config.visual_losses})
        if decoders:
            self.obj_predict_head = nn.ModuleDict({"transform": Transform(width, eps=EPS), "decoder_dict": decoders})
        if answers := config.num_qa_labels:
            self.answer_head = nn.ModuleDict({"logit_fc": answer_head(width, 2 * width, answers, eps=EPS)})
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, heads: Sequence[str]) -> Output:
        """Scores of `heads`; logits are those of the first. batch: see Bert.forward; optional masked_positions."""
        pooled, text, regions = self.bert(batch)
        region_states = self.obj_predict_head["transform"](regions) if REGION_HEADS.keys() & set(heads) else regions
        states = {"mlm": mlm_states(text, batch)} | dict.fromkeys(REGION_HEADS, region_states)
        scores = {name: self.get_submodule(HEADS[name])(states.get(name, pooled)) for name in heads}
        return Output(scores[heads[0]], pooled, text, regions, scores=scores)


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> LxmertConfig:
    return LxmertConfig(
        vocab_size=vocab_size, max_position_embeddings=options.max_text_tokens, visual_feat_dim=region_dim,
        hidden_size=options.hidden_size, num_hidden_layers=options.layers, region_layers=options.region_layers,
        cross_layers=options.cross_layers, num_attention_heads=options.heads,
        intermediate_size=options.intermediate_size, initializer_range=options.initializer_range,
        hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=options.attention_dropout,
    )  # fmt: skip


def head_config(head: Head) -> dict[str, Any]:
    return {"num_images": head.images, "num_labels": head.labels, "grounding": head.kind == "grounding"}


def pretraining_config(sizes: PretrainingSizes) -> dict[str, Any]:
    return {
        "num_qa_labels": sizes.qa,
        "num_object_labels": sizes.mrc_objects,
        "num_attr_labels": sizes.mrc_attributes,
        "visual_losses": [head for objective, head in REGION_HEADS.items() if getattr(sizes, objective)],
    }


SPEC = ModelSpec(
    name="lxmert",
    input="regions",
    heads=frozenset({"classify", "multiple_choice", "grounding"}),
    max_images=3,
    new_config=new_config,
    head_config=head_config,
    head_prefix="logit_fc.",
    pretraining=("mlm", "itm", "mrc_objects", "mrc_attributes", "mrfr", "qa"),
    pretraining_config=pretraining_config,
    region_masking="replace",
    capabilities=frozenset({"arbitrary_pairs"}),
    originals="vlx.checkpoints.originals.lxmert",
)
AutoConfig.register(LxmertConfig.model_type, LxmertConfig)
for auto, model in ((AutoModel, Lxmert), (AutoModelForPreTraining, LxmertForPreTraining)):
    auto.register(LxmertConfig, model, exist_ok=True)  # transformers has a LxmertConfig of its own
