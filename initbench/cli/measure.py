"""``initbench measure``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from initbench.cli.checks import Report
from initbench.cli.command import command
from initbench.cli.options import (
    NSD_TOLERANCE_MM,
    DataRootOption,
    JsonOption,
    RecordedDeviceOption,
    RunCodeOption,
    ToleranceOption,
)
from initbench.cli.output import shown, write_json
from initbench.cli.verify import RunFoldersArgument, runs_below
from initbench.errors import InitbenchError

if TYPE_CHECKING:
    from initbench.audit.add_distances import AddedDistances


@command
def measure(
    runs: RunFoldersArgument,
    nsd_tolerance: ToleranceOption = NSD_TOLERANCE_MM,
    device: RecordedDeviceOption = None,
    data_root: DataRootOption = None,
    run_code: RunCodeOption = False,
    json: JsonOption = False,
) -> None:
    """Add HD95, surface Dice, RAVD, ASSD and MSSD to finished runs.

    Takes them from the predictions of a run, or from its weights; nothing is trained. Exits with 1 where a run was refused; the
    others are measured.
    """
    found = runs_below(runs)
    report = Report(json)
    with report.status("loading torch"):
        from initbench.audit.add_distances import add_distances
    rows, is_refused = [], False
    for run in found:
        with report.status(str(run)):
            try:
                done = add_distances(run, tolerance_mm=nsd_tolerance, device=device, data_root=data_root, run_code=run_code)
                row = _row(run, "cached", done)
                if done.cases:
                    row["state"] = "measured"
            except (InitbenchError, OSError) as error:
                row = _row(run, "refused", message=str(error))
            except Exception as error:  # readers and networks of others raise what they like; the next run may be another's
                row = _row(run, "refused", message=f"{type(error).__name__}: {error}")
        is_refused = is_refused or row["state"] == "refused"
        rows.append(row)
        if not json:
            _print(report.console, row)
    if json:
        write_json(rows)
    if is_refused:
        sys.exit(1)


def _row(run: Path, state: str, done: AddedDistances | None = None, message: str = "") -> dict[str, Any]:
    """Returns what became of a run, with what was measured of it, if anything was."""
    cases, seconds, source = 0, 0.0, ""
    if done is not None:
        cases, seconds, source = done.cases, done.seconds, done.source
    return {"run": str(run), "state": state, "cases": cases, "seconds": seconds, "source": source, "message": message}


def _print(console: Console, row: dict[str, Any]) -> None:
    """Prints what became of a run, on a line."""
    from initbench.tables.words import count

    said = {
        "measured": f"{count(row['cases'], 'case')} from the {row['source']} in {row['seconds']:.1f} s",
        "cached": "its distances are there",
        "refused": row["message"],
    }
    console.print(shown(f"{row['state']:<8} {row['run']}  {said[row['state']]}"), soft_wrap=True)
