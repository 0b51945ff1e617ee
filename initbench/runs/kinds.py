"""On which kind of device the runs of a pair are done: who begins the first of them decides, for all processes and machines.

OUT/.kinds/<pair>     the kind, as text
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from initbench.limits import MAX_STATE, read_regular
from initbench.printable import printable

KINDS = ".kinds"
_PAIR = re.compile("[0-9a-f]+")


def fixed_kind(out: Path, pair: str) -> str:
    """Returns the kind of device of a pair. It is empty before the first run of the pair begins."""
    if not pair:
        return ""
    try:
        return read_regular(out / KINDS / pair, MAX_STATE).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def fix_kind(out: Path, pair: str, kind: str) -> str:
    """Fixes the kind of device of a pair where nobody has, and returns what is fixed.

    Args:
        out: folder of the study.
        pair: block and seed, as a digest; "" where they are not known, and then nothing is fixed.
        kind: of the device that is about to take a run of the pair.
    """
    known = fixed_kind(out, pair)
    if known or not pair:
        return known or kind
    with contextlib.suppress(OSError):  # where nothing can be written, the runs themselves say so
        _write_first(out / KINDS / pair, kind)
    return fixed_kind(out, pair) or kind


def take_kinds(out: Path, site: Path) -> None:
    """Fixes the kinds of the pairs of another folder of the same study, where none is fixed yet."""
    for path in (site / KINDS).glob("*"):
        if not _PAIR.fullmatch(path.name):
            continue
        kind = printable(fixed_kind(site, path.name))
        if kind:
            fix_kind(out, path.name, kind)


def _write_first(path: Path, text: str) -> None:
    """Writes a file whole, unless it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        try:
            path.hardlink_to(temporary)  # of two links to one name the second fails, and no reader sees half a file
        except FileExistsError:
            return
        except OSError:  # a file system without links: of two at the same moment the later one stays
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
