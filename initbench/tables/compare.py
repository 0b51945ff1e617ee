"""Two inits side by side: what can be claimed of their difference, at each of the three scopes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from initbench.choices import MARGIN
from initbench.errors import UsageError
from initbench.stats.analysis import pair, rates, standing
from initbench.stats.compare import Difference
from initbench.stats.design import SCOPES, Refused, Scope
from initbench.stats.superiority import superiority
from initbench.stats.table import ScoreTable
from initbench.tables import collapses, words
from initbench.tables.mixtures import mixed
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs
from initbench.tables.study import Study
from initbench.tables.titles import columns, settings, title

_SCOPES: tuple[Scope, ...] = ("A", "B", "C")


def compare_sheets(study: Study, first: str, second: str, margin: float = MARGIN) -> list[Sheet]:
    """Returns a sheet for every block that has both inits.

    Args:
        study: the runs and their scores.
        first: an init, by the name of its row.
        second: the init that it is compared with.
        margin: Dice points within which two inits are equivalent.

    Raises:
        UsageError: no block has both inits, or the two are one init; the message names the inits of the study.
    """
    there = f"the inits of these runs: {words.listed(study.names)}"
    a, b = words.label(first), words.label(second)
    if first == second:
        raise UsageError(f"{a} is compared with itself: name another init, as in `initbench compare lwi default`; {there}")
    found = []
    for table in study.tables:
        if {first, second} <= set(table.names):
            found.append(_sheet(table, first, second, margin, study.of_cell))
    if not found:
        raise UsageError(f"no block has both {a} and {b}; {there}")
    return found


def _sheet(table: ScoreTable, first: str, second: str, margin: float, of_cell: Mapping[str, Runs]) -> Sheet:
    """Returns the difference of two inits in a block, a row for each scope."""
    differences = {scope: pair(table, first, second, scope=scope, margin=margin) for scope in _SCOPES}
    runs = {}
    for name, cell in zip(table.inits, table.cells, strict=True):
        if name in (first, second):
            runs[name] = of_cell[cell]
    rows, values = [], []
    for scope, item in differences.items():
        rows.append(_row(scope, item))
        values.append(_values(table, item))
    return Sheet(
        title=f"{words.label(first)} − {words.label(second)}: {title(table.block)}",
        subtitle=f"{settings(table.block)} · {words.shape(table)}",
        columns=("holds for", "difference [95 %]", "p alone", "p adjusted", f"p beyond ±{margin:g}", "verdict"),
        rows=tuple(rows),
        notes=(
            *_conditions(runs, second),
            *_notes(table, first, second, differences),
            *words.marked(rows),
            *words.about_seeds(table),
        ),
        values=tuple(values),
    )


def _conditions(runs: Mapping[str, Runs], control: str) -> list[str]:
    """Returns notes on weights from outside and on environments, which hold for all runs of an init.

    Args:
        runs: the runs of each init, summed up, by its name.
        control: the init with which the other is compared.
    """
    lines = []
    for name, found in runs.items():
        if found.external:
            label = words.label(name)
            lines.append(f"{label}: conditional on these weights, one draw for all seeds; another draw may do otherwise.")
    return lines + mixed({name: found.environments for name, found in runs.items()}, control)


def _row(scope: Scope, item: Difference) -> tuple[str, ...]:
    """Returns the difference under a scope as people read it."""
    return (
        SCOPES[scope],
        words.difference(item.estimate),
        words.chance(item.p),
        words.chance(item.p_adjusted),
        words.chance(item.p_equivalence),
        item.says,
    )


def _notes(table: ScoreTable, first: str, second: str, differences: dict[Scope, Difference]) -> tuple[str, ...]:
    """Returns what the numbers mean, and how often a run of one init beats one of the other."""
    notes = [f"Untestable: {reason}." for reason in words.reasons(differences.values())]
    answer = differences["A"]
    if first in table.inits and second in table.inits and not table.refused:
        found = superiority(table.runs(first), table.runs(second), table.design)
        if isinstance(found, Refused):
            notes.append(f"{found.reason[0].upper()}{found.reason[1:]}.")
        else:
            bounds = f"{100 * found.chance.low:.0f}–{100 * found.chance.high:.0f}"
            wins = f"{100 * found.chance.value:.0f} % of {found.pairs} pairs [{bounds} %]"
            notes.append(f"A run of {words.label(first)} beats one of {words.label(second)} in {wins}.")
        notes += collapses.beside(answer, standing(table, answer), rates(table, answer), table.design)
    if answer.collapses:
        own, other = answer.collapses
        notes.append(
            f"Collapsed runs: {words.label(first)} {own}, {words.label(second)} {other}; in brackets how often runs may collapse "
            "at the most (95 %)."
        )
    together = words.family(answer.family)
    notes.append(
        f"Differences in Dice points; the first line is the answer. Interval, p adjusted and verdict: judged {together}, as in "
        "every table. p alone: as if this were the only difference. p beyond: of a true difference outside the margin."
    )
    return tuple(notes)


def _collapses(table: ScoreTable, item: Difference) -> dict[str, object]:
    """Returns the collapsed runs of the two rows for machines; nothing where they are not known."""
    if item.collapses is None:
        return {}
    values: dict[str, object] = {}
    for name, found in zip(("first", "second"), item.collapses, strict=True):
        for key, value in collapses.counted(found).items():
            values[f"{name}_{key}"] = value
    return values | collapses.standing(standing(table, item), rates(table, item))


def _values(table: ScoreTable, item: Difference) -> dict[str, object]:
    """Returns a difference for machines."""
    seeds = math.nan
    if table.seeds:
        seeds = words.seed_count(table)
    return {
        **columns(table.block),
        "first": item.first,
        "second": item.second,
        "scope": item.scope,
        "holds_for": SCOPES[item.scope],
        **words.tested(item),
        **_collapses(table, item),
        **words.sizes(table, seeds),
    }
