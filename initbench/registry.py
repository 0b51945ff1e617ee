"""name -> object: built-ins from the catalog, others from entry points, loaded only when asked for."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from initbench.catalog import CATALOG, GROUPS, Entry, Kind
from initbench.errors import InitbenchError, UsageError, did_you_mean
from initbench.parameters import misfit
from initbench.paths import home, is_file
from initbench.spec import OF, PLAIN_VALUES, Spec, is_plain, parts_in_files

if TYPE_CHECKING:
    from initbench.protocols import BackboneInfo, ExecutorInfo, InitializerInfo, RegimenInfo

REQUIRED = inspect.Parameter.empty
"""The default of a parameter that has none."""

# How many leading parameters the harness fills: (model, ctx) of an initializer, (data_root, search) of a data set, (ctx) of a
# regimen, (study) of an executor.
_FILLED: dict[Kind, int] = {"initializer": 2, "dataset": 2, "regimen": 1, "executor": 1}

Info = TypeVar("Info")


@dataclass(frozen=True)
class Listing:
    """A line of `initbench list`; `origin` is ``initbench`` or ``distribution version``."""

    name: str
    kind: Kind
    summary: str
    origin: str
    learned: bool = False


@dataclass(frozen=True, eq=False)
class Component(Generic[Info]):
    """A loaded component with what identifies it.

    Attributes:
        spec: as it was asked for.
        target: the function itself.
        origin: ``initbench``, ``distribution version`` or ``file path``.
        source_digest: sha256 of the source file for everything that is not built in; a built-in has a revision instead.
        inner: the components that it is asked to work on, by parameter: ``shuffled(lwi)`` has lwi as ``of``.
    """

    spec: Spec
    kind: Kind
    target: Any
    origin: str
    source_digest: str | None
    inner: Mapping[str, Component[Info]]

    @cached_property
    def declared(self) -> object:
        """The `info` that the author put on the function, of whatever type; None where there is none."""
        return getattr(self.target, "info", None)

    @cached_property
    def info(self) -> Info:
        """What the author declared, or the defaults where that is missing or of another type."""
        default = _default_info(self.kind)
        if isinstance(self.declared, type(default)):
            return cast("Info", self.declared)
        return cast("Info", default)

    @cached_property
    def takes(self) -> dict[str, Any]:
        """The parameters that a component string may give, with their defaults or `REQUIRED`."""
        if self.kind == "backbone":  # data, recipe and options of the run fill all others
            return {"variant": None}
        found = {}
        for p in list(inspect.signature(self.target).parameters.values())[_FILLED[self.kind] :]:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found[p.name] = p.default
        return found

    @cached_property
    def params(self) -> dict[str, Any]:
        """The parameters that the function is called with: the given ones over the defaults.

        Raises:
            UsageError: a parameter that it does not take, or one it needs is not given; names those it takes.
        """
        name, given = self.spec.name, dict(self.spec.params)
        strange = sorted(set(given) - set(self.takes))
        if strange == [OF]:
            raise UsageError(f"{name} takes no other component in parentheses: write {name}(key=value)")
        if strange and not self._takes_any_name():
            raise UsageError(f"{name} takes no {', '.join(strange)}; its parameters: {self.options}")
        for key, value in given.items():
            self._check_value(key, value)
        if OF in self.takes and not self.inner and self.takes[OF] is REQUIRED:
            raise UsageError(f"{name} needs of, the component that it works on: write {name}(NAME), as in {name}(lwi)")
        resolved = {**self.takes, **given}
        missing = [key for key, value in resolved.items() if value is REQUIRED]
        if missing:
            remedy = f"write {name}({missing[0]}=...)"
            if self.kind == "initializer":
                remedy += f" or --set init.{missing[0]}=..."
            raise UsageError(f"{name} needs {', '.join(missing)}: {remedy}")
        return resolved

    def _check_value(self, key: str, value: Any) -> None:
        """Refuses a value that no id can hold, or that is of another type than the author wrote."""
        if key in self.inner:
            return
        if is_plain(value):
            why = misfit(self.target, key, value)
        else:
            why = f"a parameter is {PLAIN_VALUES}"
        if why:
            raise UsageError(f"{self.spec.name}: {key}={value!r}: {why}")

    @property
    def options(self) -> str:
        """The parameters with their defaults, for people."""
        shown = []
        for key, default in self.takes.items():
            if default is REQUIRED:
                shown.append(key)
            else:
                shown.append(f"{key}={default!r}")
        return ", ".join(shown) or "none"

    def _takes_any_name(self) -> bool:
        parameters = inspect.signature(self.target).parameters.values()
        return self.kind != "backbone" and any(p.kind is p.VAR_KEYWORD for p in parameters)

    def check(self) -> None:
        """Refuses parameters that do not fit and files that are not there, also of the components inside.

        Raises:
            UsageError: a parameter or a file; names it, and the parameters that would fit.
        """
        _ = self.params  # asking for them refuses what does not fit
        _own_files(self)
        for component in self.inner.values():
            component.check()


def check_executor(spec: Spec, out: Path | None = None) -> None:
    """Refuses an executor that nobody offers, or that cannot have what was asked for; imports no torch.

    Args:
        spec: of the executor.
        out: folder of the study, where it is known.

    Raises:
        UsageError: as `get` and `Component.check`, or by what the executor declares.
        InitbenchError: as `get`, or the executor cannot be reached.
    """
    component = find("executor", spec)
    component.check()
    if component.info.check is not None:
        component.info.check(out, **component.params)


def _default_info(kind: Kind) -> BackboneInfo | ExecutorInfo | InitializerInfo | RegimenInfo | None:
    # Here, so that listing names does not import them.
    from initbench.protocols import BackboneInfo, ExecutorInfo, InitializerInfo, RegimenInfo

    if kind == "dataset":
        return None
    if kind == "executor":
        return ExecutorInfo()
    if kind == "regimen":
        return RegimenInfo()
    if kind == "backbone":
        return BackboneInfo(paper="", source="", licence="")
    return InitializerInfo()


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    """Returns the usable entry points of a kind by name."""
    unusable = problems(kind)
    usable = {}
    for name, points in _offered(kind).items():
        if name not in unusable:
            usable[name] = points[0]
    return usable


@cache
def _offered(kind: Kind) -> dict[str, list[EntryPoint]]:
    """Finds the entry points of a kind by name; the same one found twice on the path is one."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUPS[kind]):
        found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: list(points.values()) for name, points in sorted(found.items())}


def problems(kind: Kind) -> dict[str, str]:
    """Says what is wrong with plug-ins, by name, as far as it shows without importing them.

    It is an error for whoever asks for that name, and a warning to everyone else: one bad package must not stop a study.
    """
    found = {}
    for name, points in _offered(kind).items():
        problem = _problem(kind, name, points)
        if problem:
            found[name] = problem
    return found


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
    if point.dist is None:
        return point.value
    return f"{point.dist.name} {point.dist.version}"


def listing(kind: Kind) -> list[Listing]:
    """Lists everything usable of a kind, built-ins first. Imports no component."""
    rows = []
    for name, entry in CATALOG[kind].items():
        rows.append(Listing(name, kind, entry.summary, "initbench", entry.learned))
    for name, point in _plugins(kind).items():
        rows.append(Listing(name, kind, point.value, _origin(point)))
    return rows


def names(kind: Kind) -> list[str]:
    """Returns all names of a kind."""
    return [row.name for row in listing(kind)]


# What `initbench list` calls the kinds.
LISTED: dict[Kind, str] = {
    "initializer": "inits",
    "backbone": "backbones",
    "dataset": "datasets",
    "regimen": "regimens",
    "executor": "executors",
}


def unknown(kind: Kind, name: str, known: list[str]) -> UsageError:
    """Makes the error for a name that nobody offers, with the nearest ones.

    Args:
        kind: of the component.
        name: that was asked for.
        known: names of this kind.
    """
    return UsageError(f"unknown {kind} {name!r}: {did_you_mean(name, known)} (initbench list {LISTED[kind]})")


def is_offered(kind: Kind, name: str) -> bool:
    """Returns whether there is a usable component of that name; imports nothing."""
    return name in CATALOG[kind] or name in _plugins(kind)


def is_built_in(kind: Kind, spec: Spec) -> bool:
    """Returns whether a component and all inside it are this package's own, as folders of data sets are; imports nothing."""
    for _, value in spec.params:
        if isinstance(value, Spec) and not is_built_in(kind, value):
            return False
    if kind == "dataset":
        return spec.name in CATALOG[kind] or not is_offered(kind, spec.name)
    return spec.name in CATALOG[kind]


def check_name(kind: Kind, name: str) -> None:
    """Refuses a name that cannot be asked for; imports nothing.

    Raises:
        UsageError: nobody offers it, or two do, or who offers it cannot be used.
    """
    problem = problems(kind).get(name)
    if problem:
        raise UsageError(problem)
    if not is_offered(kind, name):
        raise unknown(kind, name, names(kind))


@overload
def find(kind: Literal["initializer"], spec: Spec) -> Component[InitializerInfo]: ...
@overload
def find(kind: Literal["backbone"], spec: Spec) -> Component[BackboneInfo]: ...
@overload
def find(kind: Literal["regimen"], spec: Spec) -> Component[RegimenInfo]: ...
@overload
def find(kind: Literal["executor"], spec: Spec) -> Component[ExecutorInfo]: ...
@overload
def find(kind: Kind, spec: Spec) -> Component[Any]: ...
def find(kind: Kind, spec: Spec) -> Component[Any]:
    """Returns the component of a spec, which `get` loads when this process asks for the first time.

    A component is loaded again where its file, or the file of a component inside, holds something else by now, and where packages
    were installed meanwhile (`forget`).

    Raises:
        UsageError, InitbenchError: as `get`.
    """
    key = (kind, spec, _content(kind, spec))
    if key not in _loaded:
        _loaded[key] = get(kind, spec)
    return _loaded[key]


_loaded: dict[tuple[Kind, Spec, tuple[str, ...]], Component[Any]] = {}


def _content(kind: Kind, spec: Spec) -> tuple[str, ...]:
    """Returns the sha256 of the file of a component, and of the files of the components inside it."""
    found = []
    for item in parts_in_files(spec):
        file = _source_file(kind, item)
        found.append(hashlib.sha256(file.read_bytes()).hexdigest())
    return tuple(found)


def forget() -> None:
    """Forgets which packages offer components, and what was loaded: for a process in which packages are installed."""
    _offered.cache_clear()
    _loaded.clear()


def get(kind: Kind, spec: Spec) -> Component[Any]:
    """Loads the component of a spec; those inside it are found.

    Raises:
        UsageError: unknown name (nearest names suggested), a name that two offer, a file without that name, or what it names is
            no function.
        InitbenchError: the plug-in cannot be imported.
    """
    inner = {}
    for key, value in spec.params:
        if isinstance(value, Spec):
            inner[key] = find(kind, value)
    if spec.is_file:
        return _from_file(kind, spec, inner)
    check_name(kind, spec.name)
    if spec.name in CATALOG[kind]:
        return Component(spec, kind, _import(CATALOG[kind][spec.name]), "initbench", None, inner)
    point = _plugins(kind)[spec.name]
    try:
        target = point.load()
    except (Exception, SystemExit) as error:
        raise InitbenchError(
            f"{kind} {spec.name!r} of {_origin(point)} cannot be imported: {error!r}; mend or reinstall the package"
        ) from error
    _check_function(f"{kind} {spec.name!r} of {_origin(point)}", target)
    return Component(spec, kind, target, _origin(point), _source_digest(target), inner)


def _check_function(what: str, target: object) -> None:
    """Refuses what cannot be called, and what does not say which parameters it takes, as some classes written in C."""
    if not callable(target):
        raise UsageError(f"{what} is {type(target).__name__} and no function; name a function")
    try:
        inspect.signature(target)
    except ValueError:
        raise UsageError(f"{what} does not say which parameters it takes: name a function that is written in Python") from None


def _import(entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _source_digest(target: Any) -> str:
    """Returns the sha256 of the file that a function, or the class of a callable object, was written in."""
    while isinstance(target, partial):
        target = target.func
    target = inspect.unwrap(target)
    written = target
    if not inspect.isroutine(target) and not inspect.isclass(target):
        written = type(target)
    try:
        file = inspect.getsourcefile(written)
    except TypeError:  # it is written in C
        file = None
    if file is None:
        raise InitbenchError(f"{target!r} has no source file, so its results could not be identified; write it in a Python file")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _source_file(kind: Kind, spec: Spec) -> Path:
    """Returns the file of a component ``path/to/file.py:attribute``."""
    path = home(spec.name.rpartition(":")[0])
    if not is_file(path):
        raise UsageError(f"{kind} {spec.name!r}: there is no file {path.resolve()}")
    return path


def _from_file(kind: Kind, spec: Spec, inner: Mapping[str, Component[Any]]) -> Component[Any]:
    path = _source_file(kind, spec)
    source_digest = hashlib.sha256(path.read_bytes()).hexdigest()
    attribute = spec.name.rpartition(":")[2]
    module = _file_module(kind, spec, path, f"_initbench_file_{source_digest[:16]}")
    target = getattr(module, attribute, None)
    if target is None:
        functions = []
        for name, value in vars(module).items():
            if callable(value) and not name.startswith("_"):
                functions.append(name)
        raise UsageError(f"{path} has no {attribute!r}; it has {', '.join(functions) or 'nothing callable'}")
    _check_function(f"{kind} {spec.name!r}", target)
    return Component(spec, kind, target, f"file {path}", source_digest, inner)


def _file_module(kind: Kind, spec: Spec, path: Path, name: str) -> ModuleType:
    """Imports the module in a file, under a name that tells what the file holds."""
    if name in sys.modules:
        return sys.modules[name]
    location = importlib.util.spec_from_file_location(name, path.resolve())
    if location is None or location.loader is None:
        raise UsageError(f"{kind} {spec.name!r}: {path} is not a Python file; name a .py file")
    module = importlib.util.module_from_spec(location)
    sys.modules[name] = module  # before execution: dataclasses look their module up
    try:
        location.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InitbenchError(f"{kind} {spec.name!r}: {path} cannot be imported: {error!r}; mend the file") from error
    return module


def canonical(component: Component[Any], *, shown: bool = False) -> Spec:
    """Returns the spec without permissions and without parameters that merely repeat a default; files by what they hold.

    Args:
        component: the loaded component.
        shown: for people, as the row's name on the leaderboard: files keep their names.

    Raises:
        UsageError: a file that a parameter names is not there.
    """
    files = _own_files(component)
    permissions: tuple[str, ...] = ()
    if component.kind == "initializer":
        permissions = component.info.permissions
    kept: list[tuple[str, Any]] = []
    for key, value in component.spec.params:
        if key in permissions:
            continue
        if key in component.inner:
            kept.append((key, canonical(component.inner[key], shown=shown)))
        elif key in files:
            name = f"@{files[key][:8]}"
            if shown:
                name = f"{Path(value).name}{name}"
            kept.append((key, name))
        elif component.takes.get(key, _UNSET) != value:
            kept.append((key, value))
    return Spec(display_name(component), tuple(kept))


def file_digests(component: Component[Any]) -> dict[str, str]:
    """Returns the sha256 of the files that parameters name (`InitializerInfo.files`), by parameter; ``of.path`` for one inside.

    Raises:
        UsageError: there is no such file.
    """
    found = _own_files(component)
    for key, item in component.inner.items():
        for name, value in file_digests(item).items():
            found[f"{key}.{name}"] = value
    return found


def _own_files(component: Component[Any]) -> dict[str, str]:
    if component.kind != "initializer":
        return {}
    given = dict(component.spec.params)
    found = {}
    for key in component.info.files:
        if given.get(key):
            found[key] = _file_digest(component, key, str(given[key]))
    return found


def _file_digest(component: Component[Any], key: str, text: str) -> str:
    path = home(text)
    if not is_file(path):
        raise UsageError(f"{component.spec.name}: {key}={text!r} is no file ({path.resolve()}); correct the path")
    from initbench.cache import file_digest  # here, as it imports numpy

    return file_digest(path)


def display_name(component: Component[Any]) -> str:
    """Returns the name in tables. A component in a file is identified by what the file holds, not by where it lies."""
    name = component.spec.name
    if not component.spec.is_file:
        return name
    path, _, attribute = name.rpartition(":")
    return f"{Path(path).name}:{attribute}@{(component.source_digest or '')[:8]}"


_UNSET = object()
