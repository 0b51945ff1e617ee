"""What `import initbench` offers of the commands: a study is run with its progress shown, and tables are objects.

An object shows itself as the command prints it, in a notebook as HTML, and its `frame` holds the rows for machines.
"""

from __future__ import annotations

import html
import io
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import pandas as pd
from rich.console import Console

from initbench.choices import (
    BASELINE,
    DATASET,
    EXECUTOR,
    MARGIN,
    CountedOn,
    DicePolicy,
    LeaderboardBy,
    Metric,
)
from initbench.errors import UsageError
from initbench.printable import clean
from initbench.tables import words
from initbench.tables.sheet import Sheet, as_csv, as_latex, as_markdown, plain_rows, terminal
from initbench.tables.study import Scoring, Study, read_study

if TYPE_CHECKING:
    from initbench.harness.execute import Outcome
    from initbench.harness.request import Components
    from initbench.protocols import KindRule, Reporter
    from initbench.spec import Spec
    from initbench.studies.sweep import Options

_WIDTH = 120  # characters of a table where there is no terminal to say it


class ReadOptions(TypedDict, total=False):
    """Which runs a table reads, and how it counts their Dice.

    Attributes:
        dataset: only runs on these data sets, one or several.
        backbone: only runs of these backbones, one or several.
        shared_seeds: only the seeds that every init of a block has.
        dice_policy: what a class scores where the reference lacks it.
        classes: classes that count, or the name of a set of them as ``synapse-8``.
        grid: voxels that are counted, the image's own or what networks see.
    """

    dataset: str | Sequence[str]
    backbone: str | Sequence[str]
    shared_seeds: bool
    dice_policy: DicePolicy
    classes: str | Sequence[str]
    grid: CountedOn


@dataclass(frozen=True, repr=False)
class Tables(Sequence[Sheet]):
    """Tables as a command prints them.

    Attributes:
        sheets: the tables, each with its title, its rows and its notes.
        beside: tables of other kinds of rows, which are shown below them and are not in `frame`.
    """

    sheets: tuple[Sheet, ...]
    beside: tuple[Sheet, ...] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each row of a table, with numbers in place of their texts."""
        return pd.DataFrame(plain_rows(self.sheets))

    def to_markdown(self) -> str:
        """Writes the tables in Markdown."""
        return as_markdown([*self.sheets, *self.beside])

    def to_latex(self) -> str:
        """Writes the tables in LaTeX, for the package booktabs."""
        return as_latex([*self.sheets, *self.beside])

    def to_csv(self) -> str:
        """Writes the rows of `frame` as CSV, a heading first."""
        return as_csv(self.sheets)

    def __getitem__(self, place: Any) -> Any:
        """Returns the table at a place, or the tables of a slice."""
        return self.sheets[place]

    def __len__(self) -> int:
        """How many tables there are."""
        return len(self.sheets)

    def __repr__(self) -> str:
        """The tables as a terminal shows them."""
        out = io.StringIO()
        terminal([*self.sheets, *self.beside], Console(file=out, highlight=False, width=_width(), color_system=None))
        return out.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """The tables as a notebook shows them."""
        return "".join(map(_as_html, [*self.sheets, *self.beside]))


class Outcomes(list["Outcome"]):
    """How the runs of a study ended, one outcome a run."""

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run."""
        rows = []
        for outcome in self:
            request = outcome.request
            path = None
            if outcome.folder:
                path = str(outcome.folder)
            row = {
                "state": outcome.state,
                "init": str(request.init),
                "backbone": str(request.backbone),
                "dataset": str(request.dataset),
                "regimen": str(request.regimen),
                "seed": request.seed,
                "dice": outcome.dice,
                "message": outcome.message,
                "path": path,
            }
            rows.append(row)
        return pd.DataFrame(rows)

    def _sheet(self) -> Sheet:
        rows, values = [], []
        for outcome in self:
            dice = "–"
            if outcome.dice is not None:
                dice = f"{100 * outcome.dice:.1f}"
            rows.append((outcome.state, outcome.request.label, dice, outcome.message))
            values.append({"state": outcome.state, "run": outcome.request.label, "dice": outcome.dice})
        return Sheet(
            title=words.count(len(self), "run"),
            subtitle="their records lie in the folder of runs",
            columns=("state", "run", "Dice", ""),
            rows=tuple(rows),
            notes=(),
            values=tuple(values),
            names=2,
        )

    def __repr__(self) -> str:
        """A table of the runs."""
        return repr(Tables((self._sheet(),)))

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return _as_html(self._sheet())


def run(
    init: Components,
    backbone: Components,
    dataset: Components = DATASET,
    *,
    jobs: int = 1,
    devices: Sequence[int] = (),
    executor: str | Spec = EXECUTOR,
    rule: KindRule = "pairs",
    progress: bool = True,
    reporter: Reporter | None = None,
    skip_refused: bool = False,
    **options: Unpack[Options],
) -> Outcomes:
    """Runs what is missing of a sweep and shows how far it is; the same as the command ``initbench run``.

    Every run is looked at before the first step. Where some cannot be run as they are asked for, none is.

    Args:
        init: initializers, as a name, a comma list, a sequence or specs; parameters inline: ``lwi(mask_ratio=0.6)``.
        backbone: backbones, likewise.
        dataset: data sets, likewise, or paths of Decathlon folders.
        jobs: runs at a time on each device; 0 for as many as there is memory for.
        devices: numbers of the CUDA devices; all of them without any.
        executor: hands the runs to whatever does them, as a name, ``name(key=value)`` or a spec.
        rule: whether all inits of a block and seed have to be on one kind of device, see `initbench.protocols.KindRule`.
        progress: whether progress is shown, on standard error.
        reporter: told of progress in place of whoever looks on.
        skip_refused: runs the others where some cannot be run.
        **options: the command's options, see `Options`.

    Returns:
        One outcome a run, in the order seeds x datasets x backbones x regimens x inits.

    Raises:
        UsageError: the request itself is wrong, or nothing was run because runs cannot be; names the reasons. What goes wrong
            in a run is in its outcome.
        MissingDataError: none of the data sets is here.
    """
    from initbench.spec import as_spec
    from initbench.studies.engine import Resources
    from initbench.studies.sweep import check_some_data, cross_requests, run_planned

    requests = cross_requests(init, backbone, dataset, **options)
    check_some_data(requests)
    resources = Resources(as_spec(executor), jobs, tuple(devices), rule)
    # Signals, by which the command stops softly, reach the main thread alone.
    if progress and reporter is None and threading.current_thread() is threading.main_thread():
        from initbench.cli.run import perform

        outcomes = perform(requests, resources, Console(stderr=True), skip_refused=skip_refused)
    else:
        outcomes = run_planned(requests, resources, reporter, skip_refused=skip_refused)
    _check_something_was_done(outcomes)
    return Outcomes(outcomes)


def _check_something_was_done(outcomes: Sequence[Outcome]) -> None:
    """Refuses a study of which nothing was run because runs of it cannot be.

    Raises:
        UsageError: names every reason once.
    """
    states = Counter(outcome.state for outcome in outcomes)
    refused = states["refused"]
    if not refused or states.keys() - {"refused", "pending", "cached"}:
        return
    messages = [outcome.message for outcome in outcomes if outcome.state == "refused"]
    reasons = "; ".join(dict.fromkeys(messages))
    if refused == len(outcomes):
        raise UsageError(f"no run of this study can be: {reasons}")
    if states["pending"]:
        told = f"nothing was run: {refused} of {len(outcomes)} runs cannot be ({reasons})"
        raise UsageError(f"{told}; add skip_refused=True to run the others")


def plan(
    init: Components,
    backbone: Components,
    dataset: Components = DATASET,
    *,
    jobs: int = 1,
    measure: bool | None = None,
    **options: Unpack[Options],
) -> Tables:
    """Shows what `run` would do with the same arguments: runs, hours, disk, and the differences that the study could find.

    Args:
        init: as for `run`.
        backbone: as for `run`.
        dataset: as for `run`.
        jobs: as for `run`.
        measure: whether a few steps are timed where no run says how long one takes; by default where it takes less than a minute.
        **options: as for `run`.

    Raises:
        UsageError: the request itself is wrong.
    """
    from initbench.cli.plan import blocks, chosen_timing
    from initbench.studies.forecast import plan_study
    from initbench.studies.sweep import cross_requests
    from initbench.tables.plan import plan_sheets

    requests = cross_requests(init, backbone, dataset, **options)
    timing = chosen_timing(measure, is_here=True)
    planned = plan_study(requests, options.get("protocol", "equal-total"), jobs, timing=timing)
    return Tables(tuple(plan_sheets(planned, blocks(requests[0].out))))


def leaderboard(
    out: str | Path = "runs",
    *,
    by: LeaderboardBy = "block",
    against: str = BASELINE,
    margin: float = MARGIN,
    letters: bool = False,
    **which: Unpack[ReadOptions],
) -> Tables:
    """Tells each init's Dice, verdict and rank; the same as the command ``initbench leaderboard``.

    Args:
        out: folder of runs.
        by: over which blocks a table pools.
        against: init that the others are compared with.
        margin: Dice points within which two inits are equivalent.
        letters: whether inits share a letter where no difference between them was found.
        **which: the runs that are read, see `ReadOptions`.

    Raises:
        UsageError: there is no such folder, no such run in it, or no such init.
    """
    from initbench.tables.boards import boards

    sheets, below = boards(_read(out, which), by, against, margin, letters=letters)
    return Tables(tuple(sheets), tuple(below))


def compare(
    first: str,
    second: str = BASELINE,
    *,
    out: str | Path = "runs",
    margin: float = MARGIN,
    firm: bool = False,
    **which: Unpack[ReadOptions],
) -> Tables:
    """Tells what can be claimed of two inits; the same as the command ``initbench compare``.

    Args:
        first: an init, as its row is called.
        second: the one it is compared with.
        out: folder of runs.
        margin: Dice points within which two inits are equivalent.
        firm: whether the tables in `Tables.beside` say what the verdict hangs on: single seeds, patients, classes, policies.
        **which: the runs that are read, see `ReadOptions`.

    Raises:
        UsageError: there is no such folder, no such run in it, or no such init.
    """
    from initbench.tables.compare import compare_sheets
    from initbench.tables.firm import firm_sheets, firmness

    study = _read(out, which)
    names = words.meant(first, study.names), words.meant(second, study.names)
    found = Tables(tuple(compare_sheets(study, *names, margin)))
    if not firm:
        return found

    def reread(scoring: Scoring) -> Study:
        return read_study(Path(out), _several(which.get("dataset", ())), _several(which.get("backbone", ())), scoring)

    return replace(found, beside=tuple(firm_sheets(firmness(study, reread, *names, margin), margin)))


def classes(out: str | Path = "runs", *, metric: Metric = "dice", **which: Unpack[ReadOptions]) -> Tables:
    """Tells each init per class; the same as the command ``initbench classes``.

    Args:
        out: folder of runs.
        metric: of the table. All but Dice are of runs that measured distances.
        **which: the runs that are read, see `ReadOptions`.

    Raises:
        UsageError: there is no such folder, no such run in it, or none with the metric.
    """
    from initbench.tables.classes import class_sheets

    return Tables(tuple(class_sheets(_read(out, which), metric)))


def variance(out: str | Path = "runs", *, across: bool = False, **which: Unpack[ReadOptions]) -> Tables:
    """Tells where the spread of Dice comes from; the same as the command ``initbench variance``.

    Args:
        out: folder of runs.
        across: whether the seed SDs of the inits are pooled over the blocks.
        **which: the runs that are read, see `ReadOptions`.

    Raises:
        UsageError: there is no such folder, or no such run in it.
    """
    from initbench.tables import variance as tables

    study = _read(out, which)
    if across:
        return Tables(tuple(tables.across(study.tables)))
    return Tables(tuple(tables.variance_sheets(study.tables)))


def _read(out: str | Path, which: ReadOptions) -> Study:
    """Reads the study of a folder; warns of runs that are in no table."""
    counted = Scoring(
        which.get("dice_policy", "reference-mask"),
        tuple(_several(which.get("classes", ()))),
        which.get("shared_seeds", False),
        which.get("grid", "native"),
    )
    study = read_study(Path(out), _several(which.get("dataset", ())), _several(which.get("backbone", ())), counted)
    for told in _told_of(study):
        warnings.warn(told, stacklevel=3)
    return study


def _told_of(study: Study) -> Iterator[str]:
    """Tells what was left out of a study, and what is doubtful."""
    if study.unreadable:
        runs = words.count(len(study.unreadable), "run")
        yield f"{runs} whose record cannot be used: {study.unreadable[0]}; `initbench status --out {study.out}` names all"
    if study.uncounted:
        yield f"runs without counts on the {study.scoring.grid} grid are kept off: {study.uncounted}"
    yield from study.doubts


def _several(names: str | Sequence[str]) -> list[str]:
    """Returns names as a list; a text is a comma list."""
    if not isinstance(names, str):
        return list(names)
    found = []
    for item in names.split(","):
        name = item.strip()
        if name:
            found.append(name)
    return found


def _width() -> int:
    console = Console()
    if not console.is_terminal:
        return _WIDTH
    return console.width


def _as_html(sheet: Sheet) -> str:
    """Writes a table with its title and notes in HTML; texts of others are no markup."""
    parts = [f"<h4>{_escaped(sheet.title)}</h4><p>{_escaped(sheet.subtitle)}</p>"]
    if sheet.rows:
        heads = "".join(f"<th>{_escaped(column)}</th>" for column in sheet.columns)
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>")
        for row in sheet.rows:
            cells = "".join(f"<td>{_escaped(cell)}</td>" for cell in row)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</tbody></table>")
    for note in sheet.below:
        parts.append(f"<p>{_escaped(note)}</p>")
    return "".join(parts)


def _escaped(text: str) -> str:
    return html.escape(clean(text))
