"""Small commands behind the Makefile."""
