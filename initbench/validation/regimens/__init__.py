"""Checks of what a regimen promises."""
