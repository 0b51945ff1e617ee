"""Where the spread of Dice comes from: variance components of a block, and the seed SDs of inits over blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from initbench.errors import UsageError
from initbench.leaderboard import words
from initbench.leaderboard.sheet import Sheet
from initbench.leaderboard.titles import settings, title
from initbench.stats.blocks import BASELINE
from initbench.stats.components import Component, Components, components
from initbench.stats.design import Refused
from initbench.stats.table import ScoreTable
from initbench.stats.variances import pooled_ratio

SOURCES = {
    "init": "init",
    "seed": "seed, in all inits alike",
    "seed_init": "seed × init",
    "case": "case",
    "init_case": "init × case",
    "seed_case": "seed × case",
    "residual": "residual",
}


def sheets(tables: Sequence[ScoreTable]) -> list[Sheet]:
    """The components of every block."""
    return [_sheet(table.schemes()) for table in tables]


def _sheet(table: ScoreTable) -> Sheet:
    shape = f"{len(table.inits)} inits × {len(table.seeds[0]) if table.seeds else 0} seeds × {len(table.cases)} cases"
    subtitle = f"{settings(table.block)} · {shape}"
    found = components(table.y, table.design) if table.inits else Refused("no init of the block is complete")
    if isinstance(found, Refused):
        return Sheet(title(table.block), subtitle, ("source",), (), (f"No components: {found.reason}.",), ())
    parts = {name: part for name in SOURCES if (part := getattr(found, name)) is not None}
    whole = sum(part.value for part in parts.values())
    return Sheet(
        title=title(table.block),
        subtitle=subtitle,
        columns=("source", "SD [95 %]", "share of one case's variance"),
        rows=tuple((SOURCES[name], words.interval(part.sd), _share(part, whole)) for name, part in parts.items()),
        notes=_notes(found),
        values=tuple(_values(table, name, part, whole) for name, part in parts.items()),
    )


def _share(part: Component, whole: float) -> str:
    return f"{100 * part.value / whole:.1f} %" if whole > 0 else "–"


def _notes(found: Components) -> tuple[str, ...]:
    notes = ["SD in Dice points of what each source adds to the Dice of one case in one run; estimates below 0 are shown as 0."]
    return (*notes, found.pairing[0].upper() + found.pairing[1:] + ".")


def _values(table: ScoreTable, name: str, part: Component, whole: float) -> dict[str, object]:
    return {
        **{key: table.block[key] for key in ("dataset", "backbone", "variant", "size", "budget", "protocol")},
        "source": name,
        "sd": part.sd.value,
        "sd_low": part.sd.low,
        "sd_high": part.sd.high,
        "variance": part.raw,
        "share": part.value / whole if whole > 0 else math.nan,
    }


def across(tables: Sequence[ScoreTable], against: str = BASELINE) -> Sheet:
    """Seed SD of every init over that of `against`, pooled over the blocks that have both.

    Raises:
        UsageError: no block has `against`.
    """
    having = [table for table in tables if against in table.inits]
    if not having:
        raise UsageError(f"no block has a complete {against}, with which the others would be compared")
    inits = sorted({init for table in having for init in table.inits if init != against})
    rows, values = zip(*(_ratio(having, init, against) for init in inits), strict=True) if inits else ((), ())
    return Sheet(
        title=f"Seed SD against {against}",
        subtitle=f"{len(having)} blocks",
        columns=("init", "blocks", "ratio of seed SDs [95 %]", "p"),
        rows=tuple(rows),
        notes=(
            "Ratio below 1: the init makes Dice depend less on the seed. Pooled over blocks, as in one block an SD of few seeds "
            "says next to nothing.",
        ),
        values=tuple(values),
    )


def _ratio(tables: Sequence[ScoreTable], init: str, against: str) -> tuple[tuple[str, ...], dict[str, object]]:
    pairs = [(table.runs(init), table.runs(against)) for table in tables if init in table.inits]
    found = pooled_ratio(pairs)
    known: dict[str, object] = {"init": init, "against": against, "blocks": len(pairs)}
    if isinstance(found, Refused):
        return (init, str(len(pairs)), f"untestable: {found.reason}", "–"), {**known, "reason": found.reason}
    values = {"ratio": found.ratio.value, "low": found.ratio.low, "high": found.ratio.high, "p": found.p}
    return (init, str(found.blocks), words.interval(found.ratio), words.chance(found.p)), {**known, **values}
