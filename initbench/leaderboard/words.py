"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from initbench import spec
from initbench.errors import UsageError
from initbench.stats.blocks import PLACEBO, is_placebo
from initbench.stats.compare import Difference
from initbench.stats.summary import Interval
from initbench.stats.table import Narrowed


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number, – for none."""
    return "–" if math.isnan(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def label(init: str) -> str:
    """What the row of an init is called: a placebo is told from the schemes."""
    if init == PLACEBO:
        return "placebo"
    return f"placebo: {init}" if is_placebo(init) else init


def listed(inits: Iterable[str]) -> str:
    """The inits that there are, as their rows are called."""
    return ", ".join(sorted(map(label, set(inits))))


def meant(text: str) -> str:
    """The init that somebody means: by what its row is called, or by its name written otherwise, as without quotes."""
    if text.strip() == label(PLACEBO):
        return PLACEBO
    try:
        return str(spec.parse(text))
    except UsageError:  # rows of two cells of one name are called `lwi #1a2b3c`
        return text


def narrowed(found: Narrowed | None) -> list[str]:
    """What came of it that only shared seeds were asked for."""
    if found is None:
        return []
    if not found.seeds:
        return ["No seed has a score of every init: --shared-seeds changes nothing here."]
    if not found.diverged:
        return []
    which = ", ".join(f"{label(init)} (seed {seed})" for init, seed in found.diverged)
    runs = "1 diverged run lies" if len(found.diverged) == 1 else f"{len(found.diverged)} diverged runs lie"
    return [f"{runs} outside the shared seeds, where nothing is counted: {which}."]


def count(number: int, what: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def seeds(numbers: Sequence[int]) -> str:
    """`0–4, 7` of sorted numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def tested(item: Difference | None) -> dict[str, object]:
    """A difference with its p values for machines; NaN and empty where there is none."""
    nan = math.nan
    if item is None:
        names = ("difference", "difference_low", "difference_high", "p", "p_holm", "p_equivalence")
        return dict.fromkeys(names, nan) | {"verdict": "", "reason": ""}
    return {
        "difference": item.estimate.value,
        "difference_low": item.estimate.low,
        "difference_high": item.estimate.high,
        "p": item.p,
        "p_holm": item.p_holm,
        "p_equivalence": item.p_equivalence,
        "verdict": item.verdict,
        "reason": item.reason,
    }


def places(rank: float, low: float, high: float) -> str:
    """A rank with its interval."""
    return f"{rank:g} [{low:g}, {high:g}]"


def interval(found: Interval, *, signed: bool = False, digits: int | None = None) -> str:
    """A value with its bounds. Two decimals where they say something; one where a bound has two figures before the point."""
    if digits is None:
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
    """A p value; a small one as a bound that no line break can cut, – for none."""
    return "–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def plain(value: object) -> object:
    """A value for JSON and CSV: null for NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
