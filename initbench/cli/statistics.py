"""``initbench leaderboard``, ``classes``, ``compare``, ``variance`` and ``power``. None imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from initbench.cli.output import show, warn
from initbench.errors import UsageError
from initbench.runs.read import CountedOn
from initbench.stats.blocks import POINTS
from initbench.stats.power import stated
from initbench.tables import power, variance, words
from initbench.tables.classes import Metric, class_sheets
from initbench.tables.compare import compare_sheets
from initbench.tables.leaderboard import leaderboard_sheets
from initbench.tables.leaderboard_pooled import pooled_sheets
from initbench.tables.leaderboard_protocols import protocol_sheets
from initbench.tables.leaderboard_subsets import subset_sheets
from initbench.tables.power import power_sheets
from initbench.tables.study import Study
from initbench.tables.variance import variance_sheets

_MOST_CASES = 1_000_000


def leaderboard_command(
    study: Study, by: Literal["block", "backbone", "dataset", "all"], against: str, margin: float, form: str, *, letters: bool
) -> None:
    """Prints the leaderboard of a study: per block, or pooled over blocks."""
    against = words.meant(against)
    if by != "block":
        show(pooled_sheets(study, by, against, margin), form)
        return
    made = leaderboard_sheets(study, against, margin, letters=letters)
    beside = [*protocol_sheets(study, against, margin), *subset_sheets(study, against, margin)]
    show([*made, *beside] if form in ("table", "md", "latex") else made, form)


def classes_command(study: Study, metric: Metric, form: str) -> None:
    """Prints per-class tables, and what is predicted where the reference has nothing."""
    show(class_sheets(study, metric), form)


def compare_command(study: Study, first: str, second: str, margin: float, form: str) -> None:
    """Prints what can be claimed of the difference of two inits."""
    show(compare_sheets(study, words.meant(first), words.meant(second), margin), form)


def variance_command(study: Study, across: bool, form: str) -> None:
    """Prints where the spread of Dice comes from, or the seed SDs of inits pooled over blocks."""
    show(variance.across(study.tables) if across else variance_sheets(study.tables), form)


def power_command(study: Study, cases: Sequence[int], form: str) -> None:
    """Prints what studies like the pilot's could find."""
    show(power_sheets(study.tables, _possible(cases)), form)


def stated_power_command(sds: str, cases: Sequence[int], form: str) -> None:
    """Prints what a study could find, from stated SDs of seed, init x case and residual."""
    if not cases:
        raise UsageError("--sd says nothing of the cases: add --cases N (repeatable)")
    seed, init_case, residual = three_sds(sds)
    text = f"seed SD {seed:g}, init × case SD {init_case:g}, residual SD {residual:g} Dice points"
    show([power.sheet("a study", text, stated(seed, init_case, residual), _possible(cases), 1)], form)


def _possible(cases: Sequence[int]) -> Sequence[int]:
    """Numbers of cases that a study could have, and arithmetic can bear."""
    most = max(cases, default=0)
    if most > _MOST_CASES:
        raise UsageError(f"--cases: no more than {_MOST_CASES} can be asked for")
    return cases


def three_sds(text: str) -> tuple[float, float, float]:
    """SDs of seed, init x case and residual from ``--sd``.

    Raises:
        UsageError: they are not three numbers from 0 to 100.
    """
    try:
        seed, init_case, residual = (float(part) for part in text.split(","))
        wrong = not all(0 <= value <= POINTS for value in (seed, init_case, residual))
    except ValueError:
        wrong = True
    if wrong:
        raise UsageError(
            f"--sd {text!r}: write SDs of seed, init × case and residual in Dice points, 0 to 100, as in --sd 1.5,3,10"
        )
    return seed, init_case, residual


def read(
    out: Path,
    datasets: Sequence[str],
    backbones: Sequence[str],
    policy: str,
    classes: str | None,
    *,
    shared: bool,
    grid: CountedOn,
) -> Study:
    """The study that the options of a command name; warns of runs that are kept off."""
    from initbench.tables import study
    from initbench.tables.study import read_study

    chosen = tuple(name.strip() for name in (classes or "").split(",") if name.strip())
    found = read_study(out, datasets, backbones, study.Scoring(study.policy_of(policy), chosen, shared, grid))
    for folder in found.unreadable:
        warn(f"{folder}: its record cannot be read; it is kept off")
    if found.uncounted:
        warn(f"runs without counts on the {grid} grid are kept off: {found.uncounted}")
    for doubt in found.doubts:
        warn(doubt)
    return found
