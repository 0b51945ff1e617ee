"""What tables say of runs that collapsed: for machines, and in a sentence beside a difference."""

from __future__ import annotations

import math

from initbench.stats.collapse import Collapses, RateTest, seeds_needed
from initbench.stats.compare import Difference
from initbench.stats.design import SeedDesign
from initbench.stats.standing import StandingDifference
from initbench.stats.summary import LEVEL
from initbench.tables import words
from initbench.tables.standings import UNKNOWN, Standing

LEGEND = (
    "collapsed: runs that ended far below the others of their block, diverged ones (which score 0) among them; in brackets how "
    "often runs may collapse, at the most (95 %)."
)


def counted(found: Collapses | None) -> dict[str, object]:
    """Returns how many runs of an init collapsed, for machines; NaN where nobody counted them, as in a withheld row."""
    if found is None:
        return {"collapsed": math.nan, "collapsed_up_to": math.nan}
    return {"collapsed": found.count, "collapsed_up_to": found.bound}


def standing(found: StandingDifference | None, rates: RateTest | None) -> dict[str, object]:
    """Returns for machines the difference of the runs that stand and the p of the test of collapse rates.

    Args:
        found: the difference; None, which gives NaN, where all runs stand.
        rates: the test; None, which gives NaN, where no run collapsed.
    """
    estimate, seeds, p = UNKNOWN, math.nan, math.nan
    if found is not None:
        estimate, seeds = found.estimate, found.seeds
    if rates is not None:
        p = rates.p
    return {**words.interval_values("standing_difference", estimate), "standing_seeds": seeds, "collapse_p": p}


def of_row(row: Standing, design: SeedDesign) -> list[str]:
    """Returns what notes say of a row, where some of its runs, or of the row that it is compared with, collapsed.

    Args:
        row: what is known of an init.
        design: whether rows share their seeds.
    """
    lines = []
    if row.collapses is not None and row.collapses.count:
        rest = "none stands"
        if not math.isnan(row.standing_mean):
            rest = f"the mean of those that stand is {row.standing_mean:.1f}"
        lines.append(f"{words.label(row.init)} collapsed in {row.collapses} of its runs; {rest}.")
    if row.difference is not None:
        lines += beside(row.difference, row.standing, row.rates, design)
    return lines


def beside(item: Difference, found: StandingDifference | None, rates: RateTest | None, design: SeedDesign) -> list[str]:
    """Returns what notes say of two rows beside their difference, where some of their runs collapsed.

    Args:
        item: the difference, over all runs.
        found: the difference of the runs that stand; None where all do.
        rates: the test of the two collapse rates; None where no run collapsed.
        design: whether the rows share their seeds.
    """
    if found is None or rates is None or item.collapses is None:
        return []
    names = f"{words.label(item.first)} − {words.label(item.second)}"
    seeds_left = words.count(found.seeds, "seed")
    if math.isnan(found.estimate.value):
        said = [f"{names}: at no seed do both stand."]
    else:
        said = [f"{names} where both stand: {words.difference(found.estimate)}, over {seeds_left}; the verdict is over all runs."]
    own, other = item.collapses
    told = f"Collapse rates of {names}: {own.count}/{own.runs} and {other.count}/{other.runs}"
    level = (1 - LEVEL) / max(1, item.family.divisor)
    if not item.family.rates or rates.least > level:
        least = seeds_needed((1 - LEVEL) * item.family.share / (item.family.size + 1), design)
        said.append(f"{told}; not tested: {_more_seeds(least, own.runs, design)}.")
    else:
        p = words.chance(min(1.0, rates.p * item.family.divisor))
        differ = "no difference is shown"
        if rates.p <= level:
            differ = "they differ"
        said.append(f"{told}; {differ} (exact test, p adjusted {p}).")
    return said


def _more_seeds(least: int, runs: int, design: SeedDesign) -> str:
    """Returns what an exact test of two collapse rates needs.

    Args:
        least: number of seeds below which it never finds a difference.
        runs: of each init.
        design: whether the inits share their seeds.
    """
    if design == "nested":
        return f"an exact test needs {least} seeds, and more where not all runs of one collapse"
    if runs < least:
        return f"an exact test needs {least} seeds"
    return f"an exact test needs {least} seeds at which one of the two alone collapses"
