"""The scores of a block as the array that every statistic reads: y [init, seed, case] in Dice points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from initbench.choices import TablePolicy
from initbench.stats.blocks import without_placebos
from initbench.stats.design import Array, Flags, SeedDesign
from initbench.stats.looks import Looks

_UNLIKE = "under the policy nnunet runs are not scored on the same cases: compare under reference-mask"

Steps = tuple[tuple[str, tuple[int, ...]], ...]
"""Times, in order, each with the seeds that were first asked for then."""

WithheldKind = Literal["incomplete", "failed", "identical"]


@dataclass(frozen=True)
class Withheld:
    """An init that gets no verdict, and why; with the Dice points of the runs that it has.

    Attributes:
        kind: ``failed`` where all of its runs failed for one reason, so that the same command fails again; ``incomplete`` where
            some run has no score otherwise; ``identical`` where seeds have the same weights.
        reason: why it gets none, in words.
        cell: the cell of its runs.
        scores: Dice points of the runs that have a score, in the order of their seeds.
    """

    init: str
    kind: WithheldKind
    reason: str
    cell: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Narrowed:
    """The seeds that are left where only those were asked for that all inits share.

    Attributes:
        seeds: of which every init of the block has a score, also the withheld ones; where there is none, all seeds count.
        diverged: init and seed of the diverged runs that thereby count for nothing.
    """

    seeds: tuple[int, ...]
    diverged: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a block.

    Attributes:
        block: dataset, split, backbone, variant, size, budget, steps, precision, recipe and protocol, which all inits share.
        policy: how classes without reference are scored.
        inits: names of rows along the first axis of `y`, each an init under a regimen (see `treatments`); complete ones alone.
        cells: the cell of each row, which its runs carry.
        seeds: seeds of every init along the second axis, [init][seed].
        design: `crossed` where all inits have the same seeds, `nested` where no two share one.
        cases: names along the third axis, in order.
        patients: the patient of every case; None where they are not known: each case then counts as a patient.
        y: Dice points [init, seed, case], mean over the classes scored for the case; 0 for all of a diverged run. NaN only under
            the policy `nnunet`, under which runs are not scored on the same cases and no comparison is made.
        diverged: which runs diverged, [init, seed].
        collapsed: which runs collapsed, the diverged ones among them, [init, seed]; found among all complete runs of the block.
        withheld: the inits that are not in `y`.
        unscored: cases in which the reference holds no class.
        narrowed: the seeds that are left, where only shared ones were asked for.
        looks: the looks that were planned before the first run; None where none were.
        asked: where the seeds of a row were asked for at several times, these times with their seeds.
    """

    block: dict[str, object]
    policy: TablePolicy
    inits: tuple[str, ...]
    cells: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]
    design: SeedDesign
    cases: tuple[str, ...]
    y: Array
    diverged: Flags
    collapsed: Flags
    withheld: tuple[Withheld, ...]
    unscored: tuple[str, ...]
    patients: tuple[str, ...] | None = None
    narrowed: Narrowed | None = None
    looks: Looks | None = None
    asked: tuple[Steps, ...] = ()

    @cached_property
    def by_patient(self) -> Array:
        """Dice points [init, seed, patient]: cases of one patient are averaged first, as they are alike.

        Every interval and test is computed from this array. Computed from cases, a difference of equal inits is found in 9 to
        36 % of studies where patients have two to four cases.
        """
        return averaged_by_patient(self.y, self.patients)

    @property
    def patient_count(self) -> int:
        """Number of patients with a score. Where patients are not known, each case counts as one."""
        return int(self.by_patient.shape[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """All inits of the block, the withheld ones last."""
        return (*self.inits, *(item.init for item in self.withheld))

    @property
    def refused(self) -> str:
        """Why nothing of the block may be compared; empty where it may."""
        if not self.inits:
            reasons = "; ".join(f"{item.init}: {item.reason}" for item in self.withheld)
            return f"no init of the block is complete: {reasons}"
        if not self.cases:
            return "the reference holds no class in any case: nothing is scored"
        if np.isnan(self.y).any():
            return _UNLIKE
        return ""

    @property
    def share(self) -> float:
        """The share of the 5 % that may be spent: less than 1 at one of several planned looks."""
        if self.looks is None:
            return 1.0
        return self.looks.share_at(self._seed_count)

    @property
    def between_looks(self) -> str:
        """Why nothing is decided, where there are more seeds than at a planned look and fewer than at the next; else empty."""
        if self.looks is None or not self.inits or not self.looks.is_between(self._seed_count):
            return ""
        planned = ", ".join(map(str, self.looks.seeds))
        return f"{self._seed_count} seeds lie between the planned looks at {planned} seeds: the same run command goes on"

    @property
    def _seed_count(self) -> int:
        """Number of seeds of each init."""
        if not self.seeds:
            return 0
        return len(self.seeds[0])

    def of(self, init: str) -> Array:
        """Returns the Dice points [seed, patient] of a complete init."""
        found: Array = self.by_patient[self.inits.index(init)]
        return found

    def fallen(self, init: str) -> Flags:
        """Returns which runs [seed] of a complete init collapsed."""
        found: Flags = self.collapsed[self.inits.index(init)]
        return found

    def runs(self, init: str) -> Array:
        """Returns the run scores [seed] of a complete init in Dice points, means over patients; NaN where no case is scored."""
        return run_scores(self.of(init))

    def only(self, inits: Sequence[str]) -> ScoreTable:
        """Returns the table with these complete inits alone, in this order."""
        kept, cells, seeds = [], [], []
        for init in inits:
            place = self.inits.index(init)
            kept.append(place)
            cells.append(self.cells[place])
            seeds.append(self.seeds[place])
        return replace(
            self,
            inits=tuple(inits),
            cells=tuple(cells),
            seeds=tuple(seeds),
            y=self.y[kept],
            diverged=self.diverged[kept],
            collapsed=self.collapsed[kept],
        )

    def schemes(self) -> ScoreTable:
        """Returns the table without placebos, which are no other scheme; as it is where there is nothing else."""
        kept = without_placebos(self.inits)
        if not kept:
            return self
        return self.only(kept)


def run_scores(y: Array) -> Array:
    """Returns the means over the patients of scores [..., patient]; NaN where no patient is scored."""
    scored = ~np.isnan(y).all(-1)
    found = np.full(y.shape[:-1], np.nan)
    found[scored] = np.nanmean(y[scored], axis=-1)
    return found


def averaged_by_patient(y: Array, patients: Sequence[str] | None) -> Array:
    """Averages scores over the cases of each patient: [..., patient], in the order of the patients' first cases.

    NaN, a case that is not scored, is left out of the mean of its patient.

    Args:
        y: scores [..., case].
        patients: the patient of every case; None where they are not known: `y` is then returned as it is.
    """
    if patients is None or len(set(patients)) == len(patients):
        return y
    places: dict[str, list[int]] = {}
    for place, patient in enumerate(patients):
        places.setdefault(patient, []).append(place)
    found = np.full((*y.shape[:-1], len(places)), np.nan)
    for number, own in enumerate(places.values()):
        there = ~np.isnan(y[..., own])
        count = there.sum(-1)
        total = np.where(there, y[..., own], 0.0).sum(-1)
        found[..., number] = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    return found
