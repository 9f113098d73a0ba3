"""Readers of region files, one module a kind; vlx/corpora/formats/sources.py chooses by the name of a file."""
