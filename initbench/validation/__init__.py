"""Checks of the contracts, for whoever adds a backbone or an initializer."""
