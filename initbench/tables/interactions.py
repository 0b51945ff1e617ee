"""Interactions of inits and regimens: whether a regimen does more for an init than for `default`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from initbench.stats.interactions import Judged
from initbench.tables import words
from initbench.tables.sheet import Sheet

COLUMNS = ("interaction", "gain beyond that of default [95 %]", "p adjusted", "verdict")


def interaction_sheet(name: str, subtitle: str, found: Sequence[Judged], claim: str, settings: Mapping[str, object]) -> Sheet:
    """The interactions of a block, or of several that are pooled.

    Args:
        name: what they are of, as the table of the rows is called.
        subtitle: the settings in words.
        found: one for each init and each regimen; at least one.
        claim: what they hold for.
        settings: the same settings for machines.
    """
    return Sheet(
        title=f"{name}: interactions of init and regimen",
        subtitle=subtitle,
        columns=COLUMNS,
        rows=tuple(cells(item) for item in found),
        notes=tuple(notes(found, claim)),
        values=tuple({**settings, **_values(item)} for item in found),
    )


def cells(item: Judged) -> tuple[str, str, str, str]:
    """An interaction as people read it."""
    own, difference = item.interaction.treatment, item.difference
    return (
        f"{words.label(own.init)} × {own.regimen_name}",
        words.difference(difference.estimate),
        words.chance(difference.p_adjusted),
        difference.says,
    )


def notes(found: Sequence[Judged], claim: str) -> list[str]:
    """What the numbers are, what they hold for, and why some have no verdict."""
    reasons = dict.fromkeys(item.difference.reason for item in found if item.difference.reason)
    together = words.family(found[0].difference.family)
    return [
        "Dice points that the regimen adds to the init, less those that it adds to default: (init + regimen − init) − (default + "
        f"regimen − default), for {claim}. better: the regimen does more for the init than for default. Intervals and verdicts: "
        f"judged {together}.",
        *(f"Untestable: {reason}." for reason in reasons),
    ]


def _values(item: Judged) -> dict[str, object]:
    own = item.interaction.treatment
    return {
        "role": "interaction",
        "init": own.init,
        "regimen": own.regimen,
        "regimen_budget": own.budget,
        "against": item.difference.second,
        **words.tested(item.difference),
    }
