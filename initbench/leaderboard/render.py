"""The leaderboard as terminal table, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from initbench.leaderboard import titles, words
from initbench.stats.blocks import Block, Row, flat

_HEADERS = (
    "#",
    "initializer",
    "Dice",
    "n",
    "seed SD [95 %]",
    "vs default [95 %]",
    "div.",
    "cost",
    "init",
)


def title(block: Block) -> str:
    """What the rows of a block share."""
    return titles.title(vars(block))


def settings(block: Block) -> str:
    """The settings of a block in one line."""
    return titles.settings(vars(block))


def headline(block: Block) -> str:
    """The answer of a block: how much the inits move Dice, beside what the seed alone does."""
    spread = block.spread
    if spread is None:
        return "Spread: needs two inits and two seeds of one of them."
    between = f"{spread.between:.2f}"
    note = " (the seed noise explains all of the difference)" if spread.between_variance <= 0 else ""
    return (
        f"Between-init SD {between} Dice points with the seed noise removed{note}; seed SD {spread.seed:.2f} "
        f"({spread.inits} inits, {block.spread_seeds} or more seeds each)."
    )


LEGEND = (
    "n: seeds. Dice: points at the native grid, mean over classes, cases, seeds; last checkpoint; policy reference-mask.",
    "vs default: paired by seed. Intervals: over seeds, for this training set and these cases; initbench compare tests.",
    "div.: diverged runs, which score 0. cost: a run's mean time, and the init stage's share of it.",
)


def notes(block: Block) -> list[str]:
    """What a reader has to know of a block before believing its rows."""
    lines = []
    if any(len(row.seeds) < 2 for row in block.rows):
        lines.append("One seed gives no interval: --seeds 3 or more.")
    if block.mixed_environments:
        lines.append("Warning: rows come from different environments (hardware or package versions).")
    for row in block.rows:
        if row.failed:
            lines.append(f"{row.init}: {row.failed} failed run(s) are missing; the same run command tries them again.")
        lines += [f"Warning: {row.init}: {path} is kept off, see `initbench verify {path}`." for path in row.invalid]
        if row.external:
            lines.append(f"{row.init}: conditional on these weights, one draw for all seeds; external data.")
        if row.same_weights:
            lines.append(f"Warning: {row.init} has bit-identical weights under different seeds: its seed is not in effect.")
    return lines


def terminal(found: Sequence[Block], console: Console) -> None:
    """Prints every block as a table with its headline, then the legend once."""
    for block in found:
        console.print(_table(block))
        console.print()
    console.print("\n".join(LEGEND), style="dim")


def _table(block: Block) -> RenderableType:
    heading = Text(title(block), style="bold").append(f"\n{settings(block)}", style="not bold dim")
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for header in _HEADERS:
        # Where a table is too wide, names and intervals take a second line; a cut-off number would be a wrong one.
        wraps = header == _HEADERS[1] or "[" in header
        table.add_column(header, justify="left" if header == _HEADERS[1] else "right", no_wrap=not wraps, overflow="fold")
    for rank, row in enumerate(block.rows, start=1):
        table.add_row(*_cells(rank, row))
    text = Text(headline(block), style="bold")
    for note in notes(block):
        text.append(f"\n{note}", style="not bold yellow")
    return Group(heading, table, text)


def _cells(rank: int, row: Row) -> tuple[str, ...]:
    return (
        str(rank),
        row.init,
        words.number(row.dice, 1),
        str(len(row.seeds)),
        words.interval(row.sd),
        "–" if row.difference is None else words.interval(row.difference, signed=True),
        str(row.diverged),
        words.duration(row.seconds),
        f"{100 * row.init_share:.0f} %",
    )


def markdown(found: Sequence[Block]) -> str:
    """Every block as a Markdown table."""
    lines: list[str] = []
    for block in found:
        lines += [f"### {title(block)}", "", settings(block), ""]
        lines += ["| " + " | ".join(_HEADERS) + " |", "|" + " --- |" * len(_HEADERS)]
        for rank, row in enumerate(block.rows, start=1):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(rank, row)) + " |")
        lines += ["", f"**{headline(block)}**", "", *(f"- {note}" for note in notes(block)), ""]
    return "\n".join([*lines, *LEGEND])


def as_csv(found: Sequence[Block]) -> str:
    """One line per init and block; empty where there is no value."""
    rows = [{key: words.plain(value) for key, value in row.items()} for row in flat(list(found))]
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def as_json(found: Sequence[Block]) -> str:
    """The rows of `as_csv` as a JSON list, null where there is no value."""
    rows = [{key: words.plain(value) for key, value in row.items()} for row in flat(list(found))]
    return json.dumps(rows, indent=1, allow_nan=False, ensure_ascii=False)
