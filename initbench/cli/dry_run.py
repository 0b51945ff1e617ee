"""What ``initbench reproduce --dry-run`` prints: the rows of a published table that would run, hours, and missing data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench.choices import REGIMEN, SheetForm
from initbench.cli.output import show, under_way

if TYPE_CHECKING:
    from initbench.harness.cell import Steps
    from initbench.harness.request import RunRequest
    from initbench.published.trials import Trial
    from initbench.runs.costs import StudyPlan
    from initbench.spec import Spec
    from initbench.studies.forecast import Timing
    from initbench.studies.reproduce import Workload
    from initbench.tables.reproduce.measured import Asked
    from initbench.tables.sheet import Sheet


def show_dry_run(
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

    Args:
        asked: rows of a published table.
        seeds: of each row.
        placebo: whether the placebo of the control row runs, too.
        jobs: runs at a time.
        form: of the output.
        options: of every run.
        measure: as `plan --measure` has it.
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

    planned = requests_of(asked, rows, seeds, placebo, options)
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
    kinds = with_reasons({name: KINDS[name] for name in folders})
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
    rows = [cells_of(row, columns) for row in told]
    work = reproduce.workload_of(trials, asked.overrides, len(seeds), control_of(trials, placebo=placebo))
    notes = [_work_in_words(work)]
    for name, reason in lacking.items():
        problem, _, details = reason.partition(". ")
        notes.append(f"Data are missing: {name}: {problem}")
        if details:
            notes[-1] += f"; initbench data info {name} says what to do"
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


def requests_of(
    asked: Asked, rows: Sequence[Trial], seeds: Sequence[int], placebo: bool, options: dict[str, Any]
) -> list[RunRequest]:
    """Returns the runs behind rows of a table, each once.

    Args:
        asked: what is asked of the table.
        rows: of it.
        seeds: of each row.
        placebo: whether the placebo of the control row runs, too.
        options: of every run.
    """
    from initbench.studies.reproduce import trial_requests

    return trial_requests(rows, asked.overrides, list(seeds), control_of(rows, placebo=placebo), options)


def control_of(rows: Sequence[Trial], *, placebo: bool) -> Trial | None:
    """Returns the row whose placebo is run, too; None where none is wanted."""
    from initbench.tables.reproduce.matching import control

    if not placebo:
        return None
    return control(rows)


def cells_of(row: Mapping[str, object], columns: Sequence[str]) -> tuple[str, ...]:
    """Returns a row as text, in the order of the columns."""
    return tuple(str(row[column]) for column in columns)


def with_reasons(found: Mapping[str, object]) -> str:
    """Returns names, each with its reason, in a line."""
    return "; ".join(f"{name}: {reason}" for name, reason in found.items())
