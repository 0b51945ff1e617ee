"""Treatments: a row of a table is an init under a regimen. The one name of both is made and read here alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from initbench.choices import BASELINE, REGIMEN
from initbench.spec import separators

if TYPE_CHECKING:
    import pandas as pd

STEPS, COMPUTE = "steps", "compute"  # in which of the two a regimen equals plain training
_PLUS = " + "
_COMPUTE = f" ({COMPUTE})"


@dataclass(frozen=True)
class Treatment:
    """An init under a regimen.

    Attributes:
        init: its name; where two cells have one name, with a part of the cell's id.
        regimen: with its parameters.
        budget: `compute` where the regimen cost as many units as plain training and so had fewer steps, else `steps`.
    """

    init: str
    regimen: str = REGIMEN
    budget: str = STEPS

    @property
    def name(self) -> str:
        """The name of its row: `lwi`, `lwi + medcontext` or `lwi + medcontext (compute)`."""
        if self.is_plain:
            return self.init
        return f"{self.init}{_PLUS}{self.regimen_name}"

    @property
    def regimen_name(self) -> str:
        """The regimen, with `(compute)` where it equals plain training in compute and not in steps."""
        if self.budget == COMPUTE:
            return f"{self.regimen}{_COMPUTE}"
        return self.regimen

    @property
    def is_plain(self) -> bool:
        """Whether it is trained without a regimen of its own."""
        return self.regimen == REGIMEN

    @property
    def is_placebo(self) -> bool:
        """Whether its init is the default drawn again: it differs from `default` under the same regimen by luck alone."""
        return self.init.startswith(f"{BASELINE}(construct=")

    @property
    def default(self) -> Treatment:
        """The init `default` under the same regimen."""
        return replace(self, init=BASELINE)


@lru_cache(maxsize=4096)
def treatment(name: str) -> Treatment:
    """Returns the treatment whose row has this name."""
    joint = None
    for place in separators(name, _PLUS.strip()):
        if name[place - 1 : place + 2] == _PLUS:
            joint = place
    if joint is None:
        return Treatment(name)
    init, regimen = name[: joint - 1], name[joint + 2 :]
    if regimen.endswith(_COMPUTE):
        return Treatment(init, regimen.removesuffix(_COMPUTE), COMPUTE)
    return Treatment(init, regimen)


def treatments(runs: pd.DataFrame) -> list[Treatment]:
    """Returns the treatment of each run; runs of old versions, which say nothing of a regimen, are plain."""
    inits = runs["init"].astype(str)
    regimens = _texts(runs, "regimen", REGIMEN)
    budgets = _texts(runs, "regimen_budget", STEPS)
    return [treatment_of(*said) for said in zip(inits, regimens, budgets, strict=True)]


def treatment_of(init: str, regimen: str, budget: str) -> Treatment:
    """Returns the treatment of a run. Plain training is the same under every budget.

    Args:
        init: as its record names it.
        regimen: as its record names it, with its parameters.
        budget: `compute`, or anything else for a regimen with the steps of plain training.
    """
    if regimen == REGIMEN or budget != COMPUTE:
        budget = STEPS
    return Treatment(init, regimen, budget)


def _texts(runs: pd.DataFrame, column: str, missing: str) -> Iterable[str]:
    """Returns a column of runs as texts, with another text where a value is missing or empty, or the whole column is."""
    if column not in runs:
        return [missing] * len(runs)
    return runs[column].fillna(missing).astype(str).replace("", missing)


def have_regimens(names: Iterable[str]) -> bool:
    """Returns whether any row is trained otherwise than plainly."""
    return any(not treatment(name).is_plain for name in names)


def compared_with(name: str, against: str) -> str:
    """Returns the row with which a row is compared in a table whose other rows are compared with `against`.

    A placebo tells of the luck of a study, so beside `default` it is compared with `default` under its own regimen.
    """
    own = treatment(name)
    if own.is_placebo and against == BASELINE:
        return own.default.name
    return against


@dataclass(frozen=True)
class Interaction:
    """The gain of an init by a regimen beyond the gain of `default` by it, as the names of four rows.

    It is the difference `gain` minus `usual`, each of which is the difference of two rows.

    Attributes:
        treatment: the init under the regimen.
    """

    treatment: Treatment

    @property
    def gain(self) -> tuple[str, str]:
        """The init under the regimen, and the same init under plain training."""
        return self.treatment.name, self.treatment.init

    @property
    def usual(self) -> tuple[str, str]:
        """The same two rows of `default`."""
        return self.treatment.default.name, BASELINE

    @property
    def rows(self) -> tuple[str, str, str, str]:
        """The names of all four rows: first the two whose means are added, then the two whose means are subtracted."""
        (under, plain), (default_under, default_plain) = self.gain, self.usual
        return under, default_plain, plain, default_under

    @property
    def names(self) -> tuple[str, str]:
        """Both differences, written out."""
        return " − ".join(self.gain), " − ".join(self.usual)


def interactions(names: Sequence[str]) -> list[Interaction]:
    """Returns every interaction of which all four rows are among the `names`; a placebo has none."""
    present = set(names)
    found = []
    for name in names:
        own = treatment(name)
        if own.is_plain or own.is_placebo or own.init == BASELINE:
            continue
        interaction = Interaction(own)
        if present.issuperset(interaction.rows):
            found.append(interaction)
    return found
