"""``initbench compare``, ``variance`` and ``power``. None imports torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from initbench.errors import UsageError
from initbench.leaderboard import comparison, planning, sheet, spread, study
from initbench.stats.power import stated


def compare_command(
    first: str, second: str, out: Path, datasets: list[str], backbones: list[str], margin: float, form: str
) -> None:
    """Prints what can be claimed of the difference of two inits."""
    _show(comparison.sheets(study.read(out, datasets, backbones).tables, first, second, margin), form)


def variance_command(out: Path, datasets: list[str], backbones: list[str], across: bool, form: str) -> None:
    """Prints where the spread of Dice comes from, or the seed SDs of inits pooled over blocks."""
    tables = study.read(out, datasets, backbones).tables
    _show([spread.across(tables)] if across else spread.sheets(tables), form)


def power_command(out: Path, datasets: list[str], backbones: list[str], cases: list[int], sds: str | None, form: str) -> None:
    """Prints what studies could find: from pilot runs, or from stated SDs of seed, init x case and residual."""
    if sds is None:
        _show(planning.sheets(study.read(out, datasets, backbones).tables, cases), form)
        return
    if not cases:
        raise UsageError("--sd says nothing of the cases: add --cases N (repeatable)")
    seed, init_case, residual = _three(sds)
    text = f"seed SD {seed:g}, init × case SD {init_case:g}, residual SD {residual:g} Dice points"
    _show([planning.sheet("a study", text, stated(seed, init_case, residual), cases, 1)], form)


def _three(text: str) -> tuple[float, float, float]:
    try:
        seed, init_case, residual = (float(part) for part in text.split(","))
        wrong = not all(0 <= value < math.inf for value in (seed, init_case, residual))
    except ValueError:
        wrong = True
    if wrong:
        raise UsageError(f"--sd {text!r}: write SDs of seed, init × case and residual, 0 or more, as in --sd 1.5,3,10")
    return seed, init_case, residual


def _show(sheets: Sequence[sheet.Sheet], form: str) -> None:
    if form == "table":
        sheet.terminal(sheets, Console(highlight=False))
    else:
        sys.stdout.write(sheet.FORMS[form](sheets).rstrip("\n") + "\n")
