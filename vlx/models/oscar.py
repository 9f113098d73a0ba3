"""Oscar: one BERT stream over text and regions, a head over N images (Li et al. 2020; VinVL: a region LayerNorm);
and what both are pre-trained with, masked tokens and the contrast of texts and tags with those of other pictures.

Parameter names are the original's, so that its checkpoints load as they are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head, Sizes, Targets, WordHead, guessed
from vlx.models.layers import Embeddings, Layer, Output, Pooler, box_terms, pack, pack_mask, unpack

CONTRASTS = 3  # classes: another picture's text, a text with its picture, another picture's tags


class OscarConfig(PretrainedConfig):
    """BERT's configuration plus Oscar's own names. `num_choice` is N, the images of an example."""

    model_type = "vlx-oscar"

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
    img_feature_dim: int = 2054
    box_terms: bool = True  # the last six feature columns are the box terms, computed from the boxes
    use_img_layernorm: bool | int = False
    img_layer_norm_eps: float = 1e-12
    classifier: str = "linear"
    cls_hidden_scale: int = 2
    num_choice: int = 1
    num_labels: int = 2
    pointing: bool = False  # a logit of each region instead


class Encoder(nn.Module):
    """A stack of layers that can keep what it passes through."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            Layer(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                eps=config.layer_norm_eps,
                dropout=config.hidden_dropout_prob,
                attention_dropout=config.attention_probs_dropout_prob,
            )  # fmt: skip
            for _ in range(config.num_hidden_layers)
        )

    def forward(self, hidden: Tensor, key_mask: Tensor) -> list[Tensor]:
        """hidden [M,L,H], key_mask [M,L] -> the input and every layer's output."""
        states = [hidden]
        for layer in self.layer:
            states.append(layer(states[-1], key_mask))
        return states

    def attentions(self, states: list[Tensor], key_mask: Tensor) -> tuple[Tensor, ...]:
        pairs = zip(self.layer, states[:-1], strict=True)
        return tuple(layer.probabilities(hidden, key_mask) for layer, hidden in pairs)  # type: ignore[operator]


class Bert(nn.Module):
    """Text and regions on one sequence axis: the original's BertImgModel."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(
            config.vocab_size, config.hidden_size, config.max_position_embeddings, config.type_vocab_size,
            eps=config.layer_norm_eps, dropout=config.hidden_dropout_prob,
        )  # fmt: skip
        self.encoder = Encoder(config)
        self.pooler = Pooler(config.hidden_size)
        self.img_embedding = nn.Linear(config.img_feature_dim, config.hidden_size)
        self.dropout, self.box_terms = nn.Dropout(config.hidden_dropout_prob), config.box_terms
        if config.use_img_layernorm:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.img_layer_norm_eps)

    def embed_regions(self, features: Tensor) -> Tensor:
        projected = self.img_embedding(features)
        return self.dropout(self.LayerNorm(projected) if hasattr(self, "LayerNorm") else projected)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
        """pooled [M,H], text [M,T,H], regions [M,R,H]; the encoder's states and mask, in its own layout.

        batch: input_ids and text_mask [B,T] or [B,N,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R];
        optional token_type_ids, like input_ids; optional layout [B*N,L]: the positions of text + regions that the
        encoder sees, without the padding between them. Without it the encoder sees all T + R positions. With
        `attention` [B*N,L,L], who sees whom of the layout, and `starts` [B*N,V] a row holds V views, each with a [CLS]
        of its own: pooled [V*B*N,H], view by view.
        """
        input_ids = batch["input_ids"].flatten(0, -2)  # [B,N,T] -> [M,T]
        token_type_ids = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        embedded = self.embeddings(input_ids, token_type_ids)
        regions = self.embed_regions(self.region_features(batch).flatten(0, -3))
        hidden = torch.cat([embedded, regions], 1)
        mask = torch.cat([batch["text_mask"].flatten(0, -2), batch["region_mask"].flatten(0, -2)], 1)
        layout = batch.get("layout")
        if layout is not None:
            hidden, mask = pack(hidden, layout), batch.get("attention", pack_mask(mask, layout))
        states = self.encoder(hidden, mask)
        pooled = self.pooler(first_of_views(states[-1], batch["starts"]) if "starts" in batch else states[-1])
        last = states[-1] if layout is None else unpack(states[-1], layout, embedded.shape[1] + regions.shape[1])
        return pooled, last[:, : embedded.shape[1]], last[:, embedded.shape[1] :], states, mask

    def region_features(self, batch: dict[str, Tensor]) -> Tensor:
        """Features and box terms as the original reads them: [..,R,D] -> [..,R,D+6], in the weights' dtype."""
        features = batch["regions"].to(self.img_embedding.weight.dtype)
        if not self.box_terms:
            return features
        return torch.cat([features, box_terms(batch["boxes"].to(features.dtype))], -1)


class Oscar(PreTrainedModel):
    """Sequence classification over one image, or over N whose pooled vectors are concatenated (NLVR2: 2, NLVR: 3)."""

    config_class = OscarConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        self.bert = Bert(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1) if config.pointing else head(config)
        self.post_init()

    def forward(
        self, batch: dict[str, Tensor], *, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> Output:
        """Score a batch as Bert.forward reads it; of V views, logits [V*B,A] and pooled [V*B*N,H], view by view."""
        pooled, text, regions, states, mask = self.bert(batch)
        return Output(
            logits=self.logits(pooled, regions, batch["region_mask"]),
            pooled=pooled,
            text_hidden=text,
            region_hidden=regions,
            hidden_states=tuple(states) if output_hidden_states else (),
            attentions=self.bert.encoder.attentions(states, mask) if output_attentions else (),
        )

    def logits(self, pooled: Tensor, regions: Tensor, region_mask: Tensor) -> Tensor:
        """[B,A] over the pooled vectors [M,H] of N images; pointing: [M,R], the least there is where no region is."""
        if self.config.pointing:
            scores = self.classifier(self.dropout(regions)).squeeze(-1)
            return scores.masked_fill(~region_mask.flatten(0, -2), torch.finfo(scores.dtype).min)
        joined = self.dropout(pooled).reshape(len(pooled) // self.config.num_choice, -1)  # [M,H] -> [B,N*H]
        return self.classifier(joined)


class OscarForPreTraining(PreTrainedModel):
    """Masked tokens of text and tags, and whether both belong to the picture."""

    config_class = OscarConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        self.bert, width = Bert(config), config.hidden_size
        words = WordHead(width, config.vocab_size, eps=config.layer_norm_eps)
        self.cls = nn.ModuleDict({"predictions": words, "seq_relationship": nn.Linear(width, CONTRASTS)})
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, heads: Sequence[str]) -> Output:
        """Scores of `heads`: words and matched; logits are the first one's. batch: as Bert.forward reads it; optional
        word_places."""
        pooled, text, regions, _, _ = self.bert(batch)
        scores = {}
        if "words" in heads:
            scores["words"] = self.cls["predictions"](guessed(text, batch))
        if "matched" in heads:
            scores["matched"] = self.cls["seq_relationship"](pooled)
        return Output(scores[heads[0]], pooled, text, regions, scores=scores)


def first_of_views(hidden: Tensor, starts: Tensor) -> Tensor:
    """[M,L,H] and [M,V] -> [V*M,1,H], view by view."""
    return pack(hidden, starts).transpose(0, 1).flatten(0, 1)[:, None]


def head(config: OscarConfig) -> nn.Module:
    """The classifier over N pooled vectors; Sequential indices are the original's."""
    inputs, inner = config.num_choice * config.hidden_size, config.hidden_size * config.cls_hidden_scale
    if config.classifier == "linear":
        return nn.Linear(inputs, config.num_labels)
    norm = (
        [nn.LayerNorm(inner, eps=config.layer_norm_eps)] if config.use_img_layernorm and config.num_choice > 1 else []
    )
    layers: list[Any] = [nn.Linear(inputs, inner), nn.ReLU(), *norm, nn.Linear(inner, config.num_labels)]
    return nn.Sequential(*layers)


def configure(head: Head, sizes: Sizes) -> OscarConfig:
    return OscarConfig(
        vocab_size=sizes.vocab_size, max_position_embeddings=sizes.positions, img_feature_dim=sizes.region_dim + 6,
        hidden_size=sizes.hidden, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate, initializer_range=sizes.initializer_range,
        hidden_dropout_prob=sizes.dropout, attention_probs_dropout_prob=sizes.attention_dropout,
        classifier=sizes.classifier, cls_hidden_scale=sizes.classifier_scale, **with_head(head),
    )  # fmt: skip


def with_head(head: Head) -> dict[str, Any]:
    """The options of a configuration that are the head's."""
    return {"num_choice": head.images, "num_labels": head.labels, "pointing": head.kind == "point"}


def with_targets(targets: Targets) -> dict[str, Any]:
    """The options of a configuration that are pre-training's: none, its heads are always the same."""
    return {}


AutoConfig.register(OscarConfig.model_type, OscarConfig)
AutoModel.register(OscarConfig, Oscar)
AutoModelForPreTraining.register(OscarConfig, OscarForPreTraining)
