"""``initbench reproduce``. Without runs to do it imports no torch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from initbench import plots
from initbench.choices import MARGIN, REGIMEN, SheetForm
from initbench.cli.command import command
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
    from initbench.harness.cell import Steps
    from initbench.harness.request import RunRequest
    from initbench.published.tables import Table
    from initbench.published.trials import Overrides, Trial
    from initbench.runs.costs import StudyPlan
    from initbench.spec import Spec
    from initbench.studies.engine import Resources
    from initbench.studies.forecast import Timing
    from initbench.studies.reproduce import Workload
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
        raise UsageError(f"{name}: none of its rows can run; {_with_reasons(asked.mapped.reasons)}")
    if report_only:
        _report(asked, None, out, plot, form)
        return
    wanted = asked.seeds or range(3)
    # Settings of --set go to the rows that take them, by way of `asked.overrides`.
    options = {**training.as_run_options(), "assignments": [], "out": out, "fast": fast}
    if dry_run:
        _dry_run(asked, wanted, placebo, jobs, form, options, measure=measure)
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
        rows.append(_cells(value, columns))
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
    outcomes = perform(_requests(asked, asked.mapped.trials, seeds, placebo, options), resources, console)
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


def _requests(
    asked: Asked, rows: Sequence[Trial], seeds: Sequence[int], placebo: bool, options: dict[str, Any]
) -> list[RunRequest]:
    """Returns the runs behind rows of a table, each once."""
    from initbench.studies.reproduce import trial_requests

    return trial_requests(rows, asked.overrides, list(seeds), _control(rows, placebo=placebo), options)


def _control(rows: Sequence[Trial], *, placebo: bool) -> Trial | None:
    """Returns the row whose placebo is run, too; None where none is wanted."""
    from initbench.tables.reproduce.matching import control

    if not placebo:
        return None
    return control(rows)


def _lacking(table: Table, lacking: Mapping[str, str]) -> str:
    """Returns which data a table needs that are not here, and what to do about it."""
    said = _with_reasons(lacking)
    return f"{table.full_name} needs {' and '.join(lacking)}. {said}. With other data: --dataset NAME, and the output says so"


def _with_reasons(found: Mapping[str, str]) -> str:
    """Returns names, each with its reason, in a line."""
    return "; ".join(f"{name}: {reason}" for name, reason in found.items())


def _dry_run(
    asked: Asked,
    seeds: Sequence[int],
    placebo: bool,
    jobs: int,
    form: SheetForm,
    options: dict[str, Any],
    *,
    measure: bool | None,
) -> None:
    """Prints what would run: cells, hours and disk of rows whose data are here, and what the others lack.

    Where none are here, hours can still be measured, on volumes that stand in for them. Exits as `plan` does.
    """
    console = Console(stderr=True, highlight=False)
    with under_way(console, "loading torch"):
        from initbench.cli.plan import chosen_timing, end
        from initbench.studies.reproduce import missing
    lacking = missing(asked.mapped.trials, asked.overrides, options["data_root"])
    here = []
    for trial in asked.mapped.trials:
        if trial.dataset not in lacking:
            here.append(trial)
    wanted = _wanted(asked, seeds, lacking, placebo=placebo)
    timing = chosen_timing(measure, is_here=True)
    look = partial(_study, asked, seeds, placebo, jobs, options, console, timing=timing)
    if here:
        study, found = look(here)
    elif measure:
        study, found = _on_stand_ins(look, asked.mapped.trials, lacking)
    else:
        unknown = "Hours: unknown without the data; --measure times steps on made-up volumes of the same size."
        show([replace(wanted, notes=(*wanted.notes, unknown))], form)
        return
    show([wanted, *found], form)
    end(study)


def _study(
    asked: Asked,
    seeds: Sequence[int],
    placebo: bool,
    jobs: int,
    options: dict[str, Any],
    console: Console,
    rows: Sequence[Trial],
    *,
    timing: Timing,
) -> tuple[StudyPlan, list[Sheet]]:
    """Returns what rows would take, and the tables of it."""
    from initbench.cli.plan import DOING, blocks
    from initbench.studies.forecast import plan_study
    from initbench.tables.plan import plan_sheets

    planned = _requests(asked, rows, seeds, placebo, options)
    protocols = " and ".join(dict.fromkeys(trial.protocol for trial in rows))
    with under_way(console, DOING[timing]):
        study = plan_study(planned, protocols, jobs, timing=timing)
    return study, plan_sheets(study, blocks(options["out"]))


def _on_stand_ins(
    look: Callable[[Sequence[Trial]], tuple[StudyPlan, list[Sheet]]], rows: Sequence[Trial], lacking: Iterable[str]
) -> tuple[StudyPlan, list[Sheet]]:
    """Returns what rows would take whose data are not here, and the tables of it."""
    from initbench.studies.standin import KINDS, stand_ins

    there = []
    with stand_ins(lacking) as folders:
        for row in rows:
            if row.dataset in folders:
                there.append(replace(row, dataset=folders[row.dataset]))
        study, sheets = look(there)
    kinds = _with_reasons({name: KINDS[name] for name in folders})
    said = f"Timed on made-up volumes ({kinds}): the data are not here. Preprocessing them comes on top."
    first = replace(sheets[0], notes=(said, *sheets[0].notes))
    return study, [_renamed(sheet, folders) for sheet in (first, *sheets[1:])]


def _renamed(sheet: Sheet, folders: Mapping[str, str]) -> Sheet:
    """Returns a sheet with the names of data sets where it names the folders of what stood in for them."""
    notes = []
    for note in sheet.notes:
        renamed = note
        for name, folder in folders.items():
            renamed = renamed.replace(folder, name)
        notes.append(renamed)
    return replace(sheet, notes=tuple(notes))


def _wanted(asked: Asked, seeds: Sequence[int], lacking: Mapping[str, str], *, placebo: bool) -> Sheet:
    """Returns the rows as they would run."""
    from initbench.studies import reproduce
    from initbench.tables.sheet import Sheet

    trials = asked.mapped.trials
    columns = ["row", "init", "regimen", "backbone", "dataset", "protocol", "settings"]
    if {str(trial.regimen) for trial in trials} <= {REGIMEN}:
        columns.remove("regimen")
    values, told = [], []
    for trial in trials:
        steps = reproduce.steps(trial, asked.overrides)
        row = _planned_row(trial, steps, here=trial.dataset not in lacking)
        values.append(row)
        told.append({**row, "backbone": _in_words(trial.backbone), "steps": _steps_in_words(steps)})
    common = {}
    for column in ("backbone", "dataset", "protocol", "settings"):
        shared = {row[column] for row in told}
        if len(shared) == 1:
            columns.remove(column)
            common[column] = shared.pop()
    columns.append("steps")
    rows = [_cells(row, columns) for row in told]
    work = reproduce.workload_of(trials, asked.overrides, len(seeds), _control(trials, placebo=placebo))
    notes = [_work_in_words(work)]
    for name, reason in lacking.items():
        problem, _, details = reason.partition(". ")
        notes.append(f"Data are missing: {name}: {problem}")
        if details:
            notes[-1] += f"; initbench data info {name} says where it is looked for and how to get it"
    for label, reason in asked.mapped.reasons.items():
        notes.append(f"{label}: {reason}.")
    instead = asked.overrides.words()
    if instead:
        notes.append(f"Asked with {', '.join(instead)}: published numbers are of another question.")
    lengths = f"{asked.overrides.size} size, {asked.overrides.budget} budget"
    return Sheet(
        title=f"{asked.table.full_name} would run {len(values)} rows × {len(seeds)} seeds",
        subtitle=" · ".join([asked.table.title, lengths, *_all_rows(common)]),
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(notes),
        values=tuple(values),
        names=len(columns) - 1,
    )


def _cells(row: Mapping[str, object], columns: Sequence[str]) -> tuple[str, ...]:
    """Returns a row as text, in the order of the columns."""
    return tuple(str(row[column]) for column in columns)


def _in_words(backbone: Spec) -> str:
    """Returns a backbone and its variant, which a narrow column can break between."""
    return " ".join([backbone.name, *map(str, dict(backbone.params).values())])


def _all_rows(common: Mapping[str, str]) -> list[str]:
    """Returns what all rows share, in words: a list of one text, or none where they share nothing."""
    shared = []
    for name, value in common.items():
        if value:
            shared.append(f"{name} {value}")
    if not shared:
        return []
    return [f"all rows: {', '.join(shared)}"]


def _planned_row(trial: Trial, steps: Steps | None, *, here: bool) -> dict[str, Any]:
    """Returns a row as it would run, for machines; `here` says whether its data are."""
    pretext, train = None, None
    if steps:
        pretext, train = steps.pretext, steps.train
    return {
        "of": "planned row",
        "row": trial.label,
        "init": str(trial.init),
        "regimen": str(trial.regimen),
        "backbone": str(trial.backbone),
        "dataset": trial.dataset,
        "protocol": trial.protocol,
        "pretext_steps": pretext,
        "train_steps": train,
        "settings": ", ".join(_special(trial)),
        "here": here,
    }


def _steps_in_words(steps: Steps | None) -> str:
    """Returns the steps of a row: of the pretext, where it has one, and of the training."""
    if steps is None:
        return "by cases"
    if steps.pretext:
        return f"{steps.pretext:,}+{steps.train:,}"
    return f"{steps.train:,}"


def _work_in_words(work: Workload) -> str:
    """Returns how many cells, runs and steps there are."""
    from initbench.tables import words

    runs = f"{words.count(work.cells, 'cell')} and {words.count(work.runs, 'run')} of them with these seeds, each made once"
    if work.steps is None:
        return f"{runs}; the training cases decide how many steps a run has."
    return f"{runs}: {work.steps:,} steps, those of a pretext (the first of two numbers) among them."


def _special(trial: Trial) -> list[str]:
    """Returns the settings in which a row differs from its recipe, in words."""
    told = list(trial.assignments)
    if trial.length != 1:
        told.append(f"{trial.length:g} × the steps")
    if trial.train_cases:
        told.append(f"{trial.train_cases} training cases")
    if trial.split:
        told.append(f"split {trial.split}")
    return told
