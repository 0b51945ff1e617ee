"""One training loop with its losses and schedule."""
