"""Checks of the contract of backbones."""
