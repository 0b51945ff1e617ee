"""Numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from initbench import spec
from initbench.errors import UsageError
from initbench.stats.blocks import PLACEBO
from initbench.stats.collapse import Collapses, RateTest, seeds_needed
from initbench.stats.compare import Difference
from initbench.stats.design import SeedDesign
from initbench.stats.families import Family
from initbench.stats.scale import DICE, DIFFERENCE, SD, Scale
from initbench.stats.standing import StandingDifference
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.table import Narrowed, ScoreTable
from initbench.stats.treatments import compared_with, treatment

_PLACEBO = "placebo"  # what tables call the init that `run` adds


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A number, – for none."""
    return "–" if math.isnan(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def label(init: str) -> str:
    """What people read as the name of a row: a placebo is told from the schemes."""
    own = treatment(init)
    if own.init == PLACEBO:
        return replace(own, init=_PLACEBO).name
    return f"placebo: {init}" if own.is_placebo else init


def listed(inits: Iterable[str]) -> str:
    """The inits that there are, as their rows are called."""
    return ", ".join(sorted(map(label, set(inits))))


def meant(text: str) -> str:
    """The row that somebody means: by what it is called, or by its name written otherwise, as without quotes.

    An init under a regimen is written as its row is called, `lwi + medcontext`.
    """
    own = treatment(text.strip())
    init = PLACEBO if own.init.strip() == _PLACEBO else _written(own.init)
    return replace(own, init=init, regimen=_written(own.regimen)).name


def placebos_of_regimens(names: Iterable[str], against: str | None) -> list[str]:
    """What a placebo is compared with, where that is another row than the one that the head of the column names."""
    if against is None:
        return []
    others = {compared_with(name, against) for name in names if name != against}
    others.discard(against)
    return [f"A placebo under a regimen is compared with default under the same regimen: {name}." for name in sorted(others)]


def _written(component: str) -> str:
    """A component as records write it; rows of two cells of one name are called `lwi #1a2b3c`, which is none."""
    try:
        return str(spec.parse(component))
    except UsageError:
        return component


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


def about_seeds(table: ScoreTable) -> list[str]:
    """What has to be known of the seeds of a block: which are compared, and whether their number was planned."""
    return [*narrowed(table.narrowed), *_planned(table), *_added(table)]


def seeds_chosen(tables: Sequence[ScoreTable]) -> str:
    """How the number of seeds came about, for machines; where several blocks stand in one row, the worst of it."""
    if any(_added(table) for table in tables):
        return "added without a plan"
    return "planned looks" if any(table.looks for table in tables) else "at once"


def _planned(table: ScoreTable) -> list[str]:
    """The looks that were planned, and what this one may spend."""
    if table.looks is None:
        return []
    looks = ", ".join(map(str, table.looks.seeds))
    said = f"Looks were planned at {looks} seeds before the first run"
    if table.between_looks:
        return [f"{said}; nothing is decided between two of them."]
    level = 100 * (1 - LEVEL) * table.share
    return [f"{said}. This one may spend {level:.2g} % of their 5 %, so verdicts and their intervals hold over all looks."]


def _added(table: ScoreTable) -> list[str]:
    """Seeds that were added later without a plan, perhaps because of the first results."""
    unplanned = table.looks is None or any(len(own) > table.looks.seeds[-1] for own in table.seeds)
    if not unplanned:
        return []
    return [
        f"Seeds were added without a plan: {_in_turn(steps)}. Who adds seeds until a verdict comes finds more than 5 % false "
        "ones: fix their number first (initbench plan), or plan the looks (run --until-decided)."
        for steps in table.asked
    ]


def _in_turn(steps: Sequence[tuple[str, Sequence[int]]]) -> str:
    return ", then ".join(f"{seeds(numbers)} ({when[:16]})" for when, numbers in steps)


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


def cases(table: ScoreTable) -> str:
    """What a block reports: `20 patients, 40 cases`; `8 cases` where each is a patient of its own."""
    reported = count(len(table.cases), "case")
    if not table.cases:
        return reported
    if table.patients is None:
        return f"{reported} (patients unknown)"
    if table.patient_count < len(table.cases):
        return f"{count(table.patient_count, 'patient')}, {reported}"
    return reported


def tested(item: Difference | None) -> dict[str, object]:
    """A difference with its p values for machines; NaN and empty where there is none."""
    nan = math.nan
    if item is None:
        names = ("difference", "difference_low", "difference_high", "p", "p_adjusted", "p_equivalence")
        return dict.fromkeys(names, nan) | {"verdict": "", "family": "", "family_size": nan, "reason": ""}
    return {
        "difference": item.estimate.value,
        "difference_low": item.estimate.low,
        "difference_high": item.estimate.high,
        "p": item.p,
        "p_adjusted": item.p_adjusted,
        "p_equivalence": item.p_equivalence,
        "verdict": item.says,
        "family": item.family.kind,
        "family_size": item.family.size,
        "reason": item.reason,
    }


def family(of: Family) -> str:
    """With what a difference is judged, as the end of a sentence."""
    if of.size == 1:
        return "by itself"
    crossed = " and the interactions" if of.interactions else ""
    if of.rates:
        crossed += f" and {count(of.rates, 'test')} of collapse rates"
    together = {
        "baseline": f"together with the other differences to default{crossed} ({of.size} in all)",
        "pairs": f"together with all other pairs of inits{crossed} ({of.size} in all)",
        "placebo": f"together with the other differences of the placebo to the inits{crossed} ({of.size} in all)",
        "claims": f"together with the other claims ({of.size} in all)",
    }
    return together[of.kind]


def share(chance: float) -> str:
    """A chance as a percentage, – for none."""
    return "–" if math.isnan(chance) else f"{100 * chance:.0f} %"


COLLAPSED = (
    "collapsed: runs that ended far below the others of their block, diverged ones (which score 0) among them; in brackets how "
    "often runs may collapse, at the most (95 %)."
)


def collapses(found: Collapses | None) -> dict[str, object]:
    """The collapsed runs of an init for machines; NaN where none is counted."""
    if found is None:
        return {"collapsed": math.nan, "collapsed_up_to": math.nan}
    return {"collapsed": found.count, "collapsed_up_to": found.bound}


def standing(found: StandingDifference | None, rates: RateTest | None) -> dict[str, object]:
    """The difference over the runs that stand, and the test of collapse rates, for machines; NaN where all runs stand."""
    nan = math.nan
    estimate = found.estimate if found else Interval(nan, nan, nan)
    return {
        "standing_difference": estimate.value,
        "standing_difference_low": estimate.low,
        "standing_difference_high": estimate.high,
        "standing_seeds": found.seeds if found else nan,
        "collapse_p": rates.p if rates else nan,
    }


def beside_collapses(item: Difference, found: StandingDifference | None, rates: RateTest | None, design: SeedDesign) -> list[str]:
    """What is said of two rows beside their difference, where some of their runs collapsed.

    Args:
        item: the difference, over all runs.
        found: the difference of the runs that stand; None where all do.
        rates: the test of the two collapse rates; None where no run collapsed.
        design: whether the rows share their seeds.
    """
    if found is None or rates is None or item.collapses is None:
        return []
    names = f"{label(item.first)} − {label(item.second)}"
    seeds_left = count(found.seeds, "seed")
    if math.isnan(found.estimate.value):
        said = [f"{names}: at no seed do both stand."]
    else:
        said = [f"{names} where both stand: {difference(found.estimate)}, over {seeds_left}; the verdict is over all runs."]
    own, other = item.collapses
    told = f"Collapse rates of {names}: {own.count}/{own.runs} and {other.count}/{other.runs}"
    level = (1 - LEVEL) / max(1, item.family.divisor)
    if not item.family.rates or rates.least > level:
        least = seeds_needed((1 - LEVEL) * item.family.share / (item.family.size + 1), design)
        said.append(f"{told}; not tested: {_more_seeds(least, own.runs, design)}.")
    else:
        p = chance(min(1.0, rates.p * item.family.divisor))
        differ = "they differ" if rates.p <= level else "no difference is shown"
        said.append(f"{told}; {differ} (exact test, p adjusted {p}).")
    return said


def _more_seeds(least: int, runs: int, design: SeedDesign) -> str:
    if design == "nested":
        return f"an exact test needs {least} seeds, and more where not all runs of one collapse"
    if runs < least:
        return f"an exact test needs {least} seeds"
    return f"an exact test needs {least} seeds at which one of the two alone collapses"


def place(rank: float, low: int, high: int) -> str:
    """A rank with the places that an init may have."""
    return f"{rank:g} [{low}, {high}]"


def interval(found: Interval, *, signed: bool = False, digits: int | None = None, scale: Scale | None = None) -> str:
    """A value with its bounds. Two decimals where they say something; one where a bound has two figures before the point.

    A bound that lies at an end of the `scale`, where it was cut, is marked with an asterisk.
    """
    if digits is None:
        digits = 1 if max(abs(found.low), abs(found.high)) >= 10 else 2
    value = number(found.value, digits, signed=signed)
    if math.isnan(found.low):
        return value
    # A difference that is told from 0 has no bound that reads as 0.
    while signed and digits < 4 and any(0 < abs(bound) < 0.5 / 10**digits for bound in (found.low, found.high)):
        digits += 1
    low, high = (number(bound, digits, signed=signed) for bound in (found.low, found.high))
    if scale is not None:
        low += "*" if found.low <= scale.low else ""
        high += "*" if found.high >= scale.high else ""
    return f"{value} [{low}, {high}]"


def dice(found: Interval) -> str:
    """A mean Dice with its interval."""
    return interval(found, digits=1, scale=DICE)


def sd(found: Interval) -> str:
    """An SD with its interval; of one whose whole interval is 0 it is said why."""
    if found.high == 0:
        return "0.00 (below its noise)"
    return interval(found, scale=SD)


def difference(found: Interval) -> str:
    """A difference with its interval."""
    return interval(found, signed=True, scale=DIFFERENCE)


def marked(texts: Iterable[str]) -> list[str]:
    """What an asterisk means, where there is one."""
    if not any("*" in text for text in texts):
        return []
    return ["*: cut here, as beyond it there can be no Dice (0 to 100), no difference of two (±100) and no SD (at most 50)."]


def duration(seconds: float) -> str:
    """A duration, – for none."""
    if math.isnan(seconds):
        return "–"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min" if seconds < 36000 else f"{seconds / 3600:.1f} h"


def chance(p: float) -> str:
    """A p value; a small one as a bound that no line break can cut, – for none."""
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "<0.001"
    # Four digits near 0.05, where three would not say on which side of it a p lies.
    return f"{p:.4f}" if 0.0495 <= p < 0.0505 else f"{p:.3f}"


def plain(value: object) -> object:
    """A value for JSON and CSV: null for NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
