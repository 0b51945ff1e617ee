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
    from initbench.doctor.findings import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


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
        with under_way(console, section, silent=json):
            found = examine(section, asked)
        findings += found
        if not json:
            _print(console, section, found)
    seconds = time.perf_counter() - started
    if json:
        plain = [asdict(finding) for finding in findings]
        write_json({"state": worst(findings), "seconds": round(seconds, 1), "findings": plain})
    else:
        states = Counter(finding.state for finding in findings)
        console.print(f"{states['ok']} ok, {states['warning']} warning, {states['problem']} problem, in {seconds:.0f} s")
    if worst(findings) == "problem":
        sys.exit(1)


def _print(console: Console, section: str, found: list[Finding]) -> None:
    """Prints what was found in a section."""
    from rich.table import Table

    table = Table(title=section, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for finding in found:
        table.add_row(shown(finding.name), f"[{_COLOURS[finding.state]}]{finding.state}[/]", shown(finding.detail))
    console.print(table)
