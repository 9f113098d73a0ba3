"""The architectures. Importing the package imports all of them: each registers itself with transformers, so that
AutoModel.from_pretrained(folder) works. `spec` tells what each can do."""

from importlib import import_module

from vlx.registry import ARCHITECTURES

for entry in ARCHITECTURES.values():
    import_module(entry.target.partition(":")[0])
