"""One run as asked for: its names and options, checked before anything heavy is imported, and written down and read again."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from initbench import registry, seeding, spec
from initbench.catalog import Kind
from initbench.choices import REGIMEN, Budget, PrecisionChoice, Protocol, RegimenBudget, Stream
from initbench.datasets.splits import SplitName
from initbench.errors import InitbenchError, UsageError
from initbench.paths import exists, home, is_file
from initbench.protocols import Size
from initbench.spec import Spec, as_spec, parse, separators, unquoted

PLAIN = Spec(REGIMEN)

CODE = ("init", "backbone", "regimen")
"""What of a written request may name functions in Python files."""

Components = str | Spec | Sequence[str | Spec]
"""Components as people ask for them: a comma list, or several, or what was read already."""


@dataclass(frozen=True)
class RunRequest:
    """One run as asked for: specs and plain values, so that it travels to a worker process. `of` makes one from text.

    Attributes:
        dataset: a registered name, or the path of a folder.
        regimen: how the supervised stage is run.
        regimen_budget: what runs of two regimens have in common: the steps, or the passes through the network.
        split: auto, published, or the name of a published split.
        fold: ``k/K`` in place of a split.
        train_cases: how many of the split's training cases are used; all of them without it.
        fixed: streams that give at every seed what they give at seed 0.
        distances: whether distances between surfaces are measured; like `save_predictions` it decides no other number.
        nsd_tolerance: of the surface Dice, in mm.
        checkpoint_every: seconds between checkpoints of a stage.
        device_memory: GiB of the device that training volumes may take together; None for what training leaves.
        validation: whether Dice is measured while the run trains; it decides no other number.
        fast: whether steps are compiled, and kernels chosen by timing them.
    """

    init: Spec
    backbone: Spec
    dataset: Spec
    seed: int
    budget: Budget = "paper"
    protocol: Protocol = "equal-total"
    regimen: Spec = PLAIN
    regimen_budget: RegimenBudget = "steps"
    size: Size = "paper"
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    data_root: Path | None = None
    out: Path = Path("runs")
    split: SplitName | None = None
    fold: str | None = None
    train_cases: int | None = None
    recipe: str | None = None
    assignments: tuple[str, ...] = ()
    threads: int = 1
    fixed: tuple[Stream, ...] = ()
    save_predictions: bool = False
    distances: bool = False
    nsd_tolerance: float = 2.0
    checkpoint_every: float = 300.0
    device_memory: float | None = None
    validation: bool = True
    fast: bool = False

    @classmethod
    def of(cls, init: str | Spec, backbone: str | Spec, dataset: str | Spec, seed: int, **options: Any) -> RunRequest:
        """Makes a request of components that may be text.

        Args:
            init: as ``name``, ``name(key=value)`` or ``./file.py:function``.
            backbone: likewise.
            dataset: name, or path of a folder.
            seed: root seed.
            **options: the other fields; `regimen` may be text as well.

        Raises:
            UsageError: a text is no component string.
        """
        if isinstance(dataset, str):
            dataset = Spec(dataset)
        regimen = as_spec(options.pop("regimen", PLAIN))
        return cls(as_spec(init), as_spec(backbone), dataset, seed, regimen=regimen, **options)

    @property
    def label(self) -> str:
        """The run in a few words."""
        said = f"{self.init} × {self.backbone} × {self.dataset}"
        if self.regimen != PLAIN:
            said += f" × {self.regimen}"
        if self.fold:
            said += f" fold {self.fold}"
        if self.train_cases:
            said += f" on {self.train_cases} cases"
        said += f" seed {self.seed}"
        if self.protocol != "equal-total":
            said += f" {self.protocol}"
        if self.regimen != PLAIN and self.regimen_budget == "compute":
            said += " at equal compute"
        return said


def as_json(request: RunRequest) -> dict[str, Any]:
    """Returns a request as plain values, which mean the same in any folder: its paths are absolute, its components text.

    `out` stays as it was written: whoever reads the request knows where it lies.
    """
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    values |= _portable_components(request)
    values["dataset"] = _absolute_dataset(request.dataset.name)
    values["recipe"] = _absolute_recipe(request.recipe)
    if request.data_root:
        values["data_root"] = request.data_root.absolute()
    for key, value in values.items():
        if isinstance(value, Path | Spec):
            values[key] = str(value)
    return values


def _portable_components(request: RunRequest) -> dict[str, Spec]:
    """Returns the components of a request that may be code in files, with absolute paths; their keys are `CODE`."""
    return {
        "init": _portable("initializer", request.init),
        "backbone": _portable("backbone", request.backbone),
        "regimen": _portable("regimen", request.regimen),
    }


def code_digests(request: RunRequest) -> dict[str, str]:
    """Returns the sha256 of every Python file that a request names, by its path as `as_json` writes it."""
    found = {}
    for component in _portable_components(request).values():
        for item in spec.parts_in_files(component):
            written = item.name.rpartition(":")[0]
            with contextlib.suppress(OSError):  # it vanished: then nobody can run it
                found[written] = hashlib.sha256(home(written).read_bytes()).hexdigest()
    return found


def from_json(values: Mapping[str, Any], **changes: Any) -> RunRequest:
    """Reads the request that `as_json` of this version or an earlier one wrote, with some values changed.

    Raises:
        UsageError: a component is no component string.
    """
    known = {field.name for field in fields(RunRequest)}
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list) and key in known:
            found[key] = tuple(value)
        elif key in known:
            found[key] = value
    for key in ("data_root", "out"):
        path = found.pop(key, None)
        found[key] = None
        if path:
            found[key] = Path(path)
    return RunRequest.of(**found | changes)


def data_below(data_root: Path, dataset: str) -> dict[str, Any]:
    """Returns what changes in a request whose data sets are below another folder now.

    A data set that was asked for by its path is taken by the name of its folder, where there is such a one below `data_root`.
    """
    moved = data_root / Path(dataset).name
    if len(Path(dataset).parts) > 1 and moved.is_dir():
        dataset = str(moved)
    return {"data_root": data_root, "dataset": dataset}


def check_streams(fixed: Sequence[str]) -> None:
    """Refuses streams that do not exist.

    Raises:
        UsageError: a stream does not exist; names the streams.
    """
    strange = [name for name in fixed if name not in seeding.STREAMS]
    if strange:
        raise UsageError(f"--fix {', '.join(strange)}: the streams are {', '.join(seeding.STREAMS)}")


def check_tolerance(millimetres: float) -> None:
    """Refuses a tolerance of the surface Dice that is none.

    Raises:
        UsageError: it is negative or not finite.
    """
    if not (math.isfinite(millimetres) and millimetres >= 0):
        raise UsageError(f"--nsd-tolerance {millimetres:g}: a tolerance is a number of millimetres from 0")


def split_lists(values: str | Sequence[str]) -> list[str]:
    """Returns the items of a comma list, or of several, without repetition.

    What is a path of something that exists stays whole, though it has commas, and so does what stands in quotes.
    """
    if isinstance(values, str):
        values = [values]
    found: dict[str, None] = {}
    for text in values:
        found |= dict.fromkeys(_split(text))
    return list(found)


def _split(text: str) -> list[str]:
    """Returns the items of one comma list."""
    items = []
    while text:
        end = _end_of_item(text)
        item = unquoted(text[:end].strip())
        if item:
            items.append(item)
        text = text[end + 1 :]
    return items


def _end_of_item(text: str) -> int:
    """Returns where the first item of a comma list ends: after the longest part that is a path, else at the next separator."""
    end = len(text)
    while end >= 0:
        if _is_path(text[:end].strip()):
            return end
        end = text.rfind(",", 0, end)
    return min(separators(text), default=len(text))


def _is_path(text: str) -> bool:
    """Returns whether a text is the path of a folder or file, or a component in one."""
    if not text:
        return False
    if exists(home(text)):
        return True
    path, in_a_file, component = text.partition(".py:")
    return bool(in_a_file) and is_file(home(f"{path}.py")) and not separators(component)


def read_component(kind: Kind, text: str) -> Spec:
    """Returns the spec of one component, before anything heavy is imported.

    Raises:
        UsageError: it is no component string, or nobody offers the name; names the nearest known ones.
    """
    if kind == "dataset":  # a path may hold what is punctuation elsewhere, and a name is looked for below the data root
        return Spec(text)
    found = parse(text)
    if not found.is_file:
        registry.check_name(kind, found.name)
    return found


def read_components(kind: Kind, values: Components) -> list[Spec]:
    """Returns the specs of comma lists, each once, before anything heavy is imported. Specs among the values stay as they are.

    Raises:
        UsageError: there is none, one is no component string, or nobody offers a name; names the nearest known ones.
    """
    if isinstance(values, str | Spec):
        values = [values]
    found: list[Spec] = []
    for value in values:
        if isinstance(value, Spec):
            found.append(value)
            continue
        for text in split_lists(value):
            found.append(read_component(kind, text))
    if not found:
        raise UsageError(f"no {kind} is named: write a name or several (initbench list {registry.LISTED[kind]})")
    return list(dict.fromkeys(found))


def assign(inits: Sequence[Spec], assignments: Iterable[str]) -> tuple[list[Spec], list[str]]:
    """Puts ``init.parameter=value`` assignments into every initializer that has such a parameter.

    Returns:
        The initializers with their parameters, and the assignments that are not about initializers.

    Raises:
        UsageError: no initializer of the sweep has the parameter.
    """
    found, rest = list(inits), []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if section == "init" and dot and equals:
            found = _assigned(found, assignment, name, spec.parameter(name, value.strip()))
        else:
            rest.append(assignment)
    return found, rest


def _assigned(inits: Sequence[Spec], assignment: str, name: str, value: Any) -> list[Spec]:
    found, options = [], set()
    for init in inits:
        takes = registry.find("initializer", init).takes
        options |= set(takes)
        if name in takes:
            found.append(init.with_param(name, value))
        else:
            found.append(init)
    if name not in options:
        known = ", ".join(sorted(options)) or "none"
        raise UsageError(f"--set {assignment}: no initializer of this sweep takes {name}; they take {known}")
    return found


def _portable(kind: Kind, asked: Spec) -> Spec:
    """Returns the spec with absolute paths of its file, and of the files that its parameters name."""
    if kind != "initializer" or not asked.params:
        return Spec(_portable_name(asked), asked.params)
    try:
        component = registry.find("initializer", asked)
    except InitbenchError:  # whoever looks it up says what is wrong with it
        return asked
    params: list[tuple[str, Any]] = []
    for key, value in asked.params:
        if key in component.inner:
            params.append((key, _portable(kind, value)))
        elif key in component.info.files and isinstance(value, str) and value:
            params.append((key, _absolute(value)))
        else:
            params.append((key, value))
    return Spec(_portable_name(asked), tuple(params))


def _portable_name(asked: Spec) -> str:
    if not asked.is_file:
        return asked.name
    path, _, attribute = asked.name.rpartition(":")
    name = f"{_absolute(path)}:{attribute}"
    if not spec.is_writable(name):  # a folder's name may hold what no component string can
        return asked.name
    return name


def _absolute_dataset(text: str) -> str:
    """Returns a data set's folder as an absolute path; a registered name, and the name of one below a data root, stay."""
    path = home(text)
    by_name = len(path.parts) == 1 and not is_file(path / "dataset.json")
    if by_name or registry.is_offered("dataset", text):
        return text
    return _absolute(text)


def _absolute_recipe(text: str | None) -> str | None:
    """Returns a recipe's file as an absolute path; the name of a packaged one stays as it is."""
    if text and text.endswith(".toml"):
        return str(Path(text).absolute())
    return text


def _absolute(text: str) -> str:
    return str(home(text).absolute())
