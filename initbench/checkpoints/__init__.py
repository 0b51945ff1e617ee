"""Weights from outside: read without executing anything, matched to a network, turned to its axes."""
