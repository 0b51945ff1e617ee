"""``initbench report``. It imports no torch."""

from __future__ import annotations

from rich.console import Console

from initbench.choices import BASELINE, MARGIN
from initbench.cli.command import command
from initbench.cli.groups import ReadRuns
from initbench.cli.options import AgainstOption, FileOption, MarginOption
from initbench.cli.statistics import read
from initbench.errors import UsageError


@command
def report(runs: ReadRuns, against: AgainstOption = BASELINE, margin: MarginOption = MARGIN, file: FileOption = None) -> None:
    """Write a study as one HTML page.

    It has leaderboards to sort, charts and cases, and needs no network. It is written to report.html in the folder of runs, or
    to --file.
    """
    from initbench.report import page
    from initbench.tables import words
    from initbench.tables.leaderboard import check_control

    study = read(runs)
    file = file or runs.out / "report.html"
    if file.is_dir():
        raise UsageError(f"--file {file}: that is a folder; name a file")
    control = words.meant(against, study.names)
    check_control(study, control)
    page.write(study, file, against=control, margin=margin)
    Console(highlight=False, soft_wrap=True).print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)", markup=False)
