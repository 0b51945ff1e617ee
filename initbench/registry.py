"""name -> object: built-ins from the catalog, others from entry points, loaded only when asked for."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from initbench import digest
from initbench.catalog import CATALOG, GROUPS, Entry, Kind
from initbench.errors import InitbenchError, UsageError
from initbench.paths import home, is_file
from initbench.spec import OF, Spec


@dataclass(frozen=True)
class Listing:
    """A line of `initbench list`; `origin` is ``initbench`` or ``distribution version``."""

    name: str
    kind: Kind
    summary: str
    origin: str
    learned: bool = False


@dataclass(frozen=True)
class Component:
    """A loaded component with what identifies it.

    Attributes:
        source_digest: sha256 of the source file for everything that is not built in; a built-in has a revision instead.
    """

    spec: Spec
    kind: Kind
    target: Any
    origin: str
    source_digest: str | None


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    """Usable entry points of a kind by name."""
    return {name: points[0] for name, points in _offered(kind).items() if name not in problems(kind)}


@cache
def _offered(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Entry points of a kind by name; the same one found twice on the path is one."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUPS[kind]):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(points.values()) for name, points in sorted(found.items())}


def problems(kind: Kind) -> dict[str, str]:
    """What is wrong with plug-ins, by name, as far as it shows without importing them.

    It is an error for whoever asks for that name, and a warning to everyone else: one bad package must not stop a study.
    """
    return {name: problem for name, points in _offered(kind).items() if (problem := _problem(kind, name, points))}


def _problem(kind: Kind, name: str, points: list[EntryPoint]) -> str:
    if name in CATALOG[kind]:
        return (
            f"{kind} {name!r} of {_origin(points[0])} has the name of a built-in ({CATALOG[kind][name].target}); "
            "rename it in the plug-in's entry points"
        )
    if len(points) > 1:
        return f"{kind} {name!r} is offered by both {_origin(points[0])} and {_origin(points[1])}; uninstall one"
    [point] = points
    if not point.pattern.match(point.value) or not point.attr:
        return f"{kind} {name!r} of {_origin(point)}: {point.value!r} is not module:function; correct the plug-in's entry points"
    package = point.module.partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return f"{kind} {name!r} of {_origin(point)}: there is no module {package}; reinstall the plug-in"
    return ""


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def listing(kind: Kind) -> list[Listing]:
    """Everything usable of a kind, built-ins first. Imports no component."""
    rows = [Listing(name, kind, entry.summary, "initbench", entry.learned) for name, entry in CATALOG[kind].items()]
    rows += [Listing(name, kind, point.value, _origin(point)) for name, point in _plugins(kind).items()]
    return rows


def names(kind: Kind) -> list[str]:
    """All names of a kind."""
    return [row.name for row in listing(kind)]


# What `initbench list` calls the kinds.
LISTED: dict[Kind, str] = {"initializer": "inits", "backbone": "backbones", "dataset": "datasets"}


def unknown(kind: Kind, name: str, known: list[str]) -> UsageError:
    """The error for a name that nobody offers, with the nearest ones."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UsageError(f"unknown {kind} {name!r}: {hint} (initbench list {LISTED[kind]})")


def check_name(kind: Kind, name: str) -> None:
    """Whether a name can be asked for; imports nothing.

    Raises:
        UsageError: nobody offers it, or two do, or who offers it cannot be used.
    """
    if name in problems(kind):
        raise UsageError(problems(kind)[name])
    if name not in names(kind):
        raise unknown(kind, name, names(kind))


def get(kind: Kind, spec: Spec) -> Component:
    """Loads a component.

    Raises:
        UsageError: unknown name (nearest names suggested), a name that two offer, or a file without that function.
        InitbenchError: the plug-in cannot be imported.
    """
    if spec.is_file:
        return _from_file(kind, spec)
    check_name(kind, spec.name)
    entry = CATALOG[kind].get(spec.name)
    if entry is not None:
        return Component(spec, kind, _import(entry), "initbench", None)
    point = _plugins(kind)[spec.name]
    try:
        target = point.load()
    except Exception as error:
        raise InitbenchError(f"{kind} {spec.name!r} of {_origin(point)} cannot be imported: {error!r}") from error
    return Component(spec, kind, target, _origin(point), _source_digest(target))


def _import(entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _source_digest(target: Any) -> str:
    file = inspect.getsourcefile(inspect.unwrap(target) if callable(target) else type(target))
    if file is None:
        raise InitbenchError(f"{target!r} has no source file, so its results could not be identified")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _from_file(kind: Kind, spec: Spec) -> Component:
    path_text, _, attribute = spec.name.rpartition(":")
    path = home(path_text)
    if not is_file(path):
        raise UsageError(f"{kind} {spec.name!r}: there is no file {path.resolve()}")
    source = path.read_bytes()
    source_digest = hashlib.sha256(source).hexdigest()
    module_name = f"_initbench_file_{source_digest[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        location = importlib.util.spec_from_file_location(module_name, path.resolve())
        if location is None or location.loader is None:
            raise UsageError(f"{kind} {spec.name!r}: {path} is not a Python file")
        module = importlib.util.module_from_spec(location)
        sys.modules[module_name] = module  # before execution: dataclasses look their module up
        try:
            location.loader.exec_module(module)
        except Exception as error:
            del sys.modules[module_name]
            raise InitbenchError(f"{kind} {spec.name!r}: {path} cannot be imported: {error!r}") from error
    target = getattr(module, attribute, None)
    if target is None:
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UsageError(f"{path} has no {attribute!r}; it has {', '.join(functions) or 'nothing callable'}")
    return Component(spec, kind, target, f"file {path}", source_digest)


REQUIRED = inspect.Parameter.empty


def parameters(component: Component, skip: int) -> dict[str, Any]:
    """The parameters that a component takes after the `skip` that the harness fills, with defaults or `REQUIRED`."""
    found = list(inspect.signature(component.target).parameters.values())[skip:]
    return {p.name: p.default for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def resolve_params(component: Component, skip: int) -> dict[str, Any]:
    """The component's parameters, the given ones over the defaults.

    Args:
        component: the loaded component.
        skip: leading positional parameters that the harness fills.

    Raises:
        UsageError: a parameter that it does not take, or one it needs is not given; names those it takes.
    """
    target: Callable[..., Any] = component.target
    takes = parameters(component, skip)
    given = dict(component.spec.params)
    strange = sorted(set(given) - set(takes))
    if strange == [OF]:
        raise UsageError(f"{component.spec.name} takes no other component in parentheses: write {component.spec.name}(key=value)")
    if strange and not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(target).parameters.values()):
        options = ", ".join(f"{key}={value!r}" for key, value in takes.items()) or "none"
        raise UsageError(f"{component.spec.name} takes no {', '.join(strange)}; its parameters: {options}")
    resolved = {**takes, **given}
    missing = [key for key, value in resolved.items() if value is REQUIRED]
    if missing:
        name = component.spec.name
        raise UsageError(f"{name} needs {', '.join(missing)}: write {name}({missing[0]}=...) or --set init.{missing[0]}=...")
    return resolved


def canonical(component: Component, skip: int, *, shown: bool = False) -> Spec:
    """The spec without parameters that merely repeat a default, and files by what they hold, wherever they lie.

    Args:
        component: the loaded component.
        skip: leading positional parameters that the harness fills.
        shown: for people, as the row's name on the leaderboard: files keep their names.

    Raises:
        UsageError: a file that a parameter names is not there.
    """
    defaults = parameters(component, skip)
    files, inner = _own_files(component), nested(component)
    kept: list[tuple[str, Any]] = []
    for key, value in component.spec.params:
        if key in inner:
            kept.append((key, canonical(inner[key], skip, shown=shown)))
        elif key in files:
            kept.append((key, f"{Path(value).name if shown else ''}@{files[key][:8]}"))
        elif defaults.get(key, _UNSET) != value:
            kept.append((key, value))
    return Spec(display_name(component), tuple(kept))


def nested(component: Component) -> dict[str, Component]:
    """Components that a component is asked to work on, by parameter: that of ``shuffled(lwi)`` is ``of``."""
    return {key: get(component.kind, value) for key, value in component.spec.params if isinstance(value, Spec)}


def file_digests(component: Component) -> dict[str, str]:
    """sha256 of the files that parameters name (`InitializerInfo.files`), by parameter; ``of.path`` for a nested component.

    Raises:
        UsageError: there is no such file.
    """
    inner = {f"{key}.{name}": found for key, item in nested(component).items() for name, found in file_digests(item).items()}
    return _own_files(component) | inner


def _own_files(component: Component) -> dict[str, str]:
    named = getattr(getattr(component.target, "info", None), "files", ())
    given = dict(component.spec.params)
    return {key: _file_digest(component, key, str(given[key])) for key in named if given.get(key)}


def _file_digest(component: Component, key: str, text: str) -> str:
    path = home(text)
    if not is_file(path):
        raise UsageError(f"{component.spec.name}: {key}={text!r} is no file ({path.resolve()})")
    stat = path.stat()
    return _digest_of(path.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _digest_of(path: Path, size: int, changed: int) -> str:
    """Cached by size and time of change: a sweep asks for the same gigabyte once per run."""
    return digest.of_file(path)


def display_name(component: Component) -> str:
    """The name in tables. Of a file the content is the identity: two versions of it are two rows, wherever it lies."""
    name = component.spec.name
    if not component.spec.is_file:
        return name
    path, _, attribute = name.rpartition(":")
    return f"{Path(path).name}:{attribute}@{(component.source_digest or '')[:8]}"


_UNSET = object()
