"""Numbers as people read them."""

from __future__ import annotations

import math

from initbench.stats.summary import Interval


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number, – for none."""
    return "–" if math.isnan(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def interval(found: Interval, *, signed: bool = False) -> str:
    """A value with its bounds. Two decimals where they say something; one where a bound has two figures before the point."""
    digits = 1 if max(abs(found.low), abs(found.high)) >= 10 else 2
    value = number(found.value, digits, signed=signed)
    if math.isnan(found.low):
        return value
    low, high = (number(bound, digits, signed=signed) for bound in (found.low, found.high))
    return f"{value} [{low}, {high}]"


def duration(seconds: float) -> str:
    """A duration, – for none."""
    if math.isnan(seconds):
        return "–"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min" if seconds < 36000 else f"{seconds / 3600:.1f} h"


def chance(p: float) -> str:
    """A p value; a small one as a bound, – for none."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def plain(value: object) -> object:
    """A value for JSON and CSV: null for NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
