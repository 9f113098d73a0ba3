"""The BERT encoder that the architectures share, with the originals' parameter names.

Shapes: B sequences, T text tokens, R regions, L positions that the encoder sees, H hidden.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer


@dataclass
class Output:
    """M = sequences = examples x images. `hidden_states` and `attentions` are in the encoder's packing."""

    logits: Tensor  # [B,A]
    pooled: Tensor  # [M,H]
    text_hidden: Tensor | None  # [M,T,H]; None: not computed (LXMERT's last layer)
    region_hidden: Tensor | None  # [M,R,H]
    hidden_states: tuple[Tensor, ...] = ()  # K+1 x [M,L,H], embeddings first
    attentions: tuple[Tensor, ...] = ()  # K x [M,heads,L,L], after softmax
    scores: dict[str, Tensor] = field(default_factory=dict)  # of further heads, by name


class Embeddings(nn.Module):
    """Word + position + token type, LayerNorm, dropout: input_ids [B,T] -> [B,T,H].

    first_rows_fixed: no gradient reaches position 0 and token type 0, as in LXMERT, which takes them for padding.
    """

    def __init__(
        self, vocab_size: int, hidden: int, positions: int, types: int,
        *, eps: float, dropout: float, first_rows_fixed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        fixed = 0 if first_rows_fixed else None
        self.word_embeddings = nn.Embedding(vocab_size, hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(positions, hidden, padding_idx=fixed)
        self.token_type_embeddings = nn.Embedding(types, hidden, padding_idx=fixed)
        self.LayerNorm = nn.LayerNorm(hidden, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        positions = self.position_embeddings(torch.arange(input_ids.shape[1], device=input_ids.device))
        embedded = self.word_embeddings(input_ids) + positions + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(embedded))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,L,H] -> [B,heads,L,H/heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, heads: int, dropout: float) -> Tensor:
    """Multi-head attention over projections: query [B,L,H], key and value [B,C,H], mask [B,1,1 or L,C] -> [B,L,H]."""
    mixed = F.scaled_dot_product_attention(
        split_heads(query, heads), split_heads(key, heads), split_heads(value, heads), attn_mask=mask, dropout_p=dropout
    )
    return mixed.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention over hidden [B,L,H] itself, or over context [B,C,E] -> [B,L,H].

    key_mask [B,C], or [B,L,C] for a mask per query: True = attend. H is the width of the query, E of the context.
    """

    def __init__(self, hidden: int, heads: int, *, dropout: float, context: int | None = None) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(context or hidden, hidden)
        self.value = nn.Linear(context or hidden, hidden)

    def forward(self, hidden: Tensor, key_mask: Tensor, context: Tensor | None = None) -> Tensor:
        source = hidden if context is None else context
        query = self.query(hidden)
        key = self.key(source)
        value = self.value(source)
        dropout = self.dropout if self.training else 0.0
        mask = key_mask[:, None] if key_mask.dim() == 3 else key_mask[:, None, None]  # -> [B,1,1 or L,C]
        return attend(query, key, value, mask, heads=self.heads, dropout=dropout)


class DenseNorm(nn.Module):
    """LayerNorm(residual + dropout(dense(x)))."""

    def __init__(self, inputs: int, hidden: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(residual + self.dropout(self.dense(x)))


class Layer(GradientCheckpointingLayer):
    """One post-LayerNorm transformer layer: attention, then the feed-forward part with the exact (erf) GELU."""

    def __init__(
        self, hidden: int, heads: int, intermediate: int, *, eps: float, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "self": SelfAttention(hidden, heads, dropout=attention_dropout),
                "output": DenseNorm(hidden, hidden, eps=eps, dropout=dropout),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, intermediate)})
        self.output = DenseNorm(intermediate, hidden, eps=eps, dropout=dropout)

    def forward(self, hidden: Tensor, key_mask: Tensor) -> Tensor:
        attended = self.attention["output"](self.attention["self"](hidden, key_mask), hidden)
        return self.output(F.gelu(self.intermediate["dense"](attended)), attended)

    def probabilities(self, hidden: Tensor, key_mask: Tensor) -> Tensor:
        """Attention probabilities, which the fused kernel does not return: [B,heads,L,L], after softmax."""
        attention = cast(SelfAttention, self.attention["self"])
        query = split_heads(attention.query(hidden), attention.heads)
        key = split_heads(attention.key(hidden), attention.heads)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores.masked_fill(~key_mask[:, None, None, :], torch.finfo(scores.dtype).min).softmax(-1)


def encoder_layers(config: Any, count: int, *, eps: float) -> nn.ModuleList:
    """`count` layers of the sizes in a configuration with BERT's names."""
    return nn.ModuleList(
        Layer(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            eps=eps,
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
        )
        for _ in range(count)
    )


class Pooler(nn.Module):
    """tanh(dense(first position)): [B,L,H] -> [B,H]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden[:, 0]))


def batch_shape(batch: dict[str, Tensor]) -> torch.Size:
    """(B,) or (B,N): the longer of the leading shapes of texts and images. Raises ValueError unless one begins with
    the other."""
    texts, images = batch["input_ids"].shape[:-1], batch["regions"].shape[:-2]
    shape = max(texts, images, key=len)
    if texts != shape[: len(texts)] or images != shape[: len(images)]:
        raise ValueError(f"texts {tuple(texts)} and images {tuple(images)} do not match.")
    return shape


def repeat(x: Tensor, rows: int) -> Tensor:
    """Repeat each row: [B,..] -> [rows,..], copies side by side."""
    return x if len(x) == rows else x.repeat_interleave(rows // len(x), 0)


def box_terms(boxes: Tensor) -> Tensor:
    """Boxes [...,4] (x1,y1,x2,y2 in 0..1) -> [...,6]: the box, its width and its height."""
    return torch.cat([boxes, boxes[..., 2:] - boxes[..., :2]], -1)


def flatten_logits(logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """[B,A] with A labels, choices or regions; [V*B,A] where a row of the batch holds V views."""
    views = batch["cls_positions"].shape[1] if "cls_positions" in batch else 1
    return logits.reshape(views * len(batch["input_ids"]), -1)


def pack(hidden: Tensor, packing: Tensor) -> Tensor:
    """Pick positions [B,S,H] -> [B,L,H]; packing [B,L] holds positions in 0..S-1, -1 for padding."""
    return hidden.gather(1, packing.clamp(min=0)[..., None].expand(-1, -1, hidden.shape[-1]))


def pack_mask(mask: Tensor, packing: Tensor) -> Tensor:
    """The mask [B,S] of the picked positions [B,L]; padding is False."""
    return mask.gather(1, packing.clamp(min=0)) & (packing >= 0)


def unpack(hidden: Tensor, packing: Tensor, size: int) -> Tensor:
    """Scatter picked positions back: [B,L,H] -> [B,S,H], zeros elsewhere."""
    index = torch.where(packing >= 0, packing, size)[..., None].expand_as(hidden)
    return hidden.new_zeros(hidden.shape[0], size + 1, hidden.shape[-1]).scatter(1, index, hidden)[:, :size]
