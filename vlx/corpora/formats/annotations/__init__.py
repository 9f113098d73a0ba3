"""Readers of official annotation files, one module a format; vlx/registry.py names them."""
