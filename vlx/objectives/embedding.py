"""EMBEDDING, the method that compares pooled vectors."""

from vlx.objectives.contrastive import embedding_kd
from vlx.objectives.distillation import DistillationMethod

EMBEDDING = DistillationMethod(
    name="embedding",
    source="cosine distance between the vectors of two dual encoders",
    contrastive=embedding_kd,
    can_cache_logits=True,
)
