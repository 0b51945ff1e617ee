"""Sliding window, the way back to the native grid, counts, overlays."""
