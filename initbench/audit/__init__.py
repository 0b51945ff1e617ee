"""Finished runs looked at again."""
