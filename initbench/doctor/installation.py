"""Of the examination: data sets, and components of others. The one place that imports every plug-in, unasked."""

from __future__ import annotations

import os
from pathlib import Path

from initbench import registry
from initbench.catalog import CATALOG, Kind
from initbench.datasets import open as sources
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.doctor.findings import Finding
from initbench.errors import InitbenchError, MissingDataError
from initbench.spec import Spec


def data(data_root: Path | None) -> list[Finding]:
    """Says which registered data sets are here and where; a broken one is a problem."""
    lines = []
    if data_root is not None and not data_root.is_dir():
        lines.append(
            Finding("data", "--data-root", "problem", f"{data_root} is no folder; give the one that holds the data sets")
        )
        data_root = None
    for item in os.environ.get(sources.ENVIRONMENT, "").split(os.pathsep):
        path = Path(item).expanduser()
        if item and not path.is_dir():
            lines.append(Finding("data", sources.ENVIRONMENT, "warning", f"{path} is no folder; correct the variable"))
    for name in registry.names("dataset"):
        lines.append(_dataset(name, data_root))
    return lines


def _dataset(name: str, data_root: Path | None) -> Finding:
    try:
        dataset = open_dataset(name, data_root)
        split = splits.resolve_split(dataset, None)
    except MissingDataError as error:
        return Finding("data", name, "absent", _line(error))
    except (Exception, SystemExit) as error:  # whatever a reader of others raises
        return Finding("data", name, "problem", _line(error))
    where = getattr(dataset, "root", None)
    place = "needs no files"
    if where:
        place = f"in {Path(where).absolute()}"
    return Finding("data", name, "ok", f"{len(dataset.case_ids())} cases, split {split.name}, {place}")


def plugins() -> list[Finding]:
    """Imports every component; says a line for each that does not come with the package, and one for the built-in ones.

    A built-in component that is broken has a line of its own.
    """
    lines, others = _built_in(), []
    for kind in registry.LISTED:
        for name, text in registry.problems(kind).items():
            others.append(Finding("plug-ins", name, "problem", text))
        for row in registry.listing(kind):
            if row.name not in CATALOG[kind]:
                others.append(_plugin(kind, row))
    if not others:
        others.append(Finding("plug-ins", "of others", "ok", "none installed"))
    return lines + others


def _built_in() -> list[Finding]:
    count, broken = 0, []
    for kind in registry.LISTED:
        for name in CATALOG[kind]:
            if name in registry.problems(kind):  # a plug-in takes the name, too; that is the plug-in's line
                continue
            count += 1
            error = _import_error(kind, name)
            if error:
                detail = f"built-in {kind}: {error}; install initbench again (pip install .)"
                broken.append(Finding("plug-ins", name, "problem", detail))
    return broken or [Finding("plug-ins", "built-in", "ok", f"{count} components, all of them import")]


def _plugin(kind: Kind, row: registry.Listing) -> Finding:
    error = _import_error(kind, row.name)
    if error:
        detail = f"{kind} of {row.origin}: {error}; correct or uninstall it: {row.summary} works for nobody"
        return Finding("plug-ins", row.name, "problem", detail)
    return Finding("plug-ins", row.name, "ok", f"{kind} of {row.origin} ({row.summary})")


def _import_error(kind: Kind, name: str) -> str:
    """Imports a component and returns the error, if any; a module that leaves the process would take this one along."""
    try:
        registry.find(kind, Spec(name))
    except (Exception, SystemExit) as error:
        return _line(error.__cause__ or error)
    return ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, InitbenchError):
        return text
    return f"{type(error).__name__}: {text}"
