"""Compares the Python files that a record or a note names with it, before any of their code runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from initbench import spec
from initbench.errors import UsageError
from initbench.harness.request import CODE, RunRequest
from initbench.paths import home, is_file
from initbench.runs.record import Record
from initbench.runs.status import AskedRun

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
    for name in (resolved.init, resolved.backbone, resolved.regimen):
        for found in _NAMED.finditer(name):
            recorded[found["file"], found["function"]] = found["digest"]
    for text in (record.asked.init, record.asked.backbone, record.asked.regimen):
        for item in spec.parts_in_files(spec.parse(text)):
            written, _, function = item.name.rpartition(":")
            path = home(written)
            _check_digest(path, recorded.get((path.name, function), ""))
            if not consent and _is_elsewhere(path, _study_of(folder)):
                raise UsageError(
                    f"the run was made with code in {path}, which is not below the folder that you are in; nothing of it was "
                    f"run. Look at it, then add {CONSENT}"
                )


def check_code_of_notes(out: Path, runs: Sequence[AskedRun]) -> None:
    """Refuses runs whose code changed since they were asked for, or comes from elsewhere, as `check_code` does.

    Somebody who mended a plug-in wants its failed runs again, so the one who asks for code to be run gets the new one.

    Args:
        out: folder of the study.
        runs: what its notes hold.

    Raises:
        UsageError: names the first such file. Nothing of it was run.
    """
    for run in runs:
        for text in (run.request[key] for key in CODE if key in run.request):
            for item in spec.parts_in_files(spec.parse(text)):
                written = item.name.rpartition(":")[0]
                _check_noted(home(written), run.code.get(written, ""), out)


def is_code_elsewhere(out: Path, request: RunRequest) -> bool:
    """Returns whether a request names a Python file that is not below the current folder, or lies in the study in `out`.

    A user who types the name of a file wants it run. A task of a queue reads the name in a note, so somebody has to ask for it.
    """
    for component in (request.init, request.backbone, request.regimen):
        for item in spec.parts_in_files(component):
            if _is_elsewhere(home(item.name.rpartition(":")[0]), out.resolve()):
                return True
    return False


def _check_noted(path: Path, noted: str, out: Path) -> None:
    found = _digest_of(path)
    if found != noted:
        raise UsageError(
            f"{path} is not the file that the run was asked for with ({found[:8]}, and the note has {noted[:8] or 'none'}); "
            f"nothing of it was run. Where the change is meant, add {CONSENT}"
        )
    if _is_elsewhere(path, out.resolve()):
        raise UsageError(
            f"the run was asked for with code in {path}, which is not below the folder that you are in; nothing of it was run. "
            f"Look at it, then add {CONSENT}"
        )


def _check_digest(path: Path, recorded: str) -> None:
    found = _digest_of(path)
    if not recorded or not found.startswith(recorded):
        raise UsageError(
            f"{path} is not the file that the run was made with ({found[:8]}, and the record has {recorded or 'none'}); nothing "
            "of it was run. Put back the file as it was"
        )


def _digest_of(path: Path) -> str:
    if not is_file(path):
        raise UsageError(f"the run was made with code in {path}, and there is no such file; put it back")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _study_of(run: Path) -> Path:
    """Returns the folder of the study that a run lies in, at ``<study>/<data set>/<backbone>/<cell>/seed-0``."""
    above = run.resolve().parents
    return above[min(3, len(above) - 1)]


def _is_elsewhere(path: Path, study: Path) -> bool:
    here, file = Path.cwd().resolve(), path.resolve()
    inside_study = file.is_relative_to(study) and study != here and not here.is_relative_to(study)
    return not file.is_relative_to(here) or inside_study
