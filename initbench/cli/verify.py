"""``initbench verify``."""

from __future__ import annotations

from pathlib import Path

from initbench.cli.checks import Report
from initbench.errors import UsageError
from initbench.runs import store


def verify_command(folders: list[Path], *, steps: int, device: str | None, data_root: Path | None, json: bool) -> None:
    """Looks at runs, or at all runs below a folder. Exits with 1 where one is not what it says."""
    runs = [run for folder in folders for run in runs_below(folder)]
    report = Report(json)
    with report.status("loading torch"):
        from initbench.audit.verify import verify
    for run in runs:
        with report.status(str(run)):
            checks = verify(run, steps=steps, device=device, data_root=data_root)
        report.add(str(run), {"run": str(run)}, checks)
    report.close()


def runs_below(folder: Path) -> list[Path]:
    """The run that a folder is, or the finished ones below it.

    Raises:
        UsageError: there are none.
    """
    if (folder / store.RECORD).exists():
        return [folder]
    below = sorted(path.parent for path in folder.glob(f"**/seed-*/{store.RECORD}"))
    finished = [path for path in below if (store.read_record(path) or {"status": "ok"})["status"] in store.FINISHED]
    if not finished:
        raise UsageError(f"{folder} is no run and holds none with a result")
    return finished
