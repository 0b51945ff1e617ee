"""What a verdict hangs on: ``initbench compare A B --firm``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from initbench.choices import MARGIN, CountedOn, DicePolicy
from initbench.dice import POLICIES
from initbench.errors import InitbenchError
from initbench.stats.analysis import pair
from initbench.stats.assembly import score_tables
from initbench.stats.blocks import BLOCK
from initbench.stats.compare import Difference, Verdict
from initbench.stats.firm import SEEDS_TO_REMAKE, Kind, Variation, agreeing, vary, without_patients, without_seeds
from initbench.stats.table import ScoreTable
from initbench.tables import words
from initbench.tables.sheet import Sheet
from initbench.tables.study import Scoring, Study
from initbench.tables.titles import columns, settings, title

_OTHER_GRID: dict[CountedOn, CountedOn] = {"native": "resampled", "resampled": "native"}
_SAID: dict[Kind, str] = {
    "seed": "without seed",
    "patient": "without patient",
    "class": "without class",
    "policy": "policy",
    "grid": "grid",
    "protocol": "protocol",
}
_COLUMNS_OF_KINDS: dict[str, tuple[Kind, ...]] = {
    "without a seed": ("seed",),
    "without a patient": ("patient",),
    "without a class": ("class",),
    "other policies, protocols": ("policy", "grid", "protocol"),
}
Reread = Callable[[Scoring], Study]
"""Reads the same runs again, scored otherwise."""


@dataclass(frozen=True)
class Firmness:
    """The difference of two inits in a block, and what it becomes in other studies.

    Attributes:
        table: the scores of the block.
        whole: the difference.
        variations: of it; empty where the difference is not testable.
    """

    table: ScoreTable
    whole: Difference
    variations: tuple[Variation, ...]


def firm_sheets(found: Sequence[Firmness], margin: float = MARGIN) -> list[Sheet]:
    """Returns a sheet for every block.

    Args:
        found: as `firmness` gives it.
        margin: Dice points within which two inits are equivalent.
    """
    return [_sheet(of_block, margin) for of_block in found]


def firmness(study: Study, reread: Reread | None, first: str, second: str, margin: float = MARGIN) -> list[Firmness]:
    """Returns what the difference of two inits becomes in other studies, for every block that has both complete.

    Args:
        study: the runs and their scores.
        reread: reads the same runs again, scored otherwise; without it the other grid is left out.
        first: an init, by the name of its row.
        second: the init that it is compared with.
        margin: Dice points within which two inits are equivalent.
    """
    tables = []
    for table in study.tables:
        if {first, second} <= set(table.inits):
            tables.append(table)
    if not tables:
        return []
    others = list(_scored_otherwise(study, reread))
    found = []
    for table in tables:
        whole = pair(table, first, second, margin=margin)
        found.append(Firmness(table, whole, tuple(_variations(study, table, whole, others, margin))))
    return found


def firm_overviews(study: Study, against: str, margin: float = MARGIN) -> list[Sheet | None]:
    """Returns a sheet for every block of a study, with a row for each init; None where nothing is compared.

    Args:
        study: the runs and their scores.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
    """
    others = list(_scored_otherwise(study, None))
    made: list[Sheet | None] = []
    for table in study.tables:
        rows = []
        for init in table.schemes().inits:
            if against not in table.inits or init == against:
                continue
            whole = pair(table, init, against, margin=margin)
            found = list(_variations(study, table, whole, others, margin, is_remade=False))
            if found:
                rows.append(_overview_row(whole, found))
        if rows:
            made.append(_overview(table, rows, against))
        else:
            made.append(None)
    return made


def _overview_row(whole: Difference, found: Sequence[Variation]) -> tuple[str, ...]:
    """Returns for each kind of variation the range of the difference, and in how many of them the verdict stays."""
    cells = [words.label(whole.first), words.number(whole.estimate.value, 2, signed=True)]
    for kinds in _COLUMNS_OF_KINDS.values():
        own = []
        for item in found:
            if item.kind in kinds and not math.isnan(item.value):
                own.append(item)
        if own:
            values = [item.value for item in own]
            cells.append(f"{_range(values)}, verdict stays in {agreeing(own, whole)}/{len(own)}")
        else:
            cells.append("–")
    return tuple(cells)


def _range(points: Sequence[float]) -> str:
    """Returns the lowest and the highest of some differences in Dice points, as `-0.51 to +1.20`."""
    return f"{min(points):+.2f} to {max(points):+.2f}"


def _overview(table: ScoreTable, rows: Sequence[tuple[str, ...]], against: str) -> Sheet:
    """Returns the sheet of a block with a row for each init that is compared with `against`."""
    return Sheet(
        title=f"How firm: {title(table.block)}",
        subtitle=settings(table.block),
        columns=("initializer", f"vs {words.label(against)}", *_COLUMNS_OF_KINDS),
        rows=tuple(rows),
        notes=(
            "The difference in Dice points when a part of the study is left out or scored otherwise, from lowest to highest. The "
            "verdict is judged with the error of the whole study. `initbench compare A B --firm` has each by itself.",
        ),
        values=(),
    )


def _variations(
    study: Study,
    table: ScoreTable,
    whole: Difference,
    others: Sequence[tuple[Kind, str, Sequence[ScoreTable]]],
    margin: float,
    *,
    is_remade: bool = True,
) -> Iterator[Variation]:
    """Yields all variations of a difference; none of one that is not testable.

    Args:
        study: the runs and their scores.
        table: the scores of the block.
        whole: the difference.
        others: the same runs, scored otherwise.
        margin: Dice points within which two inits are equivalent.
        is_remade: whether verdicts are made again, which takes longer.
    """
    if whole.verdict == "untestable":
        return
    yield from without_seeds(whole, table, margin, is_remade=is_remade)
    yield from without_patients(whole, table, margin, is_remade=is_remade)
    for kind, name, tables in others:
        same = _same_block(tables, table.block, (whole.first, whole.second))
        if same is not None:
            yield vary(whole, kind, name, replace(same, looks=table.looks), margin, is_remade=is_remade)
    yield from _other_protocol(study, table, whole, margin)


def _scored_otherwise(study: Study, reread: Reread | None) -> Iterator[tuple[Kind, str, Sequence[ScoreTable]]]:
    """Yields the scores of the same runs without each class, under other policies, and on the other grid if counted there."""
    scoring = study.scoring
    classes: list[str] = []
    if not study.cases.empty:
        classes = sorted(map(str, study.cases["class_name"].unique()))
    if len(classes) > 1:
        for name in classes:
            rest = study.cases[study.cases["class_name"] != name]
            yield "class", name, _scored(study, rest, scoring.policy)
    for policy in POLICIES:
        if policy != scoring.policy:
            yield "policy", policy, _scored(study, study.cases, policy)
    if reread is None:
        return
    grid = _OTHER_GRID[scoring.grid]
    try:
        yield "grid", grid, reread(replace(scoring, grid=grid)).tables
    except InitbenchError:  # no run was counted on it
        return


def _scored(study: Study, cases: pd.DataFrame, policy: DicePolicy) -> list[ScoreTable]:
    """Returns the blocks of a study with these cases, under this policy."""
    return score_tables(study.runs, cases, policy=policy, shared=study.scoring.shared, patients=study.patients)


def _same_block(tables: Sequence[ScoreTable], block: dict[str, object], inits: Sequence[str]) -> ScoreTable | None:
    """Returns the same block as another reading of the runs has it; None where it lacks one of the inits."""
    for table in tables:
        if columns(table.block) == columns(block) and set(inits) <= set(table.inits) and table.cases:
            return table
    return None


def _other_protocol(study: Study, table: ScoreTable, whole: Difference, margin: float) -> Iterator[Variation]:
    """Yields the difference under another protocol, where both inits were run under it."""
    for other in study.tables:
        alike = all(str(other.block[key]) == str(table.block[key]) for key in BLOCK)
        is_other = other.block["protocol"] != table.block["protocol"]
        if alike and is_other and {whole.first, whole.second} <= set(other.inits):
            yield vary(whole, "protocol", str(other.block["protocol"]), other, margin)


def _sheet(found: Firmness, margin: float) -> Sheet:
    """Returns the sheet of a block: the whole study, then each variation, with the seed and the patient that shift it most."""
    whole = found.whole
    rows: list[tuple[str, ...]] = [("whole study", words.number(whole.estimate.value, 2, signed=True), "–", "–", whole.says, "–")]
    for kind in _SAID:
        own = [item for item in found.variations if item.kind == kind]
        if kind in ("seed", "patient") and own:
            rows.append(_summary(kind, own, whole))
            own = [max(own, key=lambda item: abs(item.shift))]
        for item in own:
            rows.append(_row(item, whole))
    notes = [
        "verdict, same error: with the difference of the row, and the error of the whole study. It says what the verdict hangs "
        "on and not what a smaller study would find. made again: with the row's own error.",
        "policy: what a class scores that the reference lacks. Each is another question about the same runs.",
    ]
    if words.seed_count(found.table) < SEEDS_TO_REMAKE:
        notes.append(
            f"Without a seed no verdict is made again below {SEEDS_TO_REMAKE} seeds: with three, a real effect keeps its verdict "
            "in less than a third of studies."
        )
    if not found.variations:
        notes = [f"Untestable: {whole.reason}."]
    return Sheet(
        title=f"{words.label(whole.first)} − {words.label(whole.second)}: how firm, {title(found.table.block)}",
        subtitle=f"{settings(found.table.block)} · {words.shape(found.table)} · margin {margin:g}",
        columns=("study", "difference", "shift", "sign", "verdict, same error", "made again"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(_values(found, item) for item in found.variations),
    )


def _summary(kind: Kind, found: Sequence[Variation], whole: Difference) -> tuple[str, ...]:
    """Returns one row for all seeds, or for all patients."""
    turned = remade = kept = 0
    for item in found:
        turned += item.changes_sign
        if item.remade is not None:
            remade += 1
            kept += item.remade == whole.verdict
    sign, again = "stays", "–"
    if turned:
        sign = f"turned in {turned}"
    if remade:
        again = f"{kept}/{remade} the same"
    return (
        f"{_SAID[kind]}, each of {len(found)}",
        _range([item.value for item in found]),
        _range([item.shift for item in found]),
        sign,
        f"{agreeing(found, whole)}/{len(found)} the same",
        again,
    )


def _told(says: Verdict | None, whole: Difference) -> str:
    """Returns the words for a verdict: `the same` where the whole study has it, else the verdict with its bound."""
    if says is None:
        return "–"
    if says == whole.verdict:
        return "the same"
    return replace(whole, verdict=says).says


def _row(item: Variation, whole: Difference) -> tuple[str, ...]:
    """Returns a variation as people read it."""
    sign = "stays"
    if math.isnan(item.value):
        sign = "–"
    elif item.changes_sign:
        sign = "turned"
    return (
        f"{_SAID[item.kind]} {item.name}",
        words.number(item.value, 2, signed=True),
        words.number(item.shift, 2, signed=True),
        sign,
        _told(item.says, whole),
        _told(item.remade, whole),
    )


def _values(found: Firmness, item: Variation) -> dict[str, object]:
    """Returns a variation for machines."""
    made_again = ""
    if item.remade is not None:
        made_again = replace(found.whole, verdict=item.remade).says
    return {
        **columns(found.table.block),
        "first": found.whole.first,
        "second": found.whole.second,
        "difference": found.whole.estimate.value,
        "verdict": found.whole.says,
        "variation": item.kind,
        "name": item.name,
        "difference_varied": item.value,
        "shift": item.shift,
        "changes_sign": item.changes_sign,
        "verdict_same_error": replace(found.whole, verdict=item.says).says,
        "verdict_made_again": made_again,
    }
