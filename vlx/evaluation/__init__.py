"""Scores of a model on a split; its size and speed."""
