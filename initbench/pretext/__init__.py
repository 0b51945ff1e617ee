"""Transformations and objectives that learned initializers compose."""
