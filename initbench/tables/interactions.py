"""Interactions of inits and regimens: whether a regimen does more for an init than for `default`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initbench.stats.interactions import Judged
from initbench.tables import words
from initbench.tables.sheet import Sheet

COLUMNS = ("interaction", "gain beyond that of default [95 %]", "p adjusted", "verdict")


def interaction_sheet(name: str, subtitle: str, found: Sequence[Judged], claim: str, settings: Mapping[str, object]) -> Sheet:
    """Returns the sheet of the interactions of a block, or of several that are pooled.

    Args:
        name: what the table of the rows is called.
        subtitle: the settings in words.
        found: one for each init and each regimen; at least one.
        claim: what they hold for.
        settings: the same settings for machines.
    """
    rows, values = [], []
    for item in found:
        rows.append(cells(item))
        values.append({**settings, **_values(item)})
    return Sheet(
        title=f"{name}: interactions of init and regimen",
        subtitle=subtitle,
        columns=COLUMNS,
        rows=tuple(rows),
        notes=tuple(notes(found, claim)),
        values=tuple(values),
    )


def cells(item: Judged) -> tuple[str, str, str, str]:
    """Returns an interaction as people read it."""
    own, difference = item.interaction.treatment, item.difference
    return (
        f"{words.label(own.init)} × {own.regimen_name}",
        words.difference(difference.estimate),
        words.chance(difference.p_adjusted),
        difference.says,
    )


def notes(found: Sequence[Judged], claim: str) -> list[str]:
    """Returns what the numbers are, what they hold for, and why some have no verdict.

    Args:
        found: the interactions.
        claim: what they hold for.
    """
    together = words.family(found[0].difference.family)
    lines = [
        "Dice points that the regimen adds to the init, less those that it adds to default: (init + regimen − init) − (default + "
        f"regimen − default), for {claim}. better: the regimen does more for the init than for default. Intervals and verdicts: "
        f"judged {together}."
    ]
    for reason in words.reasons(item.difference for item in found):
        lines.append(f"Untestable: {reason}.")
    return lines


def _values(item: Judged) -> dict[str, object]:
    """Returns an interaction for machines."""
    own = item.interaction.treatment
    return {
        "role": "interaction",
        "init": own.init,
        "regimen": own.regimen,
        "regimen_budget": own.budget,
        "against": item.difference.second,
        **words.tested(item.difference),
    }
