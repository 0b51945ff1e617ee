"""A study as one HTML file: tables to sort, pictures to look at; no torch, no network.

The package can be called, too: Python users look for `initbench.report(...)`, as the command is called ``report``, and a package
and a function of one name have one place.
"""

from __future__ import annotations

import html
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from initbench.choices import BASELINE, MARGIN

REPORT = "report.html"


@dataclass(frozen=True)
class Report:
    """A page that was written, and its size in bytes."""

    path: Path
    bytes: int

    def _repr_html_(self) -> str:
        """Returns a link to the page, which Jupyter shows."""
        address = html.escape(self.path.absolute().as_uri())
        return f'<a href="{address}">{html.escape(str(self.path))}</a> ({self.bytes / 1e6:.1f} MB)'


def report(
    out: str | Path = "runs", *, file: str | Path | None = None, against: str = BASELINE, margin: float = MARGIN
) -> Report:
    """Writes a study as one HTML page; the same as the command ``initbench report``.

    Args:
        out: folder of runs.
        file: page to write; by default ``report.html`` in the folder of runs.
        against: init that the others are compared with.
        margin: Dice points within which two inits are equivalent.

    Raises:
        UsageError: there is no such folder, no run in it, no such init, or the file is a folder.
    """
    from initbench.errors import UsageError
    from initbench.report import page
    from initbench.tables import words
    from initbench.tables.leaderboard import check_control
    from initbench.tables.study import read_study

    study = read_study(Path(out))
    path = Path(out) / REPORT
    if file is not None:
        path = Path(file)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    control = words.meant(against, study.names)
    check_control(study, control)
    page.write(study, path, against=control, margin=margin)
    return Report(path, path.stat().st_size)


class _Room(ModuleType):
    """The module, which can be called."""

    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Room
