"""Command line: parse, call, print; no logic."""
