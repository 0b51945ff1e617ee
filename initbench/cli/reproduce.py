"""``initbench reproduce``. Without runs to do it imports no torch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from initbench import plots
from initbench.choices import MARGIN, SheetForm
from initbench.cli.command import command
from initbench.cli.dry_run import cells_of, requests_of, show_dry_run, with_reasons
from initbench.cli.groups import Engine, Seeds, Training
from initbench.cli.options import (
    JOBS,
    OUTPUT,
    RUNS,
    FastOption,
    FormOption,
    JobsOption,
    JsonOption,
    MarginOption,
    MeasureOption,
    OtherBackboneOption,
    OtherDatasetOption,
    OutOption,
    PlaceboOption,
    PlotOption,
    SharedSeedsOption,
    beginning,
)
from initbench.cli.output import show, under_way, warn_of
from initbench.errors import InitbenchError, InterruptedRunError, MissingDataError, UsageError

if TYPE_CHECKING:
    from initbench.published.tables import Table
    from initbench.published.trials import Overrides
    from initbench.studies.engine import Resources
    from initbench.tables.reproduce.measured import Asked
    from initbench.tables.sheet import Sheet


def _complete_table(incomplete: str) -> list[str]:
    """Returns the tables and figures whose names begin so, for the shell."""
    from initbench.published import tables

    return beginning(incomplete, [table.full_name for table in tables.tables()])


@command
def reproduce(
    ctx: typer.Context,
    training: Training,
    seeds: Seeds,
    engine: Engine,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Published table or figure, as lwi:table-6. Without it, all of them are listed.",
            autocompletion=_complete_table,
        ),
    ] = None,
    backbone: OtherBackboneOption = None,
    dataset: OtherDatasetOption = None,
    placebo: PlaceboOption = True,
    fast: FastOption = False,
    jobs: JobsOption = JOBS,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Do no run. Says what would run, for how long, and which data are missing.", rich_help_panel=OUTPUT
        ),
    ] = False,
    measure: MeasureOption = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing, and show the runs that are there.", rich_help_panel=OUTPUT)
    ] = False,
    shared_seeds: SharedSeedsOption = False,
    margin: MarginOption = MARGIN,
    out: OutOption = RUNS,
    plot: PlotOption = None,
    format_: FormOption = "table",
    json: JsonOption = False,
) -> None:
    """Rerun a published table and compare.

    Runs what is missing of a published table or figure, and shows it beside what was measured. Exits with 1 where a run failed,
    with 2 where one was refused; the table is printed before, of the runs that are there.
    """
    form: SheetForm = format_
    if json:
        form = "json"
    engine.check()
    if name is None:
        _check_listing(ctx)
        show([_listing()], form)
        return
    chosen = seeds.chosen()
    _check_modes(
        dry_run=dry_run, measure=measure, report_only=report_only, placebo=placebo, measured=plot is not None or shared_seeds
    )
    asked = _asked(name, training, dataset, backbone, chosen, margin, plot, out, shared=shared_seeds)
    if asked.table.kind == "settings":
        from initbench.tables.reproduce.sheets import settings_sheet

        show([settings_sheet(asked)], form)
        return
    if not asked.mapped.trials:
        reasons = with_reasons(asked.mapped.reasons)
        raise UsageError(f"{name}: none of its rows can run; {reasons}")
    if report_only:
        _report(asked, None, out, plot, form)
        return
    wanted = asked.seeds or range(3)
    # Settings of --set go to the rows that take them, by way of `asked.overrides`.
    options = {**training.as_run_options(), "assignments": [], "out": out, "fast": fast}
    if dry_run:
        show_dry_run(asked, wanted, placebo, jobs, form, options, measure=measure)
        return
    cells, states = _run(asked, wanted, placebo, engine.resources(jobs), form, options)
    _report(replace(asked, seeds=tuple(wanted)), cells, out, plot, form)
    if states["refused"]:
        sys.exit(2)
    if states["failed"]:
        sys.exit(1)


def _check_listing(ctx: typer.Context) -> None:
    """Refuses the options of a table where no table is named.

    Raises:
        UsageError: names the first of them.
    """
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        if name not in ("format_", "json") and source is not None and source.name == "COMMANDLINE":
            option = name.strip("_").replace("_", "-")
            raise UsageError(f"--{option}: say which table or figure; `initbench reproduce` lists them")


def _check_modes(*, dry_run: bool, measure: bool | None, report_only: bool, placebo: bool, measured: bool) -> None:
    """Refuses options that say nothing beside one another.

    Raises:
        UsageError: names two of them.
    """
    if dry_run and report_only:
        raise UsageError("--dry-run and --report-only exclude each other")
    if measure is not None and not dry_run:
        raise UsageError("--measure goes with --dry-run, which says how long runs will take")
    if dry_run and measured:
        raise UsageError("--plot and --shared-seeds are of what was measured; --dry-run runs nothing")
    if report_only and not placebo:
        raise UsageError("--no-placebo says what is run, and --report-only runs nothing")


def _listing() -> Sheet:
    """Returns the tables and figures that can be asked for."""
    from initbench.published import tables
    from initbench.tables.sheet import Sheet

    found = tables.tables()
    columns = ("name", "title", "rows", "mapped", "datasets")
    rows, values = [], []
    notes: dict[str, None] = {}
    for table in found:
        datasets: dict[str, None] = {}
        mapped = 0
        for row in table.row:
            if row.dataset:
                datasets[row.dataset] = None
            mapped += bool(row.init)
        value = {
            "name": table.full_name,
            "title": table.title,
            "rows": len(table.row),
            "mapped": mapped,
            "datasets": ", ".join(datasets),
            "source": table.source,
        }
        values.append(value)
        rows.append(cells_of(value, columns))
        notes[f"{table.key}: {table.paper}; code {table.release}."] = None
    return Sheet(
        title="Published tables and figures",
        subtitle="mapped: rows that are an init, a network and a data set here",
        columns=("name", "of", "rows", "mapped", "data"),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
        names=2,
    )


def _asked(
    name: str,
    training: Training,
    dataset: str | None,
    backbone: str | None,
    seeds: Sequence[int] | None,
    margin: float,
    plot: Path | None,
    out: Path,
    *,
    shared: bool,
) -> Asked:
    """Returns what is asked of a published table: its rows as they are here, with what is asked instead of the published setting.

    Args:
        name: of the table.
        training: how the runs train.
        dataset: instead of the published one.
        backbone: likewise.
        seeds: that somebody asked for, in any order.
        margin: Dice points within which two inits are equivalent.
        plot: the picture to draw.
        out: folder of the runs.
        shared: whether only seeds count that every init has.

    Raises:
        UsageError: there is no such table, or what is asked instead cannot be.
    """
    from initbench.harness.request import read_component
    from initbench.published import tables, trials
    from initbench.tables.reproduce.measured import Asked

    settings = tuple(training.set_ or ())
    overrides = trials.Overrides(dataset, backbone, training.size, training.budget, training.recipe, settings, training.split)
    table = tables.get(name)
    plots.check(plot, made=out)
    if table.kind == "settings":
        _check_settings(name, overrides, plot)
    if backbone:
        read_component("backbone", backbone)
    overrides = trials.against(table, overrides)
    mapped = trials.trials(table, overrides)
    trials.check(mapped.trials, overrides)
    wanted = None
    if seeds:
        wanted = tuple(sorted(seeds))
    return Asked(table, mapped, overrides, margin, shared, wanted, training.precision)


def _check_settings(name: str, overrides: Overrides, plot: Path | None) -> None:
    """Refuses what says nothing to a table of settings: its rows are of the recipes of their own data."""
    given = {"--plot": plot, "--dataset": overrides.dataset, "--backbone": overrides.backbone, "--split": overrides.split}
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option}: {name} is a table of settings; its rows are of their own data and networks; leave it out"
            )


def _report(asked: Asked, cells: frozenset[str] | None, out: Path, plot: Path | None, form: SheetForm) -> None:
    """Prints what was measured beside what was published, and draws it where a picture is asked for."""
    from initbench.runs.read import read_runs
    from initbench.tables.reproduce.measured import answers
    from initbench.tables.reproduce.sheets import reproduction_sheets
    from initbench.tables.study import check_some

    loaded = read_runs(out)
    check_some(out, loaded)
    warn_of(loaded.unreadable, f"`initbench status --out {out}`")
    found = answers(asked, loaded, cells)
    show(reproduction_sheets(asked, found), form)
    if plot is not None:
        from initbench.tables.reproduce.plot import draw

        draw(asked, found, plot)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"{plot}: the same, drawn", style="dim")


def _run(
    asked: Asked, seeds: Sequence[int], placebo: bool, resources: Resources, form: SheetForm, options: dict[str, Any]
) -> tuple[frozenset[str], Counter[str]]:
    """Does the runs that are missing, and returns the cells of what was asked for and how the runs ended.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    from initbench.cli.run import check_out, perform, stopped

    console = Console(stderr=form != "table", highlight=False)
    with under_way(console, "loading torch"):
        from initbench.runs import store
        from initbench.studies.reproduce import missing
    lacking = missing(asked.mapped.trials, asked.overrides, options["data_root"])
    if lacking:
        raise MissingDataError(_lacking(asked.table, lacking))
    check_out(options["out"])
    outcomes = perform(requests_of(asked, asked.mapped.trials, seeds, placebo, options), resources, console)
    states: Counter[str] = Counter()
    cells, folders = set(), 0
    for outcome in outcomes:
        states[outcome.state] += 1
        if outcome.folder is not None:
            folders += 1
            record = store.read_record(outcome.folder)
            if record is not None:
                cells.add(record.cell)
    if states["interrupted"]:
        raise InterruptedRunError(f"{stopped(outcomes)} --report-only shows what is there.")
    if not folders:  # all for the same reason, as a setting that is none
        if outcomes[0].state == "refused":
            raise UsageError(outcomes[0].message)
        raise InitbenchError(outcomes[0].message)
    return frozenset(cells), states


def _lacking(table: Table, lacking: Mapping[str, str]) -> str:
    """Returns which data a table needs that are not here, and what to do about it."""
    said = with_reasons(lacking)
    return f"{table.full_name} needs {' and '.join(lacking)}. {said}. With other data: --dataset NAME, and the output says so"
