"""Checks of the contracts, for authors of backbones, initializers and regimens."""
