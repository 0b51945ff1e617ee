"""Checks of the contracts, for whoever adds a backbone."""
