"""From run and case tables to the array that every statistic reads: y [init, seed, case] in Dice points, a block at a time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from initbench.choices import TablePolicy
from initbench.dice import dice_of_counts
from initbench.errors import DataError, UsageError
from initbench.stats.blocks import BLOCK, MARK, POINTS, by_treatment, is_placebo
from initbench.stats.classes import choose
from initbench.stats.collapse import collapsed
from initbench.stats.design import Array, Flags, SeedDesign
from initbench.stats.looks import Looks

SCORED = ("ok", "diverged")
DISTANCE_COLUMNS = {"hd95": "hd95_mm", "ravd": "ravd_percent", "assd": "assd_mm", "mssd": "mssd_mm"}
"""Columns of the table of cases by the metric: smaller ones are better, and they are no shares."""

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
    """

    init: str
    kind: WithheldKind
    reason: str
    cell: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Narrowed:
    """What came of it that only the seeds were asked for that all inits share.

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
        inits: names of rows along the first axis of `y`, each an init under a regimen (see `treatments`); complete ones alone.
        cells: the cell of each, which its runs carry.
        seeds: seeds of every init along the second axis, [init][seed].
        design: `crossed` where all inits have the same seeds, `nested` where no two share one.
        cases: names along the third axis, in order.
        patients: the patient of every case; None where nothing says whose the cases are: each then counts as a patient.
        y: Dice points [init, seed, case], mean over the classes scored for the case; 0 for all of a diverged run. NaN only under
            the policy `nnunet`, under which runs are not scored on the same cases and no comparison is made.
        diverged: which runs diverged, [init, seed].
        collapsed: which runs collapsed, the diverged ones among them, [init, seed]; found among all complete runs of the block.
        withheld: the inits that are not in `y`.
        unscored: cases in which the reference holds no class.
        narrowed: where only shared seeds were asked for.
        looks: what was planned of the block before its first run; None where nothing was.
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

        This is what every interval and test is made of. With cases in their place a difference of equal inits is found in 9 to
        36 % of studies where patients have two to four.
        """
        return averaged_by_patient(self.y, self.patients)

    @property
    def patient_count(self) -> int:
        """Number of patients with a score. Where nothing says whose the cases are, each case counts as a patient."""
        return int(self.by_patient.shape[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """All inits of the block, the withheld ones last."""
        return (*self.inits, *(item.init for item in self.withheld))

    @property
    def refused(self) -> str:
        """Why nothing of the block may be compared; empty where it may."""
        if not self.inits:
            return "no init of the block is complete: " + "; ".join(f"{item.init}: {item.reason}" for item in self.withheld)
        if not self.cases:
            return "the reference holds no class in any case: nothing is scored"
        return _UNLIKE if np.isnan(self.y).any() else ""

    @property
    def share(self) -> float:
        """The share of the 5 % that may be spent: less than 1 at one of several planned looks."""
        return 1.0 if self.looks is None else self.looks.share_at(self._seed_count)

    @property
    def between_looks(self) -> str:
        """Why nothing is decided, where there are more seeds than at a planned look and fewer than at the next; else empty."""
        if self.looks is None or not self.inits or not self.looks.is_between(self._seed_count):
            return ""
        planned = ", ".join(map(str, self.looks.seeds))
        return f"{self._seed_count} seeds lie between the planned looks at {planned} seeds: the same run command goes on"

    @property
    def _seed_count(self) -> int:
        return len(self.seeds[0]) if self.seeds else 0

    def runs(self, init: str) -> Array:
        """Run scores [seed] of an init in Dice points, the mean over patients; NaN where no case is scored."""
        return _run_scores(self.by_patient[self.inits.index(init)])

    def only(self, inits: Sequence[str]) -> ScoreTable:
        """The same with these inits alone."""
        kept = [self.inits.index(init) for init in inits]
        return replace(
            self,
            inits=tuple(self.inits[i] for i in kept),
            cells=tuple(self.cells[i] for i in kept),
            seeds=tuple(self.seeds[i] for i in kept),
            y=self.y[kept],
            diverged=self.diverged[kept],
            collapsed=self.collapsed[kept],
        )

    def schemes(self) -> ScoreTable:
        """The same without placebos, which are no other scheme; as it is where there is nothing else."""
        kept = [init for init in self.inits if not is_placebo(init)]
        return self.only(kept) if kept else self


def _run_scores(y: Array) -> Array:
    """Means over the patients of scores [..., patient]; NaN where no patient is scored."""
    scored = ~np.isnan(y).all(-1)
    found = np.full(y.shape[:-1], np.nan)
    found[scored] = np.nanmean(y[scored], axis=-1)
    return found


def averaged_by_patient(y: Array, patients: Sequence[str] | None) -> Array:
    """Scores [..., case] averaged over the cases of each patient: [..., patient], in the order of their first cases.

    NaN, a case that is not scored, is left out of the mean of its patient.
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
    """The scores of every block; a block without a complete init has none, and says why.

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
    wanted = runs if seeds is None else runs[runs["seed"].isin(list(seeds))]
    found = []
    for key, frame in wanted.groupby(list(BLOCK), sort=True, dropna=False):
        for protocol in sorted(set(frame["protocol"]) - {"any"}) or ["any"]:
            block = {**dict(zip(BLOCK, key, strict=True)), "protocol": protocol}
            if MARK in frame:
                block[MARK] = str(frame[MARK].iloc[0])
            groups = by_treatment(frame[frame["protocol"].isin([protocol, "any"])])
            runs_of = {init: _by_seed(init, group, scored) for init, group in groups}
            narrowed = _narrowed(runs_of) if shared else None
            if narrowed and narrowed.seeds:
                runs_of = {init: {seed: of_init[seed] for seed in narrowed.seeds} for init, of_init in runs_of.items()}
            found.append(replace(_table(block, runs_of, policy, seeds, patients or {}), narrowed=narrowed))
    return found


def of_classes(cases: pd.DataFrame, wanted: Sequence[str]) -> pd.DataFrame:
    """The rows of these classes, or of a named set of them; all where none is wanted."""
    if not wanted or cases.empty:
        return cases
    keep = np.zeros(len(cases), bool)
    for dataset, frame in cases.groupby("dataset", observed=True):
        chosen = choose(wanted, frame["class_name"].unique(), str(dataset))
        keep |= ((cases["dataset"] == dataset) & cases["class_name"].isin(chosen)).to_numpy()
    return cases[keep]


def with_patients(cases: pd.DataFrame, patients: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """`cases` with a column `patient`, where some patient has several cases; as it is elsewhere.

    Args:
        cases: as `load_cases` gives.
        patients: by cell, the patient of each case; a case of which nothing is known counts as its own patient.
    """
    several = any(len(set(found.values())) < len(found) for found in patients.values())
    if cases.empty or not several:
        return cases
    # One look-up for each pair of cell and case that there is, not for each of the many rows.
    pairs = cases[["cell", "case"]].drop_duplicates()
    names = [patients.get(str(cell), {}).get(str(case), str(case)) for cell, case in zip(*pairs.to_numpy().T, strict=True)]
    return cases.merge(pairs.assign(patient=names), on=["cell", "case"], how="left")


def case_scores(cases: pd.DataFrame, policy: TablePolicy = "reference-mask", *, classes_alike: bool = False) -> pd.Series[float]:
    """Dice points by cell, seed and case, mean over the classes scored; 0 in a diverged run, NaN where no class is scored.

    With `classes_alike` the mean over cases is that of the classes' own means, as in papers' tables: a class that half of the
    cases hold weighs as much as one that all hold, so that each of them counts twice. Without absent classes both are the same.
    """
    if cases.empty:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], [], []], names=["cell", "seed", "case"]))
    points = POINTS * class_dice(cases, policy)
    points = points.mask((cases["status"] == "diverged") & points.notna(), 0.0)
    keys = [cases["cell"], cases["seed"], cases["case"]]
    if not classes_alike:
        return points.groupby(keys, observed=True).mean()
    return (points * _class_weights(cases, points)).groupby(keys, observed=True).sum(min_count=1)


def _class_weights(cases: pd.DataFrame, points: pd.Series[float]) -> pd.Series[float]:
    """Of every row: C / (K n) with C scored cases, K scored classes and n cases that are scored for its class, all of its run."""
    run = [cases["cell"], cases["seed"]]
    there = points.notna()
    of_class = there.groupby([*run, cases["class_name"]], observed=True).transform("sum")
    scored = cases[there]
    runs = scored.groupby(["cell", "seed"], observed=True)
    number = runs["case"].nunique() / runs["class_name"].nunique()
    each = pd.MultiIndex.from_arrays([np.asarray(key, object) for key in run])
    return pd.Series(number.reindex(each).to_numpy(float), points.index) / of_class.where(there)


def class_dice(cases: pd.DataFrame, policy: TablePolicy = "reference-mask") -> pd.Series[float]:
    """Dice of every row from its counts, a fraction; NaN where the policy does not score it."""
    return pd.Series(dice_of_counts(cases["tp"], cases["fp"], cases["fn"], policy), cases.index)


@dataclass(frozen=True)
class _Scores:
    """Dice points of a run, with the names of its cases in order."""

    cases: tuple[str, ...]
    points: Array

    def mean(self, patient_of: Mapping[str, str] | None) -> float:
        """Mean over patients, or over cases where nothing says whose they are."""
        points = averaged_by_patient(self.points, _patients(self.cases, patient_of))
        return math.nan if np.isnan(points).all() else float(np.nanmean(points))


def _by_run(scores: pd.Series[float]) -> dict[tuple[str, int], _Scores]:
    """By cell and seed, from scores that are sorted so. By slices: a group of pandas' for every run would take seconds."""
    if scores.empty:
        return {}
    cells, seeds, cases = (np.asarray(scores.index.get_level_values(name), object) for name in ("cell", "seed", "case"))
    new = (cells[1:] != cells[:-1]) | (seeds[1:] != seeds[:-1])
    bounds = [0, *(int(place) + 1 for place in np.flatnonzero(new)), len(cells)]
    points = np.asarray(scores, np.float64)
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # the runs of a data set share one list of names
    found = {}
    for first, end in pairwise(bounds):
        names = tuple(map(str, cases[first:end]))
        found[str(cells[first]), int(seeds[first])] = _Scores(known.setdefault(names, names), points[first:end])
    return found


def class_scores(cases: pd.DataFrame, metric: str, policy: TablePolicy = "reference-mask") -> pd.DataFrame:
    """Mean over patients per run and class: columns `cell`, `seed`, `class_name`, `score`.

    Cases of one patient are averaged first, where `cases` names patients. Dice and surface Dice in points, 0 in a diverged run;
    RAVD in %; HD95, ASSD and MSSD in mm, missing in a diverged run, which predicts nothing.
    """
    if metric in DISTANCE_COLUMNS:
        values = cases[DISTANCE_COLUMNS[metric]].astype(float)
    else:
        points = class_dice(cases, policy) if metric == "dice" else cases["nsd"].astype(float)
        values = POINTS * points
        values = values.mask((cases["status"] == "diverged") & values.notna(), 0.0)
    keys = ["cell", "seed", "class_name"]
    if "patient" not in cases:
        return values.groupby([cases[key] for key in keys], observed=True, sort=False).mean().rename("score").reset_index()
    by_patient = values.groupby([cases[key] for key in (*keys, "patient")], observed=True, sort=False).mean()
    return by_patient.groupby(level=keys, observed=True, sort=False).mean().rename("score").reset_index()


def false_positives(cases: pd.DataFrame) -> pd.DataFrame:
    """What was predicted where the reference lacks a class, per cell.

    Columns: `cell`, `empty` cases × classes × seeds without reference, `rate` of them with a prediction, `voxels` predicted on
    average. Diverged runs are left out: their empty prediction would look like a good one.
    """
    empty = cases[(cases["tp"] + cases["fn"] == 0) & (cases["status"] == "ok")]
    frame = empty.assign(found=empty["fp"] > 0)
    groups = frame.groupby("cell", observed=True)
    return groups.agg(empty=("fp", "size"), rate=("found", "mean"), voxels=("fp", "mean")).reset_index()


@dataclass(frozen=True)
class _Run:
    """A run of an init: its cell and state, the digest of its weights, and its Dice points by case where it has them.

    Attributes:
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
        return f"{self.status}: {self.reason}" if self.reason else self.status


_Runs = dict[int, _Run]  # by seed


def _table(
    block: dict[str, object],
    by_init: dict[str, _Runs],
    policy: TablePolicy,
    seeds: Sequence[int] | None,
    patients: Mapping[str, Mapping[str, str]],
) -> ScoreTable:
    design, asked = _design(by_init, seeds)
    patient_of = _patient_of(by_init, patients)
    withheld = [item for init, runs in by_init.items() for item in _withheld(init, runs, asked[init], patient_of)]
    refused = {item.init for item in withheld}
    chosen: dict[str, list[_Run]] = {}
    cells: list[str] = []
    diverged: list[list[bool]] = []
    for init, of_seed in by_init.items():
        if init in refused:
            continue
        runs = [of_seed[seed] for seed in asked[init]]
        chosen[init] = runs
        cells.append(runs[0].cell)
        diverged.append([run.status == "diverged" for run in runs])
    y, names, unscored = _stacked(chosen, policy)
    whose = _patients(names, patient_of)
    lost = np.array(diverged, bool)
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
        collapsed=collapsed(_run_scores(averaged_by_patient(y, whose)), lost) if names else lost,
        withheld=tuple(withheld),
        unscored=unscored,
        patients=whose,
    )


def _patient_of(by_init: dict[str, _Runs], patients: Mapping[str, Mapping[str, str]]) -> Mapping[str, str] | None:
    """The patient of each case of a block; None where no run knows it.

    All runs of a block have the same cases. Where they know differently whose these are, as when a `patients.json` was added
    between them, the one with the fewest patients is taken: to take two patients for one is the safe mistake.
    """
    cells = {run.cell for runs in by_init.values() for run in runs.values()}
    known = [patients[cell] for cell in sorted(cells) if cell in patients]
    return min(known, key=lambda found: len(set(found.values())), default=None)


def _patients(cases: Sequence[str], patient_of: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """Returns the patient of every case, or None if the patient of some case is not known."""
    if patient_of is None or any(case not in patient_of for case in cases):
        return None
    return tuple(patient_of[case] for case in cases)


def _by_seed(init: str, group: pd.DataFrame, scored: dict[tuple[str, int], _Scores]) -> _Runs:
    found: _Runs = {}
    columns = (group[name] for name in ("seed", "cell", "status", "weights_digest"))
    reasons = group["reason"].fillna("") if "reason" in group else [""] * len(group)
    for number, cell, status, digest, reason in zip(*columns, reasons, strict=True):
        seed = int(number)
        if seed in found:
            raise UsageError(f"{init}: seed {seed} is there twice, as copies of one study below one folder would be; remove one")
        scores = scored.get((str(cell), seed)) if status in SCORED else None
        found[seed] = _Run(str(cell), str(status), "" if pd.isna(digest) else str(digest), scores, str(reason))
    return found


def _design(by_init: dict[str, _Runs], seeds: Sequence[int] | None) -> tuple[SeedDesign, dict[str, tuple[int, ...]]]:
    """Crossed, with all seeds of the block for every init; nested, with an init's own ones, where no two inits share a seed."""
    own = {init: tuple(sorted(runs)) for init, runs in by_init.items()}
    union = sorted({seed for found in own.values() for seed in found} | set(seeds or ()))
    apart = len(own) > 1 and len(union) == sum(map(len, own.values())) and len({len(found) for found in own.values()}) == 1
    return ("nested", own) if apart else ("crossed", dict.fromkeys(own, tuple(union)))


def _withheld(init: str, runs: _Runs, asked: tuple[int, ...], patient_of: Mapping[str, str] | None) -> Iterator[Withheld]:
    cell = next(iter(runs.values())).cell
    scores = tuple(run.scores.mean(patient_of) for _, run in sorted(runs.items()) if run.scores is not None)
    missing = [seed for seed in asked if seed not in runs or runs[seed].scores is None]
    if missing:
        states: dict[str, list[int]] = {}
        for seed in missing:
            states.setdefault(runs[seed].state if seed in runs else "not run", []).append(seed)
        yield _incomplete(init, states, cell, scores)
        return
    # Diverged runs may well be alike: all of them NaN.
    digests = Counter(runs[seed].digest for seed in asked if runs[seed].status == "ok")
    same = [str(seed) for seed in asked if runs[seed].digest and digests[runs[seed].digest] > 1]
    if same:
        reason = f"seeds {', '.join(same)} have the same weights, bit for bit: the seed is not in effect"
        yield Withheld(init, "identical", reason, cell, scores)


def _incomplete(init: str, states: Mapping[str, Sequence[int]], cell: str, scores: tuple[float, ...]) -> Withheld:
    """An init without a score for some seeds.

    Args:
        init: its name.
        states: how the runs without a score ended, with their seeds.
        cell: the cell of its runs.
        scores: Dice points of its other runs.
    """
    only = next(iter(states))
    if len(states) == 1 and not scores and only.startswith("failed: "):
        return Withheld(init, "failed", f"0 of {len(states[only])} seeds have a score, {only}", cell, scores)
    told = [f"{', '.join(map(str, seeds))} ({state})" for state, seeds in states.items()]
    reason = f"no score for seed {', '.join(told)}: run again, or compare the seeds that all inits have"
    return Withheld(init, "incomplete", reason, cell, scores)


def _stacked(chosen: dict[str, list[_Run]], policy: TablePolicy) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Dice points [init, seed, case], the scored cases, and the others."""
    if not chosen:
        return np.zeros((0, 0, 0)), (), ()
    rows = {init: [run.scores for run in runs if run.scores is not None] for init, runs in chosen.items()}
    names = next(iter(rows.values()))[0].cases
    for init, found in rows.items():
        if any(scores.cases != names for scores in found):
            raise DataError(f"{init}: scored on other cases than the other inits of its block; `initbench verify` names the runs")
    y = np.array([[scores.points for scores in found] for found in rows.values()])
    never = np.isnan(y).all((0, 1))
    if policy != "nnunet" and np.isnan(y[..., ~never]).any():
        raise DataError(
            "runs of a block disagree on which classes the reference of a case holds: the labels changed between them; run the "
            "older ones again, into a folder of their own (--out)"
        )
    kept = tuple(str(name) for name, out in zip(names, never, strict=True) if not out)
    return y[..., ~never], kept, tuple(str(name) for name, out in zip(names, never, strict=True) if out)


def _narrowed(by_init: dict[str, _Runs]) -> Narrowed:
    sets = [{seed for seed, run in runs.items() if run.scores is not None} for runs in by_init.values()]
    common = set.intersection(*sets)
    beside = [(init, seed) for init, runs in by_init.items() for seed in sorted(set(runs) - common) if common]
    return Narrowed(tuple(sorted(common)), tuple((i, seed) for i, seed in beside if by_init[i][seed].status == "diverged"))
