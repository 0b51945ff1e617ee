"""Reads the splits of the papers as their files have them. It imports little: tables of results ask for their names alone."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from initbench.paths import is_file

# Other data sets of the same scans: which data set's file has their splits, and the usual one.
_SHARED = {"btcv": ("synapse", "monai-24/6"), "synapse-8": ("synapse", "transunet-18/12")}


def published(dataset: str) -> list[dict[str, Any]]:
    """Returns every published split of a data set's name (``name, source, train, test``, and ``unused``), the usual one first."""
    name, first = _SHARED.get(dataset, (dataset, None))
    file = resources.files("initbench.datasets") / "published_splits" / f"{name}.json"
    if not is_file(file):
        return []
    found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["splits"]
    if first is not None:
        found.sort(key=lambda table: table["name"] != first)
    return found
