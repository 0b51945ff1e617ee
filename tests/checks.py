"""What checks say, of runs and of components."""

from __future__ import annotations

from collections.abc import Iterable

from initbench.validation.checks import Check


def failed(checks: Iterable[Check]) -> dict[str, str]:
    """What the failed checks say, by their names."""
    return {check.name: check.detail for check in checks if not check.passed}
