"""Loads the scripts of benchmarks/, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.folders import ROOT


def load(name: str) -> ModuleType:
    """The script of this name as a module of its own: what a test changes in it, another test file does not see."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
