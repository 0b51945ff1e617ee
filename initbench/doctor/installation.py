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
    """Which registered data sets are here and where; a broken one is a problem."""
    lines = []
    if data_root is not None and not data_root.is_dir():
        lines.append(
            Finding("data", "--data-root", "problem", f"{data_root} is no folder; give the one that holds the data sets")
        )
        data_root = None
    named = [Path(item).expanduser() for item in os.environ.get(sources.ENVIRONMENT, "").split(os.pathsep) if item]
    lines += [
        Finding("data", sources.ENVIRONMENT, "warning", f"{path} is no folder; correct the variable")
        for path in named
        if not path.is_dir()
    ]
    return lines + [_dataset(name, data_root) for name in registry.names("dataset")]


def _dataset(name: str, data_root: Path | None) -> Finding:
    try:
        dataset = open_dataset(name, data_root)
        split = splits.resolve_split(dataset, None)
    except MissingDataError as error:
        return Finding("data", name, "absent", _line(error))
    except (Exception, SystemExit) as error:  # whatever a reader of others raises
        return Finding("data", name, "problem", _line(error))
    where = getattr(dataset, "root", None)
    place = f"in {Path(where).absolute()}" if where else "needs no files"
    return Finding("data", name, "ok", f"{len(dataset.case_ids())} cases, split {split.name}, {place}")


def plugins() -> list[Finding]:
    """Components that do not come with the package, each imported; the built-in ones in a line, unless one is broken."""
    lines, others = _built_in(), []
    for kind in registry.LISTED:
        others += [Finding("plug-ins", name, "problem", text) for name, text in registry.problems(kind).items()]
        others += [_plugin(kind, row) for row in registry.listing(kind) if row.name not in CATALOG[kind]]
    return lines + (others or [Finding("plug-ins", "of others", "ok", "none installed")])


def _built_in() -> list[Finding]:
    # A name that a plug-in takes too cannot be asked for; that is the plug-in's line.
    named = [(kind, name) for kind in registry.LISTED for name in CATALOG[kind] if name not in registry.problems(kind)]
    broken = [
        Finding("plug-ins", name, "problem", f"built-in {kind}: {error}; install initbench again (pip install .)")
        for kind, name in named
        if (error := _import_error(kind, name))
    ]
    return broken or [Finding("plug-ins", "built-in", "ok", f"{len(named)} components, all of them import")]


def _plugin(kind: Kind, row: registry.Listing) -> Finding:
    error = _import_error(kind, row.name)
    if error:
        detail = f"{kind} of {row.origin}: {error}; correct or uninstall it: {row.summary} works for nobody"
        return Finding("plug-ins", row.name, "problem", detail)
    return Finding("plug-ins", row.name, "ok", f"{kind} of {row.origin} ({row.summary})")


def _import_error(kind: Kind, name: str) -> str:
    """What importing it raises; a module that leaves the process would otherwise take this one along."""
    try:
        registry.find(kind, Spec(name))
    except (Exception, SystemExit) as error:
        return _line(error.__cause__ or error)
    return ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InitbenchError) else f"{type(error).__name__}: {text}"
