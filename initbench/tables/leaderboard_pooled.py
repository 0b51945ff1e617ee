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
from initbench.tables import words
from initbench.tables.interactions import interaction_sheet
from initbench.tables.leaderboard import check_control
from initbench.tables.sheet import Sheet
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
        marks = words.marked(cell for each in made for row in each.rows for cell in row)
        made[-1] = replace(made[-1], notes=(*made[-1].notes, *marks))
    return made


def grouped(tables: Sequence[ScoreTable], by: Grouping) -> list[list[ScoreTable]]:
    """The blocks that may stand in one table: they share their settings, fold and number of training cases."""
    groups: dict[tuple[str, ...], list[ScoreTable]] = {}
    for table in tables:
        key = (*(str(table.block[key]) for key in _KEYS[by]), part(str(table.block["split"])))
        groups.setdefault(key, []).append(table)
    return list(groups.values())


def _sheets(tables: Sequence[ScoreTable], by: Grouping, against: str, margin: float) -> list[Sheet]:
    """The table of a group of blocks, and below it its interactions where it has some."""
    block = tables[0].block
    found = pool(tables, against, margin)
    name, subtitle = _title(block, by), extent(tables, by)
    if isinstance(found, Refused):
        return [Sheet(name, subtitle, ("initializer",), (), (f"Not pooled: {found.reason}.",), ())]
    compared = (f"vs {words.label(found.against)} [95 %]", "verdict") if found.against else ()
    rows = Sheet(
        title=name,
        subtitle=subtitle,
        columns=("initializer", "Dice", *compared, "mean rank", "first in", "collapsed"),
        rows=tuple(_row(row, found) for row in found.inits),
        notes=(*_notes(found), *narrowed(tables)),
        values=tuple(_values(row, found, block, by) | {"seeds_chosen": words.seeds_chosen(tables)} for row in found.inits),
    )
    if not found.interactions:
        return [rows]
    return [rows, interaction_sheet(name, subtitle, found.interactions, CLAIM, _group(found, block, by))]


def _title(block: Mapping[str, Any], by: Grouping) -> str:
    return {"backbone": variant(block), "dataset": str(block["dataset"]), "all": "All blocks"}[by]


def extent(tables: Sequence[ScoreTable], by: Grouping = "all") -> str:
    """What the blocks of a group share, and their names."""
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
    """What the blocks of a group share, for machines; `part` is the fold and the number of training cases, if there are some."""
    return {**{key: block[key] for key in _KEYS[by]}, "part": part(str(block["split"]))}


def narrowed(tables: Sequence[ScoreTable]) -> list[str]:
    """What came of it that only shared seeds were asked for, where several blocks stand in one table."""
    names = titles([table.block for table in tables])
    return [f"{name}: {note}" for name, table in zip(names, tables, strict=True) for note in words.about_seeds(table)]


def _row(row: PooledInit, found: Pooled) -> tuple[str, ...]:
    item = row.difference
    compared = (words.difference(item.estimate), item.says) if item else ("–", "–")
    return (
        words.label(row.init),
        words.number(row.mean, 1),
        *(compared if found.against else ()),
        "–" if row.rank is None else f"{row.rank:.1f}",
        "–" if row.won is None else f"{row.won}/{found.blocks}",
        str(row.collapses),
    )


def _notes(found: Pooled) -> tuple[str, ...]:
    reasons = dict.fromkeys(row.difference.reason for row in found.inits if row.difference and row.difference.reason)
    whole = found.against in found.left_out
    notes = [f"Nothing is compared: {reason}." if whole else f"Untestable: {reason}." for reason in reasons]
    for init, block in found.left_out.items():
        notes.append(f"Left out: {words.label(init)} is not complete in {block}.")
    if found.against:
        notes.append(
            f"Differences to {words.label(found.against)} in Dice points, averaged over backbones, then over data sets, for "
            f"{CLAIM}.{_judged(found)} {words.COLLAPSED}"
        )
    notes += words.placebos_of_regimens((row.init for row in found.inits), found.against)
    test = found.friedman
    if isinstance(test, Refused):
        notes.append(f"Other data sets: {test.reason}.")
    else:
        told = "the inits differ in rank" if test.p <= 1 - LEVEL else "no difference in rank is shown"
        p = f"Friedman's test in Iman and Davenport's form, p {words.chance(test.p)}"
        notes.append(f"Other data sets: over {len(test.datasets)} of them {told} ({p}).")
    return tuple(notes)


def _judged(found: Pooled) -> str:
    """With what each difference is judged."""
    sizes = {row.difference.family for row in found.inits if row.difference and not is_placebo(row.init)}
    said = " or ".join(sorted({words.family(of) for of in sizes}))
    if not said:
        return ""
    placebo = ", the placebo by itself" if any(is_placebo(row.init) and row.difference for row in found.inits) else ""
    return f" Intervals and verdicts: judged {said}{placebo}."


def _group(found: Pooled, block: Mapping[str, Any], by: Grouping) -> dict[str, object]:
    """What the rows of a group share, for machines."""
    return {**settings(block, by), "blocks": found.blocks, "datasets": " ".join(found.datasets)}


def _values(row: PooledInit, found: Pooled, block: Mapping[str, Any], by: Grouping) -> dict[str, object]:
    names = [other.init for other in found.inits]
    against: dict[str, object] = {}
    if have_regimens(names):  # a placebo is compared with another row than the others are
        against = {"against": row.difference.second if row.difference else ""}
    return {
        **_group(found, block, by),
        **named(row.init, names),
        **against,
        "dice": row.mean,
        **words.tested(row.difference),
        "mean_rank": row.rank,
        "first_in": row.won,
        "diverged": row.diverged,
        **words.collapses(row.collapses),
        "runs": row.collapses.runs,
    }
