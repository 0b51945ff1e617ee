"""``initbench leaderboard``, ``classes``, ``compare``, ``variance`` and ``power``. None imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from initbench.choices import BASELINE, MARGIN, LeaderboardBy, Metric
from initbench.cli.command import command
from initbench.cli.groups import ReadRuns
from initbench.cli.options import (
    COMPLETE_INIT,
    HOW_JUDGED,
    OUTPUT,
    AgainstOption,
    FormOption,
    JsonOption,
    MarginOption,
    SdsOption,
    comma_list,
)
from initbench.cli.output import show, warn, warn_of
from initbench.errors import UsageError

if TYPE_CHECKING:
    from initbench.tables.sheet import Sheet
    from initbench.tables.study import Scoring, Study

_MOST_CASES = 1_000_000


@command
def leaderboard(
    runs: ReadRuns,
    by: Annotated[
        LeaderboardBy,
        typer.Option(
            "--by",
            help="Blocks of a table. block: one (backbone × data set) a table; else pooled over the blocks of each.",
            rich_help_panel=HOW_JUDGED,
        ),
    ] = "block",
    against: AgainstOption = BASELINE,
    margin: MarginOption = MARGIN,
    letters: Annotated[
        bool,
        typer.Option(
            "--letters", help="Letters over all pairs. Inits that share one are not told apart.", rich_help_panel=OUTPUT
        ),
    ] = False,
    format_: FormOption = "table",
    json: JsonOption = False,
) -> None:
    """Show each init's Dice, verdict and rank.

    There is a table per backbone and data set, or a pooled one. It has the SD over seeds, the difference to default with its
    interval, and what each init costs.
    """
    if json:
        format_ = "json"
    from initbench.tables.boards import boards

    sheets, below = boards(read(runs), by, against, margin, letters=letters, for_people=format_ not in ("csv", "json"))
    show([*sheets, *below], format_)


@command
def classes(
    runs: ReadRuns,
    metric: Annotated[
        Metric,
        typer.Option(
            "--metric",
            help="Metric of the table. All but Dice: of runs that measured distances.",
            rich_help_panel=HOW_JUDGED,
        ),
    ] = "dice",
    format_: FormOption = "table",
) -> None:
    """Show each init per class, as papers' tables do.

    Also shows what each predicts where the reference has nothing.
    """
    from initbench.tables.classes import class_sheets

    show(class_sheets(read(runs), metric), format_)


@command
def compare(
    first: Annotated[str, typer.Argument(help="Initializer, as its row is called.", autocompletion=COMPLETE_INIT)],
    runs: ReadRuns,
    second: Annotated[str, typer.Argument(help="The one it is compared with.", autocompletion=COMPLETE_INIT)] = BASELINE,
    margin: MarginOption = MARGIN,
    firm: Annotated[
        bool,
        typer.Option(
            "--firm",
            help="Also what the verdict hangs on: without each seed, patient, class; under other policies, grids, protocols.",
            rich_help_panel=HOW_JUDGED,
        ),
    ] = False,
    format_: FormOption = "table",
) -> None:
    """Say what can be claimed of two inits.

    Says it for new seeds and cases, for new seeds on these cases, and for these weights.
    """
    from initbench.tables import words
    from initbench.tables.compare import compare_sheets

    study = read(runs)
    names = words.meant(first, study.names), words.meant(second, study.names)
    sheets = compare_sheets(study, *names, margin)
    if firm:
        from initbench.tables.firm import firm_sheets, firmness
        from initbench.tables.study import read_study

        def reread(scoring: Scoring) -> Study:
            return read_study(runs.out, runs.dataset or (), runs.backbone or (), scoring)

        # Machines read one kind of row: what the verdict hangs on.
        if format_ in ("csv", "json"):
            sheets = []
        sheets += firm_sheets(firmness(study, reread, *names, margin), margin)
    show(sheets, format_)


@command
def variance(
    runs: ReadRuns,
    across: Annotated[
        bool,
        typer.Option("--across", help="Seed SDs of the inits, pooled over the blocks.", rich_help_panel=HOW_JUDGED),
    ] = False,
    format_: FormOption = "table",
) -> None:
    """Show where the spread of Dice comes from.

    The sources are init, seed, case, their interactions, and what is left.
    """
    from initbench.tables import variance as tables

    study = read(runs)
    if across:
        show(tables.across(study.tables), format_)
    else:
        show(tables.variance_sheets(study.tables), format_)


@command
def power(
    runs: ReadRuns,
    cases: Annotated[
        list[int] | None,
        typer.Option(
            "--cases",
            metavar="N",
            help="Reported cases. Repeatable.",
            show_default="those of the pilot",
            min=2,
            rich_help_panel=HOW_JUDGED,
        ),
    ] = None,
    sd: SdsOption = None,
    format_: FormOption = "table",
) -> None:
    """Show what difference a number of seeds and cases can find.

    The noise is taken from pilot runs, or stated as SDs.
    """
    from initbench.tables.power import power_sheets

    if sd is not None:
        show([_stated_power(sd, cases or [])], format_)
        return
    study = read(runs)
    show(power_sheets(study.tables, _possible(cases or [])), format_)


def _stated_power(sds: str, cases: Sequence[int]) -> Sheet:
    """Returns what a study could find, from stated SDs of seed, init × case and residual.

    Raises:
        UsageError: the SDs are none, or no number of cases is said.
    """
    from initbench.stats.power import stated
    from initbench.tables import power as tables

    if not cases:
        raise UsageError("--sd says nothing of the cases: add --cases N (repeatable)")
    seed, init_case, residual = three_sds(sds)
    text = f"seed SD {seed:g}, init × case SD {init_case:g}, residual SD {residual:g} Dice points"
    return tables.sheet("a study", text, stated(seed, init_case, residual), _possible(cases), 1)


def _possible(cases: Sequence[int]) -> Sequence[int]:
    """Returns the numbers of cases, which arithmetic can bear.

    Raises:
        UsageError: one is larger.
    """
    most = max(cases, default=0)
    if most > _MOST_CASES:
        raise UsageError(f"--cases: no more than {_MOST_CASES} can be asked for")
    return cases


def three_sds(text: str) -> tuple[float, float, float]:
    """Returns the SDs of seed, init × case and residual that ``--sd`` states.

    Raises:
        UsageError: they are not three numbers from 0 to 100.
    """
    from initbench.stats.blocks import POINTS

    try:
        seed, init_case, residual = map(float, text.split(","))
        allowed = 0 <= seed <= POINTS and 0 <= init_case <= POINTS and 0 <= residual <= POINTS
    except ValueError:
        allowed = False
    if not allowed:
        raise UsageError(
            f"--sd {text!r}: write SDs of seed, init × case and residual in Dice points, 0 to 100, as in --sd 1.5,3,10"
        )
    return seed, init_case, residual


def read(runs: ReadRuns) -> Study:
    """Returns the study that the options of a command name. Warns of runs that are kept off."""
    from initbench.tables.study import Scoring, read_study

    scoring = Scoring(runs.dice_policy, tuple(comma_list(runs.classes)), runs.shared_seeds, runs.grid)
    found = read_study(runs.out, runs.dataset or (), runs.backbone or (), scoring)
    warn_of(found.unreadable, f"`initbench status --out {found.out}`")
    if found.uncounted:
        warn(f"runs without counts on the {runs.grid} grid are kept off: {found.uncounted}")
    for doubt in found.doubts:
        warn(doubt)
    return found
