"""Register every architecture with transformers, so that AutoModel.from_pretrained(folder) works."""

from vlx.models.spec import all_specs

all_specs()
