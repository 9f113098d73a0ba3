"""The official metrics, each once."""
