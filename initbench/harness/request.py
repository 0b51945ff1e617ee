"""One run as asked for: its names and options, checked before anything heavy is imported, and written down and read again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from initbench import registry, seeding, spec
from initbench.catalog import Kind
from initbench.choices import Budget, PrecisionChoice, Protocol, Stream
from initbench.datasets.splits import SplitName
from initbench.errors import InitbenchError, UsageError
from initbench.paths import home, is_file
from initbench.protocols import Size
from initbench.spec import Spec


@dataclass(frozen=True)
class RunRequest:
    """One run as asked for: plain values, so that it travels to a worker process.

    Attributes:
        split: auto, published, or the name of a published split.
        fold: ``k/K`` in place of a split.
        train_cases: how many of the split's training cases are used; all of them without it.
        fixed: streams that give at every seed what they give at seed 0.
        distances: whether HD95 and surface Dice are measured; like `save_predictions` it decides no other number.
        nsd_tolerance: of the surface Dice, in mm.
        checkpoint_every: seconds between checkpoints of a stage.
        index: place in the sweep, by which jobs spread over the devices.
    """

    init: str
    backbone: str
    dataset: str
    seed: int
    budget: Budget = "paper"
    protocol: Protocol = "equal-total"
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
    index: int = 0

    @property
    def label(self) -> str:
        """The run in a few words."""
        protocol = "" if self.protocol == "equal-total" else f" {self.protocol}"
        part = f" fold {self.fold}" if self.fold else ""
        part += f" on {self.train_cases} cases" if self.train_cases else ""
        return f"{self.init} × {self.backbone} × {self.dataset}{part} seed {self.seed}{protocol}"


def as_json(request: RunRequest) -> dict[str, Any]:
    """A request as plain values, which mean the same in any folder: its paths are absolute.

    `out` stays as it was written: whoever reads the request knows where it lies.
    """
    request = replace(
        request,
        init=_absolute_component("initializer", request.init),
        backbone=_absolute_component("backbone", request.backbone),
        dataset=_absolute_dataset(request.dataset),
        data_root=request.data_root.absolute() if request.data_root else None,
        recipe=_absolute_recipe(request.recipe),
    )
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(request).items()}


def from_json(values: Mapping[str, Any], **changes: Any) -> RunRequest:
    """The request of plain values, with some of them changed."""
    known = {field.name for field in fields(RunRequest)}
    found: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key in known
    }
    for key in ("data_root", "out"):
        found[key] = Path(found[key]) if found.get(key) else None
    return RunRequest(**found | changes)


def check_streams(fixed: Sequence[str]) -> None:
    """Refuses streams that do not exist.

    Raises:
        UsageError: names those that do.
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


def items(values: str | Sequence[str]) -> list[str]:
    """A comma list, or several, as single component strings without repetition."""
    texts = [values] if isinstance(values, str) else list(values)
    return list(dict.fromkeys(item for text in texts for item in spec.split_list(text)))


def assign(texts: Sequence[str], assignments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Puts ``init.parameter=value`` assignments into every initializer that has such a parameter.

    Returns:
        The initializers with their parameters, and the assignments that are not about initializers.

    Raises:
        UsageError: no initializer of the sweep has the parameter.
    """
    parsed = [spec.parse(text) for text in texts]
    takes = [registry.get("initializer", item).takes for item in parsed]
    rest = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if section != "init" or not dot or not equals:
            rest.append(assignment)
            continue
        if not any(name in parameters for parameters in takes):
            options = ", ".join(sorted({parameter for parameters in takes for parameter in parameters})) or "none"
            raise UsageError(f"--set {assignment}: no initializer of this sweep takes {name}; they take {options}")
        parsed = [
            item.with_param(name, spec.value(value.strip())) if name in parameters else item
            for item, parameters in zip(parsed, takes, strict=True)
        ]
    return [str(item) for item in parsed], rest


def check_names(kind: Kind, texts: Sequence[str]) -> None:
    """Refuses unusable names before anything heavy is imported.

    Raises:
        UsageError: says what is wrong, or names the nearest known ones.
    """
    for item in items(texts):
        parsed = spec.parse(item)
        if not parsed.is_file:
            registry.check_name(kind, parsed.name)


def _absolute_component(kind: Kind, text: str) -> str:
    """A component string whose file, and the files that its parameters name, are absolute."""
    try:
        asked = spec.parse(text)
        found = _with_absolute_files(kind, asked)
        # A folder's name may hold what no component string can: then the path stays as it was written.
        return str(found) if found != asked and spec.parse(str(found)) == found else text
    except InitbenchError:  # whoever looks it up says what is wrong with it
        return text


def _with_absolute_files(kind: Kind, asked: Spec) -> Spec:
    component = registry.get(kind, asked)
    files = component.info.files if kind == "initializer" else ()
    params = tuple((key, _value(kind, value, is_file=key in files)) for key, value in asked.params)
    if not asked.is_file:
        return Spec(asked.name, params)
    path, _, attribute = asked.name.rpartition(":")
    return Spec(f"{_absolute(path)}:{attribute}", params)


def _value(kind: Kind, value: Any, *, is_file: bool) -> Any:
    if isinstance(value, Spec):
        return _with_absolute_files(kind, value)
    return _absolute(value) if is_file and isinstance(value, str) and value else value


def _absolute_dataset(text: str) -> str:
    """A data set's folder; a registered name, and the name of one below a data root, stay as they are."""
    path = home(text)
    by_name = text in registry.names("dataset") or (len(path.parts) == 1 and not is_file(path / "dataset.json"))
    return text if by_name else _absolute(text)


def _absolute_recipe(text: str | None) -> str | None:
    """A recipe's file; a packaged one's name stays as it is."""
    return str(Path(text).absolute()) if text and text.endswith(".toml") else text


def _absolute(text: str) -> str:
    return str(home(text).absolute())
