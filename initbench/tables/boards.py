"""What a leaderboard consists of: a sheet for each block or a pooled one, and below them sheets of other kinds of rows."""

from __future__ import annotations

from initbench.choices import LeaderboardBy
from initbench.tables import words
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_protocols import protocol_sheets
from initbench.tables.leaderboard_runs import run_sheets
from initbench.tables.leaderboard_subsets import subset_sheets
from initbench.tables.sheet import Sheet
from initbench.tables.study import Study


def boards(
    study: Study, by: LeaderboardBy, against: str, margin: float, *, letters: bool, for_people: bool = True
) -> tuple[list[Sheet], list[Sheet]]:
    """Returns the sheets of a leaderboard, and those that stand below it for people: of single runs, protocols and subsets.

    Machines read one kind of row, and a pooled leaderboard has none below it.

    Args:
        study: the runs.
        by: over which blocks a sheet pools.
        against: the init that the others are compared with, as its row is called.
        margin: Dice points within which two inits are equivalent.
        letters: whether inits share a letter where no difference between them was found.
        for_people: whether there are sheets below.
    """
    control = words.meant(against, study.names)
    if by != "block":
        return pooled_sheets(study, by, control, margin), []
    sheets = leaderboard_sheets(study, control, margin, letters=letters)
    below: list[Sheet] = []
    if for_people:
        below += run_sheets(study, control, margin)
        below += protocol_sheets(study, control, margin)
        below += subset_sheets(study, control, margin)
    return sheets, below
