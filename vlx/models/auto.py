"""Register every architecture with transformers, so that AutoModel.from_pretrained(folder) works."""

from importlib import import_module

from vlx.registry import ARCHITECTURES

for entry in ARCHITECTURES.values():  # the file of an architecture registers it at its end
    import_module(entry.target.partition(":")[0])
