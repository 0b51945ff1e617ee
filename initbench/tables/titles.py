"""What a block is called, and what its rows share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def title(block: Mapping[str, Any]) -> str:
    """Data set and network."""
    return f"{block['dataset']} × {variant(block)}"


def variant(block: Mapping[str, Any]) -> str:
    """The network with its variant."""
    return f"{block['backbone']} ({block['variant']})" if block["variant"] != "default" else str(block["backbone"])


def settings(block: Mapping[str, Any]) -> str:
    """The settings of a block in one line."""
    protocol = "" if block["protocol"] == "any" else f" · {block['protocol']}"
    steps = f"{block['size']} size · {block['steps']} steps ({block['budget']}){protocol}"
    fixed = f" · seeds share {block['fixed_streams']}" if block["fixed_streams"] else ""
    return f"{steps} · {block['precision']} · split {block['split']}{fixed}"
