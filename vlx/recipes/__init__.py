"""The stages that entry points and notebooks are made of, one file a verb."""
