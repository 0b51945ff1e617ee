"""The reference of the Python API: the public names, which mkdocstrings describes from their docstrings."""

from __future__ import annotations

import initbench
from initbench import protocols

INTRODUCTION = """# Python API

This page is made from the docstrings. [In Python](../how-to/python.md) shows the functions in use.

## Functions

`import initbench` offers them; each is imported when it is first used."""

PROTOCOLS = """## What plug-ins are written against

`initbench.protocols` holds the contracts of initializers, backbones and data sets, and imports nothing else of the package."""

# A reader of folders describes what it found by these.
FOLDERS = ("initbench.datasets.folder.FolderLayout", "initbench.datasets.folder.Files", "initbench.datasets.folder.FolderDataset")


def page() -> str:
    """Returns the page: a directive of mkdocstrings for each public name."""
    parts = [INTRODUCTION]
    parts += [_directive(f"{getattr(initbench, name).__module__}.{name}") for name in initbench.__all__]
    parts.append(PROTOCOLS)
    for name in protocols.__all__:
        thing = getattr(protocols, name)
        if hasattr(thing, "__doc__") and getattr(thing, "__module__", "").startswith("initbench.protocols"):
            parts.append(_directive(f"{thing.__module__}.{name}"))
    parts.append("## Data sets in folders")
    parts += [_directive(name) for name in FOLDERS]
    return "\n\n".join(parts) + "\n"


def _directive(name: str) -> str:
    return f"::: {name}"
