"""Blocks pooled: one table over the data sets of a backbone, over the backbones of a data set, or over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from initbench.choices import BASELINE, MARGIN, Grouping
from initbench.stats.blocks import is_placebo, part
from initbench.stats.design import Refused
from initbench.stats.pooled import CLAIM, Pooled, PooledInit, pool
from initbench.stats.summary import LEVEL
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import have_regimens
from initbench.tables import collapses, words
from initbench.tables.interactions import interaction_sheet
from initbench.tables.leaderboard import check_control
from initbench.tables.sheet import Sheet, all_rows
from initbench.tables.study import Study
from initbench.tables.titles import named, titles, variant

_ALWAYS = ("size", "budget", "protocol", "precision", "fixed_streams")
_KEYS: dict[Grouping, tuple[str, ...]] = {
    "backbone": ("backbone", "variant", *_ALWAYS),
    "dataset": ("dataset", "split", *_ALWAYS),
    "all": _ALWAYS,
}


def pooled_sheets(study: Study, by: Grouping, against: str = BASELINE, margin: float = MARGIN, *, least: int = 1) -> list[Sheet]:
    """Returns a sheet for every group of blocks that share their settings.

    Args:
        study: the runs and their scores.
        by: whether the blocks of a group also share the backbone, the data set, or neither.
        against: the init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
        least: number of blocks below which a group has no sheet.
    """
    check_control(study, against)
    made = []
    for tables in grouped(study.tables, by):
        if len(tables) >= least:
            made += _sheets(tables, by, against, margin)
    if made:
        made[-1] = replace(made[-1], notes=(*made[-1].notes, *words.marked(all_rows(made))))
    return made


def grouped(tables: Sequence[ScoreTable], by: Grouping) -> list[list[ScoreTable]]:
    """Returns the groups of blocks that may stand in one table: they share settings, fold and number of training cases."""
    groups: dict[tuple[str, ...], list[ScoreTable]] = {}
    for table in tables:
        shared = tuple(map(str, settings(table.block, by).values()))
        groups.setdefault(shared, []).append(table)
    return list(groups.values())


def _sheets(tables: Sequence[ScoreTable], by: Grouping, against: str, margin: float) -> list[Sheet]:
    """Returns the table of a group of blocks, and below it its interactions where it has some."""
    block = tables[0].block
    found = pool(tables, against, margin)
    name, subtitle = _title(block, by), extent(tables, by)
    if isinstance(found, Refused):
        return [Sheet(name, subtitle, ("initializer",), (), (f"Not pooled: {found.reason}.",), ())]
    columns = ["initializer", "Dice"]
    if found.against is not None:
        columns += [f"vs {words.label(found.against)} [95 %]", "verdict"]
    rows, values = [], []
    for row in found.inits:
        rows.append(_row(row, found))
        values.append(_values(row, found, block, by) | {"seeds_chosen": words.seeds_chosen(tables)})
    pooled = Sheet(
        title=name,
        subtitle=subtitle,
        columns=(*columns, "mean rank", "first in", "collapsed"),
        rows=tuple(rows),
        notes=(*_notes(found), *narrowed(tables)),
        values=tuple(values),
    )
    if not found.interactions:
        return [pooled]
    return [pooled, interaction_sheet(name, subtitle, found.interactions, CLAIM, _group(found, block, by))]


def _title(block: Mapping[str, Any], by: Grouping) -> str:
    """Returns what a group is called: what its blocks share beside their settings."""
    if by == "backbone":
        return variant(block)
    if by == "dataset":
        return str(block["dataset"])
    return "All blocks"


def extent(tables: Sequence[ScoreTable], by: Grouping = "all") -> str:
    """Returns in one line what the blocks of a group share, and their titles.

    Args:
        tables: the blocks.
        by: what they share beside their settings.
    """
    block = tables[0].block
    shared = [f"{block['size']} size", f"{block['budget']} budget"]
    if block["protocol"] != "any":
        shared.append(str(block["protocol"]))
    shared.append(str(block["precision"]))
    if by == "dataset":
        shared.append(f"split {block['split']}")
    elif part(str(block["split"])):
        shared.append(part(str(block["split"])))
    if block["fixed_streams"]:
        shared.append(f"seeds share {block['fixed_streams']}")
    names = titles([table.block for table in tables])
    return f"{' · '.join(shared)} · {words.count(len(tables), 'block')}: {', '.join(names)}"


def settings(block: Mapping[str, Any], by: Grouping = "all") -> dict[str, Any]:
    """Returns for machines what the blocks of a group share.

    Args:
        block: one of them.
        by: what they share beside their settings; under every `by` also the fold and the number of training cases, as `part`.
    """
    return {**{key: block[key] for key in _KEYS[by]}, "part": part(str(block["split"]))}


def narrowed(tables: Sequence[ScoreTable]) -> list[str]:
    """Returns the notes about the seeds of each block of a table, behind the name of the block."""
    notes = []
    for name, table in zip(titles([table.block for table in tables]), tables, strict=True):
        for note in words.about_seeds(table):
            notes.append(f"{name}: {note}")
    return notes


def _row(row: PooledInit, found: Pooled) -> tuple[str, ...]:
    """Returns the row of an init as people read it."""
    cells = [words.label(row.init), words.number(row.mean, 1)]
    if found.against is not None:
        cells += words.compared(row.difference)
    rank = won = "–"
    if row.rank is not None:
        rank = f"{row.rank:.1f}"
    if row.won is not None:
        won = f"{row.won}/{found.blocks}"
    return (*cells, rank, won, str(row.collapses))


def _notes(found: Pooled) -> tuple[str, ...]:
    """Returns what the columns mean, and what is not in the table and why."""
    notes = []
    for reason in words.reasons(row.difference for row in found.inits):
        if found.against in found.left_out:
            notes.append(f"Nothing is compared: {reason}.")
        else:
            notes.append(f"Untestable: {reason}.")
    for init, block in found.left_out.items():
        notes.append(f"Left out: {words.label(init)} is not complete in {block}.")
    if found.against is not None:
        notes.append(
            f"Differences to {words.label(found.against)} in Dice points, averaged over backbones, then over data sets, for "
            f"{CLAIM}.{_judged(found)} {collapses.LEGEND}"
        )
    notes += words.placebos_of_regimens([row.init for row in found.inits], found.against)
    test = found.friedman
    if isinstance(test, Refused):
        notes.append(f"Other data sets: {test.reason}.")
    else:
        told = "no difference in rank is shown"
        if test.p <= 1 - LEVEL:
            told = "the inits differ in rank"
        p = f"Friedman's test in Iman and Davenport's form, p {words.chance(test.p)}"
        notes.append(f"Other data sets: over {len(test.datasets)} of them {told} ({p}).")
    return tuple(notes)


def _judged(found: Pooled) -> str:
    """Returns a sentence that says with which others each difference is judged; an empty text where nothing is compared."""
    families, placebo = set(), ""
    for row in found.inits:
        if row.difference is None:
            continue
        if is_placebo(row.init):
            placebo = ", the placebo by itself"
        else:
            families.add(words.family(row.difference.family))
    if not families:
        return ""
    return f" Intervals and verdicts: judged {' or '.join(sorted(families))}{placebo}."


def _group(found: Pooled, block: Mapping[str, Any], by: Grouping) -> dict[str, object]:
    """Returns for machines what the rows of a group share."""
    return {**settings(block, by), "blocks": found.blocks, "datasets": " ".join(found.datasets)}


def _values(row: PooledInit, found: Pooled, block: Mapping[str, Any], by: Grouping) -> dict[str, object]:
    """Returns the row of an init for machines."""
    names = [other.init for other in found.inits]
    against: dict[str, object] = {}
    if have_regimens(names):  # a placebo is compared with another row than the others are
        against["against"] = ""
        if row.difference is not None:
            against["against"] = row.difference.second
    return {
        **_group(found, block, by),
        **named(row.init, names),
        **against,
        "dice": row.mean,
        **words.tested(row.difference),
        "mean_rank": row.rank,
        "first_in": row.won,
        "diverged": row.diverged,
        **collapses.counted(row.collapses),
        "runs": row.collapses.runs,
    }
