"""ViLBERT's configuration and its checks. Names are the original's."""

from dataclasses import field
from typing import Any

from transformers import PretrainedConfig

from vlx.errors import ConfigError
from vlx.models.vilbert_heads import HEADS, KINDS, PRETRAINING


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
    global_region: bool = True  # prepend the mean of the regions; False: the batch's first region is the global one
    heads: dict[str, Any] = field(default_factory=lambda: dict(HEADS))
    head: str = "vil_prediction"  # gives the logits by default
    tie_word_embeddings: bool = True


def check(config: VilbertConfig) -> None:
    """Raises ConfigError unless the model can be built."""
    text_bridges = config.t_biattention_id
    image_bridges = config.v_biattention_id
    if len(text_bridges) != len(image_bridges):
        raise ConfigError(f"t_biattention_id={text_bridges}: expected as many as v_biattention_id={image_bridges}.")
    check_bridges("t", list(text_bridges), layers=config.num_hidden_layers, fixed=config.fixed_t_layer)
    check_bridges("v", list(image_bridges), layers=config.v_num_hidden_layers, fixed=config.fixed_v_layer)
    if config.fusion_method not in ("mul", "sum"):
        raise ConfigError(f"fusion_method={config.fusion_method}: expected mul or sum.")
    for name, (kind, _) in config.heads.items():
        if kind not in KINDS:
            raise ConfigError(f"heads: {name} is of kind {kind}; expected one of {', '.join(KINDS)}.")
    if config.head not in PRETRAINING | config.heads:
        raise ConfigError(f"head={config.head}: expected one of {', '.join(PRETRAINING | config.heads)}.")


def check_bridges(stream: str, bridges: list[int], *, layers: int, fixed: int) -> None:
    """bridges: the layers before which they stand; fixed: the first layers that get no gradient."""
    if not bridges or bridges != sorted(set(bridges)) or bridges[0] < 0 or bridges[-1] >= layers:
        raise ConfigError(f"{stream}_biattention_id={bridges}: expected rising indices of the {layers} layers.")
    if fixed > bridges[0]:
        raise ConfigError(f"fixed_{stream}_layer={fixed}: expected at most the first bridge's layer, {bridges[0]}.")
