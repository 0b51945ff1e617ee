"""Python files that a record names: they are compared with the record before any of their code runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from initbench import spec
from initbench.errors import UsageError
from initbench.paths import home, is_file
from initbench.runs.record import Record
from initbench.spec import Spec

_NAMED = re.compile(r"(?P<file>[^/(),='\"]+\.py):(?P<function>\w+)@(?P<digest>[0-9a-f]{8})")
"""A file in the resolved name of a component, with the beginning of its digest."""
CONSENT = "--run-code"


def check_code(folder: Path, record: Record, *, consent: bool) -> None:
    """Refuses a record whose code is not the code that the run was made with, or comes from elsewhere.

    A record may come from anybody, and what it names is imported when its request is resolved. Files below the current folder
    are the user's own, unless they lie in the study itself, which may have been copied here.

    Args:
        folder: of the run.
        record: of the run.
        consent: whether somebody has asked for code from elsewhere to be run.

    Raises:
        UsageError: a file is gone, has another content, or lies elsewhere; names it. Nothing of it was run.
    """
    resolved = record.resolved
    recorded = {}
    for name in (str(resolved.init), str(resolved.backbone)):
        for found in _NAMED.finditer(name):
            recorded[found["file"], found["function"]] = found["digest"]
    for text in (record.asked.init, record.asked.backbone):
        for item in _files(spec.parse(text)):
            written, _, function = item.name.rpartition(":")
            path = home(written)
            _check_digest(path, recorded.get((path.name, function), ""))
            if not consent and _is_elsewhere(path, folder):
                raise UsageError(
                    f"the run was made with code in {path}, which is not below the folder that you are in; nothing of it was "
                    f"run. Look at it, then add {CONSENT}"
                )


def _files(component: Spec) -> Iterator[Spec]:
    """The components that are functions in files: the component itself, and those inside it."""
    if component.is_file:
        yield component
    for _, value in component.params:
        if isinstance(value, Spec):
            yield from _files(value)


def _check_digest(path: Path, recorded: str) -> None:
    if not is_file(path):
        raise UsageError(f"the run was made with code in {path}, and there is no such file")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not recorded or not found.startswith(recorded):
        raise UsageError(
            f"{path} is not the file that the run was made with ({found[:8]}, and the record has {recorded or 'none'}); nothing "
            "of it was run. Put back the file as it was"
        )


def _is_elsewhere(path: Path, run: Path) -> bool:
    here, file = Path.cwd().resolve(), path.resolve()
    study = run.resolve().parents[min(3, len(run.resolve().parents) - 1)]  # of <study>/<data set>/<backbone>/<cell>/seed-0
    inside_study = file.is_relative_to(study) and study != here and not here.is_relative_to(study)
    return not file.is_relative_to(here) or inside_study
