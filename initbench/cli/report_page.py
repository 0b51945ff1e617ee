"""``initbench report``. No torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from initbench.errors import UsageError
from initbench.report import page
from initbench.tables import words
from initbench.tables.leaderboard import check_control
from initbench.tables.study import Study


def report_command(study: Study, file: Path, against: str, margin: float) -> None:
    """Writes the report of a study and says where."""
    if file.is_dir():
        raise UsageError(f"--html {file}: that is a folder; name a file")
    control = words.meant(against)
    check_control(study, control)
    page.write(study, file, against=control, margin=margin)
    Console(highlight=False, soft_wrap=True).print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)", markup=False)
