"""``initbench verify``."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from initbench.errors import UsageError
from initbench.runs import store

if TYPE_CHECKING:
    from initbench.harness.verify import Finding


def verify_command(folders: list[Path], *, steps: int, device: str | None, json: bool) -> None:
    """Looks at runs, or at all runs below a folder. Exits with 1 where one is not what it says."""
    runs = [run for folder in folders for run in _runs(folder)]
    console = Console(stderr=json, highlight=False)
    with console.status("loading torch") if console.is_terminal else contextlib.nullcontext():
        from initbench.harness.verify import verify
    found = {}
    for run in runs:
        with console.status(str(run)) if console.is_terminal else contextlib.nullcontext():
            found[run] = verify(run, steps=steps, device=device)
        if not json:
            console.print(_table(run, found[run]))
    wrong = [run for run, findings in found.items() if not all(finding.passed for finding in findings)]
    if json:
        plain = {str(run): [asdict(finding) for finding in findings] for run, findings in found.items()}
        sys.stdout.write(json_module.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    else:
        console.print(f"{len(runs) - len(wrong)} of {len(runs)} runs are what they say")
    if wrong:
        sys.exit(1)


def _runs(folder: Path) -> list[Path]:
    if (folder / store.RECORD).exists():
        return [folder]
    below = sorted(path.parent for path in folder.glob(f"**/seed-*/{store.RECORD}"))
    finished = [path for path in below if (store.read_record(path) or {"status": "ok"})["status"] in store.FINISHED]
    if not finished:
        raise UsageError(f"{folder} is no run and holds none with a result")
    return finished


def _table(run: Path, findings: list[Finding]) -> Table:
    table = Table(title=str(run), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for header in ("check", "", "detail"):
        table.add_column(header, overflow="fold", no_wrap=header != "detail")
    for finding in findings:
        table.add_row(finding.name, "ok" if finding.passed else "[bold red]FAILED[/]", escape(finding.detail))
    return table
