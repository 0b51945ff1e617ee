"""``initbench report``. No torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from initbench.errors import UsageError
from initbench.leaderboard.study import Study
from initbench.report import page


def report_command(study: Study, file: Path, against: str, margin: float) -> None:
    """Writes the report of a study and says where."""
    if not margin > 0:
        raise UsageError("--margin 0: equivalence needs one above 0")
    if file.is_dir():
        raise UsageError(f"--html {file}: that is a folder; name a file")
    page.write(study, file, against=against, margin=margin)
    Console(highlight=False, soft_wrap=True).print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)", markup=False)
