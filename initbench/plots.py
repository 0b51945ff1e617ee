"""The colours that pictures share, and the files that commands draw into, checked before the work that is to be drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from initbench.errors import UsageError

# Okabe and Ito: told apart with every common colour vision, and in grey by their order of lightness.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

FORMS = (".png", ".svg", ".pdf")


def check(path: Path | None, made: Path | None = None) -> None:
    """Refuses a file that nothing could be drawn into; none at all is fine.

    Args:
        path: what ``--plot`` names.
        made: a folder that the command makes before it draws.

    Raises:
        UsageError: its ending says no form, it is a folder, or its folder is not there.
    """
    if path is None:
        return
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"--plot {path}: the file ends in {', '.join(FORMS)}")
    if path.is_dir() or not (path.parent.is_dir() or path.parent == made):
        problem = "it is a folder" if path.is_dir() else f"there is no folder {path.parent.absolute()}"
        raise UsageError(f"--plot {path}: {problem}; name another file")


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Says which file could not be written.

    Raises:
        UsageError: it cannot.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"--plot {path} cannot be written ({error.strerror or error}); name another file") from None
