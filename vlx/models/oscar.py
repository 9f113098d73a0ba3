"""Oscar: one BERT stream over text and regions, with a head over N images (Li et al. 2020); VinVL adds a region
LayerNorm (Zhang et al. 2021). Pre-training: masked tokens, and the contrastive loss over texts and object tags.

Parameter names are the original's, so that its checkpoints load as they are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PretrainedConfig, PreTrainedModel

from vlx.models.heads import Head, MlmHead, PretrainingSizes, mlm_states
from vlx.models.layers import Embeddings, Output, Pooler, box_terms, encoder_layers, pack, pack_mask, unpack
from vlx.models.spec import ModelSpec

CONTRASTIVE_CLASSES = 3  # text of another image; matching; tags of another image


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
    grounding: bool = False  # one logit for each region


class Encoder(nn.Module):
    """A stack of layers that returns every hidden state."""

    def __init__(self, config: OscarConfig) -> None:
        super().__init__()
        self.layer = encoder_layers(config, config.num_hidden_layers, eps=config.layer_norm_eps)

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
        """pooled [M,H], text [M,T,H], regions [M,R,H]; the encoder's states and mask, in its own packing.

        batch: input_ids and text_mask [B,T] or [B,N,T]; regions [..,R,D], boxes [..,R,4] and region_mask [..,R];
        optional token_type_ids, like input_ids; optional packing [B*N,L]: the positions of text + regions that the
        encoder sees, without the padding between them. Without it the encoder sees all T + R positions. A row may hold
        V views, each with its own [CLS]: cls_positions [B*N,V] in the packed row and attention_mask [B*N,query,key];
        then pooled is [V*B*N,H], view by view.
        """
        input_ids = batch["input_ids"].flatten(0, -2)  # [B,N,T] -> [M,T]
        token_type_ids = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
        embedded = self.embeddings(input_ids, token_type_ids)
        regions = self.embed_regions(self.region_features(batch).flatten(0, -3))
        hidden = torch.cat([embedded, regions], 1)
        mask = torch.cat([batch["text_mask"].flatten(0, -2), batch["region_mask"].flatten(0, -2)], 1)
        packing = batch.get("packing")
        if packing is not None:
            hidden = pack(hidden, packing)
            mask = batch.get("attention_mask", pack_mask(mask, packing))
        states = self.encoder(hidden, mask)
        pooled = self.pooler(
            pooled_views(states[-1], batch["cls_positions"]) if "cls_positions" in batch else states[-1]
        )
        last = states[-1] if packing is None else unpack(states[-1], packing, embedded.shape[1] + regions.shape[1])
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
        self.classifier = nn.Linear(config.hidden_size, 1) if config.grounding else head(config)
        self.post_init()

    def forward(
        self, batch: dict[str, Tensor], *, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> Output:
        """batch: see Bert.forward; with V views logits are [V*B,A] and pooled [V*B*N,H], view by view."""
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
        """[B,A] over the pooled vectors [M,H] of N images; grounding: [M,R], the lowest number at padding."""
        if self.config.grounding:
            scores = self.classifier(self.dropout(regions)).squeeze(-1)
            return scores.masked_fill(~region_mask.flatten(0, -2), torch.finfo(scores.dtype).min)
        joined = self.dropout(pooled).reshape(len(pooled) // self.config.num_choice, -1)  # [M,H] -> [B,N*H]
        return self.classifier(joined)


class OscarForPreTraining(PreTrainedModel):
    """Masked tokens of text and tags (mlm), and whether both belong to the image (itm)."""

    config_class = OscarConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _tied_weights_keys = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: OscarConfig) -> None:
        super().__init__(config)
        self.bert = Bert(config)
        width = config.hidden_size
        mlm = MlmHead(width, config.vocab_size, eps=config.layer_norm_eps)
        self.cls = nn.ModuleDict({"predictions": mlm, "seq_relationship": nn.Linear(width, CONTRASTIVE_CLASSES)})
        self.post_init()

    def forward(self, batch: dict[str, Tensor], *, heads: Sequence[str]) -> Output:
        """Scores of `heads`, mlm and itm; logits are those of the first. batch: see Bert.forward; optional
        masked_positions."""
        pooled, text, regions, _, _ = self.bert(batch)
        scores = {}
        if "mlm" in heads:
            scores["mlm"] = self.cls["predictions"](mlm_states(text, batch))
        if "itm" in heads:
            scores["itm"] = self.cls["seq_relationship"](pooled)
        return Output(scores[heads[0]], pooled, text, regions, scores=scores)


def pooled_views(hidden: Tensor, cls_positions: Tensor) -> Tensor:
    """The [CLS] states of V views: [M,L,H] and [M,V] -> [V*M,1,H], view by view."""
    return pack(hidden, cls_positions).transpose(0, 1).flatten(0, 1)[:, None]


def head(config: OscarConfig) -> nn.Module:
    """The classifier over N pooled vectors; Sequential indices are the original's."""
    inputs = config.num_choice * config.hidden_size
    inner = config.hidden_size * config.cls_hidden_scale
    if config.classifier == "linear":
        return nn.Linear(inputs, config.num_labels)
    layers: list[nn.Module] = [nn.Linear(inputs, inner), nn.ReLU()]
    if config.use_img_layernorm and config.num_choice > 1:
        layers.append(nn.LayerNorm(inner, eps=config.layer_norm_eps))
    return nn.Sequential(*layers, nn.Linear(inner, config.num_labels))


def new_config(options: Any, *, vocab_size: int, region_dim: int) -> OscarConfig:
    return OscarConfig(
        vocab_size=vocab_size, max_position_embeddings=options.max_text_tokens, img_feature_dim=region_dim + 6,
        hidden_size=options.hidden_size, num_hidden_layers=options.layers, num_attention_heads=options.heads,
        intermediate_size=options.intermediate_size, initializer_range=options.initializer_range,
        hidden_dropout_prob=options.dropout, attention_probs_dropout_prob=options.attention_dropout,
        classifier=options.classifier, cls_hidden_scale=options.classifier_scale,
    )  # fmt: skip


def head_config(head: Head) -> dict[str, Any]:
    return {"num_choice": head.images, "num_labels": head.labels, "grounding": head.kind == "grounding"}


def pretraining_config(sizes: PretrainingSizes) -> dict[str, Any]:
    """Nothing: both heads are always there."""
    return {}


SPEC = ModelSpec(
    name="oscar",
    input="regions",
    heads=frozenset({"classify", "multiple_choice", "grounding"}),
    max_images=3,
    new_config=new_config,
    head_config=head_config,
    head_prefix="classifier.",
    classifier_options=True,
    pretraining=("mlm", "itm"),
    pretraining_config=pretraining_config,
    capabilities=frozenset(
        {
            "hidden_states", "attentions", "modality_views", "arbitrary_pairs", "object_tags", "reptile",
            "student_width",
        }
    ),
    originals="vlx.checkpoints.originals.oscar",
)  # fmt: skip
AutoConfig.register(OscarConfig.model_type, OscarConfig)
AutoModel.register(OscarConfig, Oscar)
AutoModelForPreTraining.register(OscarConfig, OscarForPreTraining)
