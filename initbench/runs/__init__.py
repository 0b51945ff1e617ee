"""Run directories: writing and reading back."""
