"""Regimens, one in each file: how the supervised stage is run."""
