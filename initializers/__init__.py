"""Initializers, one scheme per file."""
