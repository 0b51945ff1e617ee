"""``initbench doctor``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initbench.errors import InitbenchError

if TYPE_CHECKING:
    from initbench.doctor.findings import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor_command(device: str, threads: int, backbone: str, data_root: Path | None, out: Path, *, json: bool) -> None:
    """Prints what was found, section by section. Exits with 1 where there is a problem.

    Raises:
        UsageError: an unknown backbone, or a device that is not here.
        InitbenchError: the installation is so broken that nothing can be examined.
    """
    from initbench.harness.request import check_names

    check_names("backbone", [backbone])
    console, started = Console(highlight=False), time.perf_counter()
    with _status(console, "loading torch", json=json):
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
        with _status(console, section, json=json):
            found = examine(section, asked)
        findings += found
        if not json:
            _print(console, section, found)
    seconds = time.perf_counter() - started
    if json:
        table = {"state": worst(findings), "seconds": round(seconds, 1), "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json_module.dumps(table, indent=1, ensure_ascii=False) + "\n")
    else:
        counts = ", ".join(f"{sum(f.state == state for f in findings)} {state}" for state in ("ok", "warning", "problem"))
        console.print(f"{counts}, in {seconds:.0f} s")
    if worst(findings) == "problem":
        sys.exit(1)


@contextlib.contextmanager
def _status(console: Console, text: str, *, json: bool) -> Iterator[None]:
    with console.status(text) if console.is_terminal and not json else contextlib.nullcontext():
        yield


def _print(console: Console, section: str, found: list[Finding]) -> None:
    table = Table(title=section, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(no_wrap=True, min_width=7)
    table.add_column(overflow="fold")
    for finding in found:
        table.add_row(escape(finding.name), f"[{_COLOURS[finding.state]}]{finding.state}[/]", escape(finding.detail))
    console.print(table)
