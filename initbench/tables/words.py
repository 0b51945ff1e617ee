"""Numbers as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from initbench import spec
from initbench.errors import UsageError
from initbench.stats.blocks import PLACEBO
from initbench.stats.compare import Difference
from initbench.stats.families import Family
from initbench.stats.scale import DICE, DIFFERENCE, SD, Scale
from initbench.stats.summary import LEVEL, Interval
from initbench.stats.table import Narrowed, ScoreTable
from initbench.stats.treatments import compared_with, treatment

_PLACEBO = "placebo"  # what tables call the init that `run` adds
_DIGEST = re.compile(r"(?<=\w)@[0-9a-f]{8}(?=\(|$)")  # of the file that an init is from, behind its name


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Returns a number as people read it, – for NaN.

    Args:
        value: the number.
        digits: how many stand behind the point.
        signed: whether a positive number gets a plus sign.
    """
    if math.isnan(value):
        return "–"
    if signed:
        return f"{value:+.{digits}f}"
    return f"{value:.{digits}f}"


def form(number: int, one: str, several: str) -> str:
    """Returns the form of a word that goes with a number of things: `one` with 1, else `several`."""
    if number == 1:
        return one
    return several


def label(init: str) -> str:
    """Returns what people read as the name of a row; it says which rows are placebos.

    Args:
        init: the name of the row, as tables for machines have it.
    """
    own = treatment(init)
    if own.init == PLACEBO:
        return replace(own, init=_PLACEBO).name
    if own.is_placebo:
        return f"placebo: {init}"
    return init


def listed(inits: Iterable[str]) -> str:
    """Returns the labels of inits in one line, each once, in the order of the alphabet."""
    return ", ".join(sorted(map(label, set(inits))))


def meant(text: str, names: Iterable[str] = ()) -> str:
    """Returns the name of the row that somebody means by its label, or by its name in another spelling, as without quotes.

    An init under a regimen is written as its row is called, `lwi + medcontext`. An init from a file may be written as it was
    for `run`, with the folder of the file and without the digest behind the name, where the file is the only one of its name.

    Args:
        text: as somebody writes it.
        names: the rows that there are.
    """
    own = treatment(text.strip())
    init = PLACEBO
    if own.init.strip() != _PLACEBO:
        init = _written(own.init)
    inits = {treatment(name).init for name in names}
    if init not in inits:
        init = _only_one_from(init, inits)
    return replace(own, init=init, regimen=_written(own.regimen)).name


def _only_one_from(written: str, inits: Iterable[str]) -> str:
    """Returns the only init that is from a file and is written so, but for its digest; what was written where there is none.

    Args:
        written: an init as it was given to `run`: `folder/mine.py:damped(factor=0.3)`.
        inits: names of rows: `mine.py:damped@a0d1221a(factor=0.3)`.
    """
    function, parenthesis, parameters = written.partition("(")
    wanted = f"{PurePath(function).name}{parenthesis}{parameters}"
    found = []
    for init in inits:
        if _DIGEST.search(init) and _DIGEST.sub("", init, count=1) == wanted:
            found.append(init)
    if len(found) == 1:
        return found[0]
    return written


def placebos_of_regimens(names: Iterable[str], against: str | None) -> list[str]:
    """Returns a note for each row, other than `against`, with which a placebo of the table is compared.

    Args:
        names: the rows of the table.
        against: the row with which the column of differences compares the others; None where it compares none.
    """
    if against is None:
        return []
    others = set()
    for name in names:
        if name != against:
            others.add(compared_with(name, against))
    others.discard(against)
    return [f"A placebo under a regimen is compared with default under the same regimen: {name}." for name in sorted(others)]


def _written(component: str) -> str:
    """Returns a component as records write it; a row called `lwi #1a2b3c`, one of two cells of one name, as it is."""
    try:
        return str(spec.parse(component))
    except UsageError:
        return component


def narrowed(found: Narrowed | None) -> list[str]:
    """Returns what a reader has to know where only the seeds were asked for that all inits share; nothing where all were."""
    if found is None:
        return []
    if not found.seeds:
        return ["No seed has a score of every init: --shared-seeds changes nothing here."]
    if not found.diverged:
        return []
    outside = []
    for init, seed in found.diverged:
        outside.append(f"{label(init)} (seed {seed})")
    runs = f"{count(len(outside), 'diverged run')} {form(len(outside), 'lies', 'lie')}"
    return [f"{runs} outside the shared seeds, where nothing is counted: {', '.join(outside)}."]


def about_seeds(table: ScoreTable) -> list[str]:
    """Returns notes about the seeds of a block: which are compared, and whether somebody planned their number."""
    return [*narrowed(table.narrowed), *_planned(table), *_added(table)]


def seeds_chosen(tables: Sequence[ScoreTable]) -> str:
    """Returns for machines how the number of seeds came about.

    Args:
        tables: the blocks that one row is of; of several the one counts in which seeds came about in the least sound way.
    """
    found = "at once"
    for table in tables:
        if _added(table):
            return "added without a plan"
        if table.looks is not None:
            found = "planned looks"
    return found


def _planned(table: ScoreTable) -> list[str]:
    """Returns a note that names the planned looks, and what this one may spend; nothing where none was planned."""
    if table.looks is None:
        return []
    looks = ", ".join(map(str, table.looks.seeds))
    said = f"Looks were planned at {looks} seeds before the first run"
    if table.between_looks:
        return [f"{said}; nothing is decided between two of them."]
    level = 100 * (1 - LEVEL) * table.share
    return [f"{said}. This one may spend {level:.2g} % of their 5 %, so verdicts and their intervals hold over all looks."]


def _added(table: ScoreTable) -> list[str]:
    """Returns a note for each history of seeds that somebody added without a plan, perhaps because of the first results."""
    if table.looks is not None and max(map(len, table.seeds), default=0) <= table.looks.seeds[-1]:
        return []
    notes = []
    for steps in table.asked:
        times = []
        for when, numbers in steps:
            times.append(f"{seeds(numbers)} ({when[:16]})")
        notes.append(
            f"Seeds were added without a plan: {', then '.join(times)}. Who adds seeds until a verdict comes finds more than 5 % "
            "false ones: fix their number first (initbench plan), or plan the looks (run --until-decided)."
        )
    return notes


def count(number: int, what: str) -> str:
    """Returns a number with the name of its things, as `1 seed` or `3 seeds`.

    Args:
        number: of things.
        what: the name of one.
    """
    return f"{number} {form(number, what, f'{what}s')}"


def seeds(numbers: Sequence[int]) -> str:
    """Returns sorted numbers with a dash for those that follow each other, as `0–4, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    said = []
    for run in runs:
        if len(run) == 1:
            said.append(f"{run[0]}")
        else:
            said.append(f"{run[0]}–{run[-1]}")
    return ", ".join(said)


def seed_count(table: ScoreTable) -> int:
    """Returns how many seeds each init of a block has; 0 where no init is complete."""
    if not table.seeds:
        return 0
    return len(table.seeds[0])


def shape(table: ScoreTable) -> str:
    """Returns how much a block compares, as `3 seeds × 20 patients, 40 cases`."""
    return f"{count(seed_count(table), 'seed')} × {cases(table)}"


def sizes(table: ScoreTable, number: float) -> dict[str, object]:
    """Returns for machines how much a row rests on.

    Args:
        table: the scores of the block.
        number: of seeds of the row; NaN where no init is complete.
    """
    patients: float = math.nan
    if table.patients is not None:
        patients = table.patient_count
    return {"seeds": number, "seeds_chosen": seeds_chosen([table]), "cases": len(table.cases), "patients": patients}


def cases(table: ScoreTable) -> str:
    """Returns what a block reports: `20 patients, 40 cases`; `8 cases` where each is a patient of its own."""
    reported = count(len(table.cases), "case")
    if not table.cases:
        return reported
    if table.patients is None:
        return f"{reported} (patients unknown)"
    if table.patient_count < len(table.cases):
        return f"{count(table.patient_count, 'patient')}, {reported}"
    return reported


def interval_values(name: str, found: Interval) -> dict[str, object]:
    """Returns a value with its bounds for machines: under its name, and under the name with `_low` and `_high`."""
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def tested(item: Difference | None) -> dict[str, object]:
    """Returns a difference with its p values for machines; NaN and empty texts where the row is compared with nothing."""
    nan = math.nan
    if item is None:
        names = ("difference", "difference_low", "difference_high", "p", "p_adjusted", "p_equivalence")
        return dict.fromkeys(names, nan) | {"verdict": "", "family": "", "family_size": nan, "reason": ""}
    return {
        **interval_values("difference", item.estimate),
        "p": item.p,
        "p_adjusted": item.p_adjusted,
        "p_equivalence": item.p_equivalence,
        "verdict": item.says,
        "family": item.family.kind,
        "family_size": item.family.size,
        "reason": item.reason,
    }


def compared(item: Difference | None) -> tuple[str, str]:
    """Returns the cells of a difference: the estimate with its interval, and the verdict; – for both where there is none."""
    if item is None:
        return "–", "–"
    return difference(item.estimate), item.says


def reasons(differences: Iterable[Difference | None]) -> list[str]:
    """Returns why differences are untestable: each reason once, in the order of the differences."""
    found: dict[str, None] = {}
    for item in differences:
        if item is not None and item.reason:
            found[item.reason] = None
    return list(found)


def family(of: Family) -> str:
    """Returns the end of a sentence that says with which others a difference is judged."""
    if of.size == 1:
        return "by itself"
    crossed = ""
    if of.interactions:
        crossed = " and the interactions"
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
    """Returns a share or a chance, from 0 to 1, in percent; – for NaN."""
    if math.isnan(chance):
        return "–"
    return f"{100 * chance:.0f} %"


def place(rank: float, low: int, high: int) -> str:
    """Returns a rank with the places that an init may have.

    Args:
        rank: by Dice, from 1; inits that tie share the mean of their places.
        low: the best place.
        high: the worst place.
    """
    return f"{rank:g} [{low}, {high}]"


def interval(found: Interval, *, signed: bool = False, digits: int | None = None, scale: Scale | None = None) -> str:
    """Returns a value with its bounds, if it has some.

    Args:
        found: the value and its bounds.
        signed: whether positive numbers get a plus sign.
        digits: how many stand behind the point; by default two, but one where a bound has two figures before the point.
        scale: marks a bound that lies at an end of the scale, where it was cut, with an asterisk.
    """
    if digits is None:
        digits = 2
        if max(abs(found.low), abs(found.high)) >= 10:
            digits = 1
    value = number(found.value, digits, signed=signed)
    if math.isnan(found.low):
        return value
    # A difference that is told from 0 has no bound that reads as 0.
    while signed and digits < 4 and (_reads_as_0(found.low, digits) or _reads_as_0(found.high, digits)):
        digits += 1
    low = number(found.low, digits, signed=signed)
    high = number(found.high, digits, signed=signed)
    if scale is not None and found.low <= scale.low:
        low += "*"
    if scale is not None and found.high >= scale.high:
        high += "*"
    return f"{value} [{low}, {high}]"


def _reads_as_0(bound: float, digits: int) -> bool:
    """Whether a bound that is not 0 is written as 0 with so few digits behind the point."""
    half: float = 0.5 / 10**digits
    return 0 < abs(bound) < half


def dice(found: Interval) -> str:
    """Returns a mean Dice, in points, with its interval."""
    return interval(found, digits=1, scale=DICE)


def sd(found: Interval) -> str:
    """Returns an SD, in Dice points, with its interval; one whose whole interval is 0 says why."""
    if found.high == 0:
        return "0.00 (below its noise)"
    return interval(found, scale=SD)


def difference(found: Interval) -> str:
    """Returns a difference, in Dice points, with its interval."""
    return interval(found, signed=True, scale=DIFFERENCE)


def marked(rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns a note that explains the asterisk, if a cell of the rows has one."""
    for row in rows:
        if "*" in "".join(row):
            return [
                "*: cut here, as beyond it there can be no Dice (0 to 100), no difference of two (±100) and no SD (at most 50)."
            ]
    return []


def measured_time(seconds: float) -> str:
    """Returns a measured duration with up to three digits, so that two of a table can be compared; – for NaN."""
    if math.isnan(seconds):
        return "–"
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 36000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def chance(p: float) -> str:
    """Returns a p value, a small one as a bound that no line break can cut; – for NaN."""
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "<0.001"
    if 0.0495 <= p < 0.0505:  # three digits would not say on which side of 0.05 it lies
        return f"{p:.4f}"
    return f"{p:.3f}"


def plain(value: object) -> object:
    """Returns a value for JSON and CSV: None for NaN and infinities, anything else as it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
