"""Planned looks on disk: what was written down of a block before its first run, and the looks that were taken.

OUT/.looks/<block>.json
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from initbench import digest
from initbench.errors import UsageError
from initbench.limits import MAX_STATE, read_regular
from initbench.runs.record import SCHEMA

LOOKS = ".looks"
Count = Annotated[int, Field(ge=1)]


class TakenLook(BaseModel):
    """A look that was taken: at how many seeds, when, and what it left undecided."""

    model_config = ConfigDict(frozen=True)

    seeds: Count
    when: str
    undecided: tuple[str, ...]


class BlockPlan(BaseModel):
    """What was planned of a block, and how far it is.

    Attributes:
        looks: number of seeds at each look, rising.
        levels: nominal level of each look, all of its family together; they sum to .05.
        margin: Dice points within which two inits are equivalent.
        against: the row that all others are compared with.
        family: the names of all rows.
        cells: their cells, as folders of runs have them.
        planned: when it was written down.
        taken: the looks that were taken.
    """

    model_config = ConfigDict(frozen=True)

    schema_: Annotated[int, Field(alias="schema")] = SCHEMA
    looks: tuple[Count, ...]
    levels: tuple[float, ...]
    margin: float
    against: str
    family: tuple[str, ...]
    cells: tuple[str, ...]
    planned: str
    taken: tuple[TakenLook, ...] = ()

    @property
    def key(self) -> str:
        """The name of its file."""
        return digest.of_json(sorted(self.cells))[:16]

    @property
    def is_closed(self) -> bool:
        """Whether no further look is to be taken: everything is decided, or the last look was."""
        return bool(self.taken) and (not self.taken[-1].undecided or self.taken[-1].seeds == self.looks[-1])

    def is_same_plan(self, other: BlockPlan) -> bool:
        """Returns whether another plan says the same, whenever it was written and whatever was taken of it."""
        return self._said() == other._said()

    def _said(self) -> tuple[object, ...]:
        return self.looks, self.levels, self.margin, self.against, sorted(self.family)


def read_plans(out: Path) -> list[BlockPlan]:
    """Reads the plans of all blocks below a folder.

    Raises:
        UsageError: one cannot be used; then nobody knows which levels are spent.
    """
    return [_read(path) for path in sorted((out / LOOKS).glob("*.json"))]


def fix_plan(out: Path, plan: BlockPlan) -> BlockPlan:
    """Writes a plan down where the block has none, and returns the one that holds, with the looks that were taken.

    Raises:
        UsageError: the block was planned otherwise.
    """
    path = out / LOOKS / f"{plan.key}.json"
    if not path.exists():
        _write(path, plan)
    known = _read(path)
    if not known.is_same_plan(plan):
        raise UsageError(
            f"{path}: looks at {_listed(known.looks)} seeds were planned, against {known.against}, margin {known.margin:g}, rows "
            f"{', '.join(known.family)}. A plan is not changed after its first run: give the same options, or another --out"
        )
    return known


def copy_plans(out: Path, site: Path) -> None:
    """Copies the plans of another folder of the same study, with the looks that were taken there; those that are here stay."""
    for plan in read_plans(site):
        path = out / LOOKS / f"{plan.key}.json"
        if not path.exists():
            _write(path, plan)


def take(out: Path, plan: BlockPlan, seeds: int, undecided: Sequence[str]) -> BlockPlan:
    """Notes that a look was taken, and returns the plan with it.

    Args:
        out: folder of the study.
        plan: of the block, with the looks that were taken before.
        seeds: at which the look was taken.
        undecided: the rows that it left undecided.

    Raises:
        ValueError: it is not the next look of the plan.
    """
    expected = plan.looks[len(plan.taken)]
    if seeds != expected:
        raise ValueError(f"a look at {seeds} seeds, where the next one is at {expected}")
    look = TakenLook(seeds=seeds, when=_now(), undecided=tuple(undecided))
    found = plan.model_copy(update={"taken": (*plan.taken, look)})
    _write(out / LOOKS / f"{plan.key}.json", found)
    return found


def new_plan(
    looks: Sequence[int], levels: Sequence[float], margin: float, against: str, rows: Sequence[str], cells: Sequence[str]
) -> BlockPlan:
    """Returns a plan of which no look was taken.

    Args:
        looks: number of seeds at each look, rising.
        levels: nominal level of each look.
        margin: Dice points within which two inits are equivalent.
        against: the row that all others are compared with.
        rows: the names of all rows.
        cells: their cells, as folders of runs have them.
    """
    return BlockPlan(
        looks=tuple(looks),
        levels=tuple(levels),
        margin=margin,
        against=against,
        family=tuple(rows),
        cells=tuple(cells),
        planned=_now(),
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: Path) -> BlockPlan:
    try:
        return BlockPlan.model_validate_json(read_regular(path, MAX_STATE))
    except (OSError, ValidationError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read, so nobody knows which looks were planned; restore it, or give another --out: {error}"
        ) from None


def _write(path: Path, plan: BlockPlan) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(plan.model_dump_json(by_alias=True, indent=1))
    Path(name).replace(path)


def plans_of(plans: Sequence[BlockPlan], cells: Sequence[str]) -> Iterator[BlockPlan]:
    """Yields the plans of which each cell is the begin of one of these cells, which may be written out in full."""
    for plan in plans:
        if all(_begins_one(own, cells) for own in plan.cells):
            yield plan


def _begins_one(begin: str, cells: Sequence[str]) -> bool:
    return any(cell.startswith(begin) for cell in cells)
