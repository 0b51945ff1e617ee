"""``initbench doctor``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from initbench.cli.command import command
from initbench.cli.options import RUNS, BackboneOption, DataRootOption, DeviceOption, JsonOption, OutOption, ThreadsOption
from initbench.cli.output import shown, under_way, write_json
from initbench.errors import InitbenchError

if TYPE_CHECKING:
    from initbench.doctor.findings import Finding, State

_COLOURS = {"ok": "green", "absent": "dim", "warning": "yellow", "problem": "bold red"}
_NAME_WIDTH = len("determinism weights")
_STATE_WIDTH = len("problem")


@command
def doctor(
    backbone: BackboneOption = "unetr",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    out: OutOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Tell whether this machine is fit for runs.

    Looks at versions, devices, data, plug-ins, determinism and speed, and trains the backbone for a few steps at tiny size. Exits
    with 1 where there is a problem.
    """
    from initbench.harness.request import read_component

    read_component("backbone", backbone)
    console, started = Console(highlight=False), time.perf_counter()
    with under_way(console, "loading torch", silent=json):
        try:
            from initbench.doctor.examination import SECTIONS, Examination, examine
            from initbench.doctor.findings import worst
        except (ImportError, OSError) as error:
            text = f"the installation is incomplete, {error}; install initbench again (pip install .)"
            raise InitbenchError(text) from error
    asked = Examination(device, threads, backbone, data_root, out)
    asked.resolved_device()
    findings: list[Finding] = []
    for section in SECTIONS:
        absent = []
        with under_way(console, section, silent=json):
            for finding in examine(section, asked):
                findings.append(finding)
                if finding.state == "absent":
                    absent.append(finding.name)
                elif not json:
                    _print(console, f"{section} {finding.name}", finding.state, finding.detail)
        if absent and not json:
            detail = f"{', '.join(absent)}; initbench data list says how to get them"
            _print(console, f"{section} not here", "absent", detail)
    seconds = time.perf_counter() - started
    if json:
        plain = [asdict(finding) for finding in findings]
        write_json({"state": worst(findings), "seconds": round(seconds, 1), "findings": plain})
    else:
        states = Counter(finding.state for finding in findings)
        console.print(f"{states['ok']} ok, {states['warning']} warning, {states['problem']} problem, in {seconds:.0f} s")
    if worst(findings) == "problem":
        sys.exit(1)


def _print(console: Console, name: str, state: State, detail: str) -> None:
    """Prints a finding, in columns that are alike for all findings."""
    from rich.table import Table

    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=_NAME_WIDTH)
    row.add_column(width=_STATE_WIDTH)
    row.add_column(overflow="fold")
    row.add_row(shown(name), f"[{_COLOURS[state]}]{state}[/]", shown(detail))
    console.print(row)
