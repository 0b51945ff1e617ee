"""Puts the score tables of a study together from its table of runs and its table of cases, a block at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from initbench.choices import TablePolicy
from initbench.errors import DataError, UsageError
from initbench.stats.blocks import BLOCK, MARK, by_treatment
from initbench.stats.cases import case_scores
from initbench.stats.collapse import collapsed
from initbench.stats.design import Array, SeedDesign
from initbench.stats.table import Narrowed, ScoreTable, Withheld, averaged_by_patient, run_scores

SCORED = ("ok", "diverged")
"""How runs end that have a score."""


def score_tables(
    runs: pd.DataFrame,
    cases: pd.DataFrame,
    *,
    policy: TablePolicy = "reference-mask",
    seeds: Sequence[int] | None = None,
    shared: bool = False,
    classes_alike: bool = False,
    patients: Mapping[str, Mapping[str, str]] | None = None,
) -> list[ScoreTable]:
    """Returns the scores of every block; a block without a complete init has none, and says why.

    An init that learns nothing has one run for both protocols and stands in the block of each. An init that lacks a seed of the
    block is withheld: its missing runs are to be done, or the comparison narrowed with `seeds`.

    Args:
        runs: as `load_runs` gives.
        cases: as `load_cases` gives, or some classes of it.
        policy: how classes without reference are scored.
        seeds: the seeds to compare; by default every seed that any init of the block was asked for.
        shared: compare the seeds of which every init of a block has a score.
        classes_alike: every class counts the same, however many cases hold it (see `case_scores`).
        patients: by cell, the patient of each reported case; cells of which nothing is known are not in it.

    Raises:
        UsageError: a run is there twice.
        DataError: runs of a block were scored on different cases.
    """
    scored = _by_run(case_scores(cases, policy, classes_alike=classes_alike))
    if seeds is not None:
        runs = runs[runs["seed"].isin(list(seeds))]
    found = []
    for key, frame in runs.groupby(list(BLOCK), sort=True, dropna=False):
        for protocol in sorted(set(frame["protocol"]) - {"any"}) or ["any"]:
            block = {**dict(zip(BLOCK, key, strict=True)), "protocol": protocol}
            if MARK in frame:
                block[MARK] = str(frame[MARK].iloc[0])
            by_init = {}
            for init, group in by_treatment(frame[frame["protocol"].isin([protocol, "any"])]):
                by_init[init] = _by_seed(init, group, scored)
            narrowed = None
            if shared:
                narrowed = _narrowed(by_init)
                if narrowed.seeds:
                    for init, of_seed in by_init.items():
                        by_init[init] = {seed: of_seed[seed] for seed in narrowed.seeds}
            found.append(replace(_table(block, by_init, policy, seeds, patients or {}), narrowed=narrowed))
    return found


@dataclass(frozen=True)
class _Scores:
    """Dice points of a run, [case], with the names of its cases in order."""

    cases: tuple[str, ...]
    points: Array

    def mean(self, patient_of: Mapping[str, str] | None) -> float:
        """Returns the mean over patients, in Dice points; NaN where no case is scored.

        Args:
            patient_of: the patient of each case; None where they are not known: then the mean is over cases.
        """
        points = averaged_by_patient(self.points, _patients(self.cases, patient_of))
        if np.isnan(points).all():
            return math.nan
        return float(np.nanmean(points))


def _by_run(scores: pd.Series[float]) -> dict[tuple[str, int], _Scores]:
    """Returns the scores of each run by its cell and seed.

    They are cut out as slices: a group of pandas' for every run would take seconds.

    Args:
        scores: Dice points by cell, seed and case, sorted so.
    """
    if scores.empty:
        return {}
    cells = np.asarray(scores.index.get_level_values("cell"), object)
    seeds = np.asarray(scores.index.get_level_values("seed"), object)
    cases = np.asarray(scores.index.get_level_values("case"), object)
    points = np.asarray(scores, np.float64)
    is_last = (cells[1:] != cells[:-1]) | (seeds[1:] != seeds[:-1])
    bounds = [0, *(np.flatnonzero(is_last) + 1).tolist(), len(cells)]
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # the runs of a data set share one tuple of names
    found = {}
    for first, end in pairwise(bounds):
        names = tuple(map(str, cases[first:end]))
        found[str(cells[first]), int(seeds[first])] = _Scores(known.setdefault(names, names), points[first:end])
    return found


@dataclass(frozen=True)
class _Run:
    """A run of an init.

    Attributes:
        cell: its cell.
        status: how it ended.
        digest: of its weights; empty where it has none.
        scores: its Dice points; None where it has none.
        reason: why it failed; empty where nobody knows.
    """

    cell: str
    status: str
    digest: str
    scores: _Scores | None
    reason: str = ""

    @property
    def state(self) -> str:
        """How it ended, and why where that is known."""
        if not self.reason:
            return self.status
        return f"{self.status}: {self.reason}"


_Runs = dict[int, _Run]  # by seed


def _by_seed(init: str, group: pd.DataFrame, scored: dict[tuple[str, int], _Scores]) -> _Runs:
    """Returns the runs of an init by seed.

    Args:
        init: its name, for the message.
        group: its rows of the table of runs.
        scored: the scores of all runs by cell and seed.

    Raises:
        UsageError: a seed is there twice.
    """
    found: _Runs = {}
    reasons: Sequence[str] | pd.Series[str] = [""] * len(group)
    if "reason" in group:
        reasons = group["reason"].fillna("")
    columns = (group["seed"], group["cell"], group["status"], group["weights_digest"], reasons)
    for number, cell, status, weights, reason in zip(*columns, strict=True):
        seed = int(number)
        if seed in found:
            raise UsageError(f"{init}: seed {seed} is there twice, as copies of one study below one folder would be; remove one")
        scores = None
        if status in SCORED:
            scores = scored.get((str(cell), seed))
        digest = ""
        if not pd.isna(weights):
            digest = str(weights)
        found[seed] = _Run(str(cell), str(status), digest, scores, str(reason))
    return found


def _narrowed(by_init: dict[str, _Runs]) -> Narrowed:
    """Returns the seeds of which every init has a score, and the diverged runs of other seeds."""
    scored = []
    for runs in by_init.values():
        scored.append({seed for seed, run in runs.items() if run.scores is not None})
    common = set.intersection(*scored)
    lost = []
    for init, runs in by_init.items():
        for seed in sorted(set(runs) - common):
            if common and runs[seed].status == "diverged":
                lost.append((init, seed))
    return Narrowed(tuple(sorted(common)), tuple(lost))


def _table(
    block: dict[str, object],
    by_init: dict[str, _Runs],
    policy: TablePolicy,
    seeds: Sequence[int] | None,
    patients: Mapping[str, Mapping[str, str]],
) -> ScoreTable:
    """Returns the scores of a block.

    Args:
        block: what its runs share.
        by_init: the runs of each init by seed.
        policy: how classes without reference are scored.
        seeds: the seeds to compare; None for all that an init was asked for.
        patients: by cell, the patient of each case.
    """
    design, asked = _design(by_init, seeds)
    patient_of = _patient_of(by_init, patients)
    withheld: list[Withheld] = []
    chosen: dict[str, list[_Run]] = {}
    cells: list[str] = []
    diverged: list[list[bool]] = []
    for init, of_seed in by_init.items():
        left_out = _withheld(init, of_seed, asked[init], patient_of)
        if left_out is not None:
            withheld.append(left_out)
            continue
        runs = [of_seed[seed] for seed in asked[init]]
        chosen[init] = runs
        cells.append(runs[0].cell)
        diverged.append([run.status == "diverged" for run in runs])
    y, names, unscored = _stacked(chosen, policy)
    whose = _patients(names, patient_of)
    lost = np.array(diverged, bool)
    fallen = lost
    if names:
        fallen = collapsed(run_scores(averaged_by_patient(y, whose)), lost)
    return ScoreTable(
        block=block,
        policy=policy,
        inits=tuple(chosen),
        cells=tuple(cells),
        seeds=tuple(asked[init] for init in chosen),
        design=design,
        cases=names,
        y=y,
        diverged=lost,
        collapsed=fallen,
        withheld=tuple(withheld),
        unscored=unscored,
        patients=whose,
    )


def _design(by_init: dict[str, _Runs], seeds: Sequence[int] | None) -> tuple[SeedDesign, dict[str, tuple[int, ...]]]:
    """Returns the design of a block, and the seeds that count for each init.

    Nested where no two inits share a seed and all have equally many: an init's own seeds count. Crossed elsewhere: all seeds of
    the block count for every init.

    Args:
        by_init: the runs of each init by seed.
        seeds: further seeds that were asked for.
    """
    own: dict[str, tuple[int, ...]] = {}
    together = set(seeds or ())
    numbers = []
    for init, runs in by_init.items():
        own[init] = tuple(sorted(runs))
        together.update(runs)
        numbers.append(len(runs))
    if len(own) > 1 and len(together) == sum(numbers) and len(set(numbers)) == 1:
        return "nested", own
    return "crossed", dict.fromkeys(own, tuple(sorted(together)))


def _patient_of(by_init: dict[str, _Runs], patients: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """Returns the patient of each case of a block; None where no run knows it.

    All runs of a block have the same cases. Where runs know different patients, as when a `patients.json` was added between them,
    the run with the fewest patients is believed: to take two patients for one is the safe mistake.

    Args:
        by_init: the runs of each init by seed.
        patients: by cell, the patient of each case.
    """
    cells: set[str] = set()
    for runs in by_init.values():
        for run in runs.values():
            cells.add(run.cell)
    known = [patients[cell] for cell in sorted(cells) if cell in patients]
    return min(known, key=lambda found: len(set(found.values())), default=None)


def _patients(cases: Sequence[str], patient_of: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """Returns the patient of every case, or None if the patient of some case is not known."""
    if patient_of is None:
        return None
    found = []
    for case in cases:
        if case not in patient_of:
            return None
        found.append(patient_of[case])
    return tuple(found)


def _withheld(init: str, runs: _Runs, asked: tuple[int, ...], patient_of: Mapping[str, str] | None) -> Withheld | None:
    """Returns why an init gets no verdict; None where it gets one.

    Args:
        init: its name.
        runs: its runs by seed.
        asked: the seeds that count.
        patient_of: the patient of each case.
    """
    cell = next(iter(runs.values())).cell
    means = []
    for seed in sorted(runs):
        scores = runs[seed].scores
        if scores is not None:
            means.append(scores.mean(patient_of))
    lacking: dict[str, list[int]] = {}
    for seed in asked:
        if seed not in runs:
            lacking.setdefault("not run", []).append(seed)
        elif runs[seed].scores is None:
            lacking.setdefault(runs[seed].state, []).append(seed)
    if lacking:
        return _incomplete(init, lacking, cell, tuple(means))
    digests: Counter[str] = Counter()
    for seed in asked:
        if runs[seed].status == "ok":  # the weights of diverged runs may well be alike: all of them NaN
            digests[runs[seed].digest] += 1
    same = []
    for seed in asked:
        digest = runs[seed].digest
        if digest and digests[digest] > 1:
            same.append(str(seed))
    if not same:
        return None
    reason = f"seeds {', '.join(same)} have the same weights, bit for bit: the seed is not in effect"
    return Withheld(init, "identical", reason, cell, tuple(means))


def _incomplete(init: str, states: Mapping[str, Sequence[int]], cell: str, scores: tuple[float, ...]) -> Withheld:
    """Returns why an init gets no verdict that has no score for some seeds.

    Args:
        init: its name.
        states: how the runs without a score ended, with their seeds.
        cell: the cell of its runs.
        scores: Dice points of its other runs.
    """
    only = next(iter(states))
    if len(states) == 1 and not scores and only.startswith("failed: "):
        return Withheld(init, "failed", f"0 of {len(states[only])} seeds have a score, {only}", cell, scores)
    told = []
    for state, seeds in states.items():
        told.append(f"{', '.join(map(str, seeds))} ({state})")
    reason = f"no score for seed {', '.join(told)}: run again, or compare the seeds that all inits have"
    return Withheld(init, "incomplete", reason, cell, scores)


def _stacked(chosen: dict[str, list[_Run]], policy: TablePolicy) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Returns Dice points [init, seed, case], the names of the scored cases, and the names of the others.

    Args:
        chosen: the runs of each complete init, all of which have scores.
        policy: how classes without reference are scored.

    Raises:
        DataError: runs have scores of different cases, or of different classes of a case.
    """
    names: tuple[str, ...] = ()
    rows: list[list[Array]] = []
    for init, runs in chosen.items():
        row = []
        for run in runs:
            scores = run.scores
            if scores is None:
                continue
            names = names or scores.cases
            if scores.cases != names:
                raise DataError(
                    f"{init}: scored on other cases than the other inits of its block; `initbench verify` names the runs"
                )
            row.append(scores.points)
        rows.append(row)
    if not rows:
        return np.zeros((0, 0, 0)), (), ()
    y = np.array(rows)
    never = np.isnan(y).all((0, 1))
    if policy != "nnunet" and np.isnan(y[..., ~never]).any():
        raise DataError(
            "runs of a block disagree on which classes the reference of a case holds: the labels changed between them; run the "
            "older ones again, into a folder of their own (--out)"
        )
    kept, unscored = [], []
    for name, is_out in zip(names, never, strict=True):
        if is_out:
            unscored.append(str(name))
        else:
            kept.append(str(name))
    return y[..., ~never], tuple(kept), tuple(unscored)
