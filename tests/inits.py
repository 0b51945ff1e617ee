"""Initializers by what they need to run."""

from __future__ import annotations

from initbench import registry
from initbench.spec import Spec

# Those that need weights of images, a network that its authors released code for, or one with declared residual branches.
PARTICULAR = ("images", "inflate-2d", "lwi-as-released", "zero-residual")


def runnable() -> list[str]:
    """Names of the initializers that mean something on every network without any argument."""
    found = []
    for name in registry.names("initializer"):
        takes = registry.find("initializer", Spec(name)).takes
        if name not in PARTICULAR and registry.REQUIRED not in takes.values():
            found.append(name)
    return found
