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
from initbench.tables import words
from initbench.tables.mixtures import mixed
from initbench.tables.sheet import Sheet
from initbench.tables.standings import Runs
from initbench.tables.study import Study
from initbench.tables.titles import columns, settings, title

_COLUMNS = ("holds for", "difference [95 %]", "p alone", "p adjusted", "p beyond ±{margin:g}", "verdict")
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
    there = f"the inits of these runs: {words.listed(init for table in study.tables for init in table.names)}"
    a, b = words.label(first), words.label(second)
    if first == second:
        raise UsageError(f"{a} is compared with itself: name another init, as in `initbench compare lwi default`; {there}")
    found = [_sheet(table, first, second, margin, study.of_cell) for table in study.tables if {first, second} <= set(table.names)]
    if not found:
        raise UsageError(f"no block has both {a} and {b}; {there}")
    return found


def _sheet(table: ScoreTable, first: str, second: str, margin: float, of_cell: Mapping[str, Runs]) -> Sheet:
    differences = {scope: pair(table, first, second, scope=scope, margin=margin) for scope in _SCOPES}
    seeds = len(table.seeds[0]) if table.seeds else 0
    runs = {}
    for name, cell in zip(table.inits, table.cells, strict=True):
        if name in (first, second):
            runs[name] = of_cell[cell]
    rows = tuple(_row(scope, item) for scope, item in differences.items())
    return Sheet(
        title=f"{words.label(first)} − {words.label(second)}: {title(table.block)}",
        subtitle=f"{settings(table.block)} · {words.count(seeds, 'seed')} × {words.cases(table)}",
        columns=tuple(column.format(margin=margin) for column in _COLUMNS),
        rows=rows,
        notes=(
            *_conditions(runs, second),
            *_notes(table, first, second, differences),
            *words.marked(row[1] for row in rows),
            *words.about_seeds(table),
        ),
        values=tuple(_values(table, item) for item in differences.values()),
    )


def _conditions(runs: Mapping[str, Runs], control: str) -> list[str]:
    """What holds of the runs of an init as a whole.

    Args:
        runs: by the name of the init.
        control: the init with which the other is compared.
    """
    lines = []
    for name, found in runs.items():
        if found.external:
            label = words.label(name)
            lines.append(f"{label}: conditional on these weights, one draw for all seeds; another draw may do otherwise.")
    return lines + mixed({name: found.environments for name, found in runs.items()}, control)


def _row(scope: Scope, item: Difference) -> tuple[str, ...]:
    return (
        SCOPES[scope],
        words.difference(item.estimate),
        words.chance(item.p),
        words.chance(item.p_adjusted),
        words.chance(item.p_equivalence),
        item.says,
    )


def _notes(table: ScoreTable, first: str, second: str, differences: dict[Scope, Difference]) -> tuple[str, ...]:
    reasons = dict.fromkeys(item.reason for item in differences.values() if item.reason)
    notes = [f"Untestable: {reason}." for reason in reasons]
    answer = differences["A"]
    if first in table.inits and second in table.inits and not table.refused:
        found = superiority(table.runs(first), table.runs(second), table.design)
        if isinstance(found, Refused):
            notes.append(f"{found.reason[0].upper()}{found.reason[1:]}.")
        else:
            share = "–".join(f"{100 * bound:.0f}" for bound in (found.chance.low, found.chance.high))
            wins = f"{100 * found.chance.value:.0f} % of {found.pairs} pairs [{share} %]"
            notes.append(f"A run of {words.label(first)} beats one of {words.label(second)} in {wins}.")
        notes += words.beside_collapses(answer, standing(table, answer), rates(table, answer), table.design)
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
    """What machines are told of the collapsed runs of the two rows."""
    if item.collapses is None:
        return {}
    values: dict[str, object] = {}
    for name, found in zip(("first", "second"), item.collapses, strict=True):
        values |= {f"{name}_{key}": value for key, value in words.collapses(found).items()}
    return values | words.standing(standing(table, item), rates(table, item))


def _values(table: ScoreTable, item: Difference) -> dict[str, object]:
    return {
        **columns(table.block),
        "first": item.first,
        "second": item.second,
        "scope": item.scope,
        "holds_for": SCOPES[item.scope],
        **words.tested(item),
        **_collapses(table, item),
        "seeds": len(table.seeds[0]) if table.seeds else math.nan,
        "seeds_chosen": words.seeds_chosen([table]),
        "cases": len(table.cases),
        "patients": math.nan if table.patients is None else table.patient_count,
    }
