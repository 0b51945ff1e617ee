"""Where the spread of Dice comes from: variance components of a block, and the seed SDs of inits over blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initbench.choices import BASELINE
from initbench.errors import UsageError
from initbench.stats.analysis import analyse
from initbench.stats.components import Component, Components
from initbench.stats.design import Array, Refused
from initbench.stats.table import ScoreTable
from initbench.stats.treatments import compared_with, have_regimens
from initbench.stats.variances import PooledRatio, pooled_ratio
from initbench.tables import leaderboard, leaderboard_pooled, leaderboard_values, words
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
    """Returns a sheet with the variance components for every block."""
    return [_sheet(table) for table in tables]


def _sheet(table: ScoreTable) -> Sheet:
    """Returns the variance components of a block, or why it has none."""
    what = "init"
    if have_regimens(table.inits):
        what = "row"
    subtitle = f"{settings(table.block)} · {words.count(len(table.schemes().inits), what)} × {words.shape(table)}"
    analysis = analyse(table)
    found: Components | Refused
    if isinstance(analysis, Refused):
        found = analysis
    else:
        found = analysis.components
    notes = words.about_seeds(table)
    if isinstance(found, Refused):
        return Sheet(title(table.block), subtitle, ("source",), (), (f"No components: {found.reason}.", *notes), ())
    parts = _parts(found)
    whole = sum(part.value for part in parts.values())
    left = found.left_in_mean()
    rows, values = [], []
    for name, part in parts.items():
        rows.append((SOURCES[name], words.sd(part.sd), _share(part, whole), words.sd(left[name])))
        values.append(_values(table, found, name, part, whole))
    return Sheet(
        title=title(table.block),
        subtitle=subtitle,
        columns=("source", "SD of one case [95 %]", "share", "SD left in a mean [95 %]"),
        rows=tuple(rows),
        notes=(
            leaderboard.headline(table, analysis),
            *_notes(found, table),
            *words.marked(rows),
            *notes,
        ),
        values=tuple(values),
    )


def _parts(found: Components) -> dict[str, Component]:
    """Returns the components that a design has, in the order of `SOURCES`."""
    parts = {}
    for name in SOURCES:
        part: Component | None = getattr(found, name)
        if part is not None:
            parts[name] = part
    return parts


def _share(part: Component, whole: float) -> str:
    """Returns the share of a component in the sum of all, in percent; – where all are 0."""
    if whole <= 0:
        return "–"
    return f"{100 * part.value / whole:.1f} %"


def _notes(found: Components, table: ScoreTable) -> tuple[str, ...]:
    """Returns what the columns and the sources mean."""
    unit = "case"
    if table.patient_count < len(table.cases):
        unit = "patient"
    return (
        "SD of one case: what each source adds to the Dice of one case in one run, in points; estimates below 0 are shown as 0. "
        f"SD left in a mean: what is left of it in the mean of an init over {words.count(found.seeds, 'seed')} and "
        f"{words.count(found.cases, unit)}, which the table of the leaderboard shows.",
        found.pairing[0].upper() + found.pairing[1:] + ".",
        *_of_rows(table),
    )


def _of_rows(table: ScoreTable) -> list[str]:
    """Returns what the source `init` is where a block has regimens; nothing where it has none."""
    if not have_regimens(table.inits):
        return []
    return ["init: here the row, an init under a regimen; what either of the two adds is not told apart."]


def _values(table: ScoreTable, found: Components, name: str, part: Component, whole: float) -> dict[str, object]:
    """Returns a component for machines.

    Args:
        table: the scores of the block.
        found: all components of it.
        name: of the component, a key of `SOURCES`.
        part: the component.
        whole: the sum of all components, in squared Dice points.
    """
    share = math.nan
    if whole > 0:
        share = part.value / whole
    return {
        **columns(table.block),
        "source": name,
        **words.interval_values("sd", part.sd),
        "variance": part.raw,
        "share": share,
        **words.interval_values("sd_left", found.left_in_mean()[name]),
        "seeds_chosen": words.seeds_chosen([table]),
        **leaderboard_values.spread_values(found),
    }


def across(tables: Sequence[ScoreTable], against: str = BASELINE) -> list[Sheet]:
    """Divides the seed SD of every init by the seed SD of `against`, pooled over the blocks that have both.

    Under another protocol the control's runs are the same ones again, and folds share training cases: such blocks are not pooled.

    Returns:
        A sheet for every group of blocks that may be pooled.

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
    """Returns the sheet of a group of blocks: a row for each init that is complete where `against` is."""
    having, left_out = [], []
    for name, table in zip(titles([table.block for table in tables]), tables, strict=True):
        reason = _why_out(table, against)
        if reason:
            left_out.append(f"{name} is left out: {reason}.")
        else:
            having.append(table)
    inits: set[str] = set()
    for table in having:
        inits.update(table.inits)
    inits.discard(against)
    rows, values = [], []
    reasons: dict[str, None] = {}
    for init in sorted(inits):
        control = compared_with(init, against)
        runs = _runs(having, init, control)
        ratio = pooled_ratio(runs, len(inits))
        rows.append(_ratio_cells(init, len(runs), ratio))
        if isinstance(ratio, Refused):
            reasons[ratio.reason] = None
        values.append(
            {
                **leaderboard_pooled.settings(tables[0].block),
                **named(init, inits),
                **_ratio_values(control, len(runs), ratio),
                "seeds_chosen": words.seeds_chosen(tables),
            }
        )
    return Sheet(
        title=f"Seed SD against {words.label(against)}",
        subtitle=leaderboard_pooled.extent(tables),
        columns=("init", "blocks", "ratio of seed SDs [95 %]", "p"),
        rows=tuple(rows),
        notes=(
            "Ratio below 1: the init makes Dice depend less on the seed. Pooled over blocks, as in one block an SD of few seeds "
            f"says next to nothing. Intervals and p hold for {words.count(len(inits), 'ratio')} at once.",
            *(f"Untestable: {reason}." for reason in reasons),
            *words.placebos_of_regimens(inits, against),
            *left_out,
            *leaderboard_pooled.narrowed(tables),
        ),
        values=tuple(values),
    )


def _why_out(table: ScoreTable, against: str) -> str:
    """Returns why a block is left out; an empty text where it is not."""
    if table.refused:
        return table.refused
    if against not in table.inits:
        return f"{words.label(against)} is not complete"
    return ""


def _runs(tables: Sequence[ScoreTable], init: str, against: str) -> list[tuple[Array, Array]]:
    """Returns the run scores [seed] of two inits in each block that has both complete."""
    found = []
    for table in tables:
        if {init, against} <= set(table.inits):
            found.append((table.runs(init), table.runs(against)))
    return found


def _ratio_cells(init: str, blocks: int, found: PooledRatio | Refused) -> tuple[str, ...]:
    """Returns the ratio of an init as people read it."""
    if isinstance(found, Refused):
        return (words.label(init), str(blocks), "untestable", "–")
    return (words.label(init), str(blocks), words.interval(found.ratio), words.chance(found.p))


def _ratio_values(against: str, blocks: int, found: PooledRatio | Refused) -> dict[str, object]:
    """Returns the ratio of an init for machines, or why there is none."""
    known: dict[str, object] = {"against": against, "blocks": blocks}
    if isinstance(found, Refused):
        return known | {"reason": found.reason}
    return known | {"ratio": found.ratio.value, "low": found.ratio.low, "high": found.ratio.high, "p": found.p}
