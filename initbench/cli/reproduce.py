"""``initbench reproduce``. Without runs to do it imports no torch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench import plots
from initbench.cli.output import saying, show
from initbench.errors import InitbenchError, InterruptedRunError, MissingDataError, UsageError
from initbench.leaderboard.sheet import Sheet
from initbench.published import tables, trials
from initbench.published.tables import Table

if TYPE_CHECKING:
    from initbench.harness.cell import RunRequest
    from initbench.leaderboard.measured import Asked
    from initbench.published.trials import Trial


def list_command(form: str) -> None:
    """Prints the tables and figures that can be asked for."""
    found = tables.tables()
    values = [
        {
            "name": table.full_name,
            "title": table.title,
            "rows": len(table.row),
            "mapped": sum(bool(row.init) for row in table.row),
            "datasets": ", ".join(dict.fromkeys(row.dataset for row in table.row if row.dataset)),
            "source": table.source,
        }
        for table in found
    ]
    keys = ("name", "title", "rows", "mapped", "datasets")
    sheet = Sheet(
        title="Published tables and figures",
        subtitle="mapped: rows that are an init, a network and a data set here",
        columns=("name", "of", "rows", "mapped", "data"),
        rows=tuple(tuple(str(value[key]) for key in keys) for value in values),
        notes=tuple(dict.fromkeys(f"{table.key}: {table.paper}; code {table.release}." for table in found)),
        values=tuple(values),
        names=2,
    )
    show([sheet], form)


def reproduce_command(
    name: str,
    *,
    overrides: trials.Overrides,
    seeds: Sequence[int] | None,
    placebo: bool,
    dry_run: bool,
    measure: bool,
    report_only: bool,
    shared: bool,
    margin: float,
    jobs: int,
    plot: Path | None,
    form: str,
    options: dict[str, Any],
) -> None:
    """Runs what is missing of a published table, then prints it beside what was measured.

    Exits with 1 where a run failed, 2 where one was refused; the table is printed before, of the runs that are there.
    """
    from initbench.leaderboard.measured import Asked
    from initbench.leaderboard.reproduction import settings_sheet

    table = tables.get(name)
    plots.check(plot, made=options["out"])
    overrides = trials.against(table, overrides)
    mapped = trials.trials(table, overrides)
    asked = Asked(table, mapped, overrides, margin, shared, tuple(seeds) if seeds is not None else None)
    if table.kind == "settings":
        if plot is not None:
            raise UsageError(f"--plot: {name} is a table of settings")
        show([settings_sheet(asked)], form)
        return
    if not mapped.trials:
        raise UsageError(f"{name}: none of its rows can run; " + "; ".join(f"{k}: {v}" for k, v in mapped.reasons.items()))
    if dry_run:
        _dry_run(asked, seeds or range(3), placebo, jobs, form, options, measure=measure)
        return
    states: Counter[str] = Counter()
    cells: frozenset[str] | None = None
    if not report_only:
        cells, states = _run(asked, seeds or range(3), placebo, jobs, form, options)
    _report(asked, cells, options["out"], plot, form)
    if states["refused"] or states["failed"]:
        sys.exit(2 if states["refused"] else 1)


def _report(asked: Asked, cells: frozenset[str] | None, out: Path, plot: Path | None, form: str) -> None:
    from initbench.leaderboard.measured import answers
    from initbench.leaderboard.reproduction import sheets
    from initbench.runs.read import load

    found = answers(asked, load(out), cells)
    show(sheets(asked, found), form)
    if plot is not None:
        from initbench.leaderboard.reproduction_plot import draw

        draw(asked, found, plot)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"{plot}: the same, drawn", style="dim")


def _run(
    asked: Asked, seeds: Sequence[int], placebo: bool, jobs: int, form: str, options: dict[str, Any]
) -> tuple[frozenset[str], Counter[str]]:
    """The cells of what was asked for, and how the runs ended.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    from initbench.cli.run import GO_ON, perform

    console = Console(stderr=form != "table", highlight=False)
    with saying(console, "loading torch"):
        from initbench.harness.reproduce import missing
        from initbench.runs import store
    lacking = missing(asked.mapped.trials, asked.overrides, options["data_root"])
    if lacking:
        raise MissingDataError(_lacking(asked.table, lacking))
    outcomes = perform(_requests(asked, seeds, placebo, options), jobs, console)
    if any(outcome.state == "interrupted" for outcome in outcomes):
        raise InterruptedRunError(f"stopped when asked to; {GO_ON}; --report-only shows what is there")
    folders = [outcome.folder for outcome in outcomes if outcome.folder is not None]
    if not folders:  # all for the same reason, as a setting that is none
        raise (UsageError if outcomes[0].state == "refused" else InitbenchError)(outcomes[0].message)
    records = [record for folder in folders if (record := store.read_record(folder)) is not None]
    return frozenset(record["cell"] for record in records), Counter(outcome.state for outcome in outcomes)


def _requests(asked: Asked, seeds: Sequence[int], placebo: bool, options: dict[str, Any]) -> list[RunRequest]:
    from initbench.harness.reproduce import requests
    from initbench.leaderboard.matching import control

    found = asked.mapped.trials
    return requests(found, asked.overrides, list(seeds), control(found) if placebo else None, options)


def _lacking(table: Table, lacking: Mapping[str, str]) -> str:
    said = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
    return f"{table.full_name} needs {' and '.join(lacking)}. {said}. With other data: --dataset NAME, and the output says so"


def _dry_run(
    asked: Asked, seeds: Sequence[int], placebo: bool, jobs: int, form: str, options: dict[str, Any], *, measure: bool
) -> None:
    """Prints what would run: cells, hours and disk of rows whose data are here, and what the others lack."""
    console = Console(stderr=True, highlight=False)
    with saying(console, "loading torch"):
        from initbench.harness.plan import plan_study
        from initbench.harness.reproduce import missing, requests
        from initbench.leaderboard import forecast
        from initbench.leaderboard.matching import control
    lacking = missing(asked.mapped.trials, asked.overrides, options["data_root"])
    here = [trial for trial in asked.mapped.trials if trial.dataset not in lacking]
    found = [_wanted(asked, seeds, lacking)]
    if here:
        planned = requests(here, asked.overrides, list(seeds), control(here) if placebo else None, options)
        protocols = " and ".join(dict.fromkeys(trial.protocol for trial in here))
        with saying(console, "timing a few steps" if measure else "resolving"):
            study = plan_study(planned, protocols, jobs, measure=measure)
        found += forecast.sheets(study, [])
    show(found, form)


def _wanted(asked: Asked, seeds: Sequence[int], lacking: Mapping[str, str]) -> Sheet:
    """The rows as they would run."""
    values = [
        {
            "of": "planned row",
            "row": trial.label,
            "init": trial.init,
            "backbone": trial.backbone,
            "dataset": trial.dataset,
            "protocol": trial.protocol,
            "settings": ", ".join(_special(trial)),
            "here": trial.dataset not in lacking,
        }
        for trial in asked.mapped.trials
    ]
    keys = ("row", "init", "backbone", "dataset", "protocol", "settings")
    notes = [f"Data are missing: {name}: {reason}" for name, reason in lacking.items()]
    notes += [f"{label}: {reason}." for label, reason in asked.mapped.reasons.items()]
    words = asked.overrides.words()
    notes += [f"Asked with {', '.join(words)}: published numbers are of another question."] if words else []
    return Sheet(
        title=f"{asked.table.full_name} would run {len(values)} rows × {len(seeds)} seeds",
        subtitle=f"{asked.table.title} · {asked.overrides.size} size, {asked.overrides.budget} budget",
        columns=keys,
        rows=tuple(tuple(str(value[key]) for key in keys) for value in values),
        notes=tuple(notes),
        values=tuple(values),
        names=len(keys),
    )


def _special(trial: Trial) -> list[str]:
    length = [f"{trial.length:g} × the steps"] if trial.length != 1 else []
    cases = [f"{trial.train_cases} training cases"] if trial.train_cases else []
    return [*trial.assignments, *length, *cases]
