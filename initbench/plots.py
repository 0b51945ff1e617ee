"""What pictures share: colours, how slices of patients lie, and the files that commands draw into, checked before the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from initbench.errors import UsageError

# Okabe and Ito: told apart with every common colour vision, and in grey by their order of lightness.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

# Volumes are turned so that their axes grow towards right, anterior and superior; these lie at the other end.
OPPOSITE_SIDES = {"R": "L", "A": "P", "S": "I"}
# The sides that (D, H, W) grow towards, by the axis of the body that is D (`initbench.datasets.geometry.bind_axes`).
SIDES_BY_DEPTH = {"x": ("R", "S", "A"), "y": ("A", "S", "R"), "z": ("S", "A", "R")}
_SIDES = {"R": "the patient's right", "A": "anterior", "S": "superior"}
_PLANES = {"S": "Axial", "A": "Coronal", "R": "Sagittal"}

FORMS = (".png", ".svg", ".pdf")


def orientation(sides: Sequence[str]) -> str:
    """Says how slices lie that are drawn as radiologists look at them: the patient's right, or anterior, at the left.

    Args:
        sides: that (D, H, W) of the volume grow towards, each one of R, A and S.
    """
    depth, top, left = sides
    edges = f"{_SIDES[left]} ({left}) at the left edge, {_SIDES[top]} ({top}) at the upper edge"
    return f"{_PLANES[depth]} slices in radiological view, by the affines of the files: {edges}."


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
    if path.is_dir():
        raise UsageError(f"--plot {path}: it is a folder; name another file")
    if not path.parent.is_dir() and path.parent != made:
        raise UsageError(f"--plot {path}: there is no folder {path.parent.absolute()}; name another file")


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
