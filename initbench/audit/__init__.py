"""Looks at finished runs again: verifies them, scores them anew, adds distances."""
