"""Checks of the contract of initializers."""
