"""timm, imported when it is needed: it takes seconds, and what it imports makes torch warn."""

from __future__ import annotations

import warnings
from types import ModuleType


def import_timm() -> ModuleType:
    """The module timm, with its layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
        import timm.layers
    module: ModuleType = timm
    return module
