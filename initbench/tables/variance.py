"""Where the spread of Dice comes from: variance components of a block, and the seed SDs of inits over blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initbench.choices import BASELINE
from initbench.errors import UsageError
from initbench.stats.analysis import Analysis, analyse
from initbench.stats.components import Component, Components
from initbench.stats.design import Array, Refused
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import compared_with, have_regimens
from initbench.stats.variances import PooledRatio, pooled_ratio
from initbench.tables import leaderboard, leaderboard_pooled, words
from initbench.tables.sheet import Sheet
from initbench.tables.titles import columns, named, settings, title, titles

SOURCES = {
    "init": "init",
    "seed": "seed, all inits",
    "seed_init": "seed × init",
    "case": "case",
    "init_case": "init × case",
    "seed_case": "seed × case",
    "residual": "residual",
}


def variance_sheets(tables: Sequence[ScoreTable]) -> list[Sheet]:
    """The components of every block."""
    return [_sheet(table) for table in tables]


def _sheet(table: ScoreTable) -> Sheet:
    inits, seeds = len(table.schemes().inits), len(table.seeds[0]) if table.seeds else 0
    compared = words.count(inits, "row" if have_regimens(table.inits) else "init")
    shape = f"{compared} × {words.count(seeds, 'seed')} × {words.cases(table)}"
    subtitle = f"{settings(table.block)} · {shape}"
    analysis = analyse(table)
    found = analysis.components if isinstance(analysis, Analysis) else analysis
    notes = words.about_seeds(table)
    if isinstance(found, Refused):
        return Sheet(title(table.block), subtitle, ("source",), (), (f"No components: {found.reason}.", *notes), ())
    parts = parts_of(found)
    whole = sum(part.value for part in parts.values())
    left = found.left_in_mean()
    rows = tuple((SOURCES[name], words.sd(part.sd), _share(part, whole), words.sd(left[name])) for name, part in parts.items())
    return Sheet(
        title=title(table.block),
        subtitle=subtitle,
        columns=("source", "SD of one case [95 %]", "share", "SD left in a mean [95 %]"),
        rows=rows,
        notes=(
            leaderboard.headline(table, analysis),
            *_notes(found, table),
            *words.marked(cell for row in rows for cell in row),
            *notes,
        ),
        values=tuple(_values(table, found, name, part, whole) for name, part in parts.items()),
    )


def parts_of(found: Components) -> dict[str, Component]:
    """The components that a design has, in the order of `SOURCES`."""
    parts = {name: getattr(found, name) for name in SOURCES}
    return {name: part for name, part in parts.items() if part is not None}


def _share(part: Component, whole: float) -> str:
    return f"{100 * part.value / whole:.1f} %" if whole > 0 else "–"


def _notes(found: Components, table: ScoreTable) -> tuple[str, ...]:
    unit = "patient" if table.patient_count < len(table.cases) else "case"
    return (
        "SD of one case: what each source adds to the Dice of one case in one run, in points; estimates below 0 are shown as 0. "
        f"SD left in a mean: what is left of it in the mean of an init over {words.count(found.seeds, 'seed')} and "
        f"{words.count(found.cases, unit)}, which the table of the leaderboard shows.",
        found.pairing[0].upper() + found.pairing[1:] + ".",
        *_of_rows(table),
    )


def _of_rows(table: ScoreTable) -> list[str]:
    """What is called an init here, where a block has regimens."""
    if not have_regimens(table.inits):
        return []
    return ["init: here the row, an init under a regimen; what either of the two adds is not told apart."]


def _values(table: ScoreTable, found: Components, name: str, part: Component, whole: float) -> dict[str, object]:
    left = found.left_in_mean()[name]
    return {
        **columns(table.block),
        "source": name,
        "sd": part.sd.value,
        "sd_low": part.sd.low,
        "sd_high": part.sd.high,
        "variance": part.raw,
        "share": part.value / whole if whole > 0 else math.nan,
        "sd_left": left.value,
        "sd_left_low": left.low,
        "sd_left_high": left.high,
        "seeds_chosen": words.seeds_chosen([table]),
        **leaderboard.spread_values(found),
    }


def across(tables: Sequence[ScoreTable], against: str = BASELINE) -> list[Sheet]:
    """Seed SD of every init over that of `against`, pooled over the blocks that have both.

    A sheet for every group of blocks that may be pooled: under another protocol the control's runs are the same ones again, and
    folds share training cases.

    Raises:
        UsageError: no block has `against`.
    """
    if not any(against in table.inits for table in tables):
        raise UsageError(
            f"no block has a complete {words.label(against)}, with which the others would be compared; run its missing seeds, or "
            "name another init with --against"
        )
    return [_across(group, against) for group in leaderboard_pooled.grouped(tables, "all")]


def _across(tables: Sequence[ScoreTable], against: str) -> Sheet:
    having = [table for table in tables if not _why_out(table, against)]
    inits = sorted({init for table in having for init in table.inits if init != against})
    pairs = {init: _runs(having, init, compared_with(init, against)) for init in inits}
    found = {init: pooled_ratio(runs, len(inits)) for init, runs in pairs.items()}
    reasons = dict.fromkeys(ratio.reason for ratio in found.values() if isinstance(ratio, Refused))
    blocks = {init: len(runs) for init, runs in pairs.items()}
    blocks_named = zip(titles([table.block for table in tables]), tables, strict=True)
    left_out = [f"{name} is left out: {_why_out(table, against)}." for name, table in blocks_named if _why_out(table, against)]
    return Sheet(
        title=f"Seed SD against {words.label(against)}",
        subtitle=leaderboard_pooled.extent(tables),
        columns=("init", "blocks", "ratio of seed SDs [95 %]", "p"),
        rows=tuple(_ratio_cells(init, blocks[init], ratio) for init, ratio in found.items()),
        notes=(
            "Ratio below 1: the init makes Dice depend less on the seed. Pooled over blocks, as in one block an SD of few seeds "
            f"says next to nothing. Intervals and p hold for {words.count(len(inits), 'ratio')} at once.",
            *(f"Untestable: {reason}." for reason in reasons),
            *words.placebos_of_regimens(inits, against),
            *left_out,
            *leaderboard_pooled.narrowed(tables),
        ),
        values=tuple(
            {
                **leaderboard_pooled.settings(tables[0].block),
                **named(init, inits),
                **_ratio_values(compared_with(init, against), blocks[init], ratio),
                "seeds_chosen": words.seeds_chosen(tables),
            }
            for init, ratio in found.items()
        ),
    )


def _why_out(table: ScoreTable, against: str) -> str:
    return table.refused or ("" if against in table.inits else f"{words.label(against)} is not complete")


def _runs(tables: Sequence[ScoreTable], init: str, against: str) -> list[tuple[Array, Array]]:
    return [(table.runs(init), table.runs(against)) for table in tables if {init, against} <= set(table.inits)]


def _ratio_cells(init: str, blocks: int, found: PooledRatio | Refused) -> tuple[str, ...]:
    if isinstance(found, Refused):
        return (words.label(init), str(blocks), "untestable", "–")
    return (words.label(init), str(blocks), words.interval(found.ratio), words.chance(found.p))


def _ratio_values(against: str, blocks: int, found: PooledRatio | Refused) -> dict[str, object]:
    known: dict[str, object] = {"against": against, "blocks": blocks}
    if isinstance(found, Refused):
        return known | {"reason": found.reason}
    return known | {"ratio": found.ratio.value, "low": found.ratio.low, "high": found.ratio.high, "p": found.p}
