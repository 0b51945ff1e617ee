"""Tables from statistics; no torch."""
