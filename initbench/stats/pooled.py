"""Several blocks at once: the mean difference of inits over backbones and data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from initbench.stats.across import Friedman, friedman
from initbench.stats.blocks import BASELINE, is_placebo, patients
from initbench.stats.compare import MARGIN, Difference, evaluated, judge, untestable_difference
from initbench.stats.design import SCOPES, Array, Refused, SeedDesign
from initbench.stats.mrmc import Estimate, crossed_difference, nested_difference
from initbench.stats.ranks import ranks
from initbench.stats.table import ScoreTable
from initbench.stats.testable import untestable

CLAIM = SCOPES["A"].replace("this training set", "these data sets and backbones")


@dataclass(frozen=True)
class PooledInit:
    """An init over all blocks of a group, in Dice points.

    Attributes:
        mean: over blocks, each counting the same.
        rank: mean of its ranks in the blocks, 1 the best; None for a placebo, which is no scheme.
        won: number of blocks in which it has the highest mean; likewise.
        difference: to the control; None for the control itself, and without one.
    """

    init: str
    mean: float
    rank: float | None
    won: int | None
    difference: Difference | None


@dataclass(frozen=True)
class Pooled:
    """The inits that every block of a group has, by falling mean.

    Attributes:
        against: the init that all others are compared with, None where no block has it.
        blocks: number of blocks.
        datasets: names of their data sets.
        left_out: inits that are not complete in every block.
        friedman: whether the inits rank alike over data sets.
    """

    inits: tuple[PooledInit, ...]
    against: str | None
    blocks: int
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    friedman: Friedman | Refused


def pool(tables: Sequence[ScoreTable], against: str = BASELINE, margin: float = MARGIN) -> Pooled | Refused:
    """The differences to `against`, averaged over blocks; every data set counts the same.

    Blocks of one data set share its cases, so that their runs are averaged over the backbones first, by seed and case; data sets
    are independent, and the squared errors of their differences add up. The claim is about these data sets and backbones: what
    another data set would show is for Friedman's test, which needs several. Where a block lacks the control nothing is compared.
    """
    refused = _twice(tables) or next((f"{_named(table)}: {table.refused}" for table in tables if table.refused), "")
    names = list(dict.fromkeys(init for table in tables for init in table.names))
    common = [init for init in names if all(init in table.inits for table in tables)]
    if refused or not common:
        return Refused(refused or "no init is complete in every block")
    parts = [table.only(common) for table in tables]
    groups = [_averaged(group) for group in _by_dataset(parts)]
    problem = next((found.reason for found in groups if isinstance(found, Refused)), "")
    studies = [found for found in groups if not isinstance(found, Refused)]
    means = np.stack([table.y.mean((-2, -1)) for table in parts])
    differences = {}
    if against in common:
        differences = _differences(studies, common, against, margin, problem)
    elif against in names:
        reason = _lacking(tables, against)
        differences = {init: untestable_difference((init, against), "A", math.nan, reason) for init in common}
    schemes = [k for k, init in enumerate(common) if not is_placebo(init)]
    own = {common[k]: places for k, places in zip(schemes, ranks(means[:, schemes]).T, strict=True)}
    rows = [_row(init, mean, own, differences.get(init)) for init, mean in zip(common, means.mean(0), strict=True)]
    sets = [str(table.block["dataset"]) for table in tables]
    return Pooled(
        inits=tuple(sorted(rows, key=lambda row: (-row.mean, row.init))),
        against=against if against in names else None,
        blocks=len(tables),
        datasets=tuple(dict.fromkeys(sets)),
        left_out=tuple(init for init in names if init not in common),
        friedman=friedman(means[:, schemes], sets),
    )


def _row(init: str, mean: float, places: Mapping[str, Array], difference: Difference | None) -> PooledInit:
    """`places`: the ranks of every scheme in the blocks."""
    if init not in places:
        return PooledInit(init, float(mean), None, None, difference)
    first = np.min(list(places.values()), axis=0)
    return PooledInit(init, float(mean), float(places[init].mean()), int((places[init] == first).sum()), difference)


def _lacking(tables: Sequence[ScoreTable], against: str) -> str:
    """Which block has no complete control, and why."""
    table = next(table for table in tables if against not in table.inits)
    reason = next((item.reason for item in table.withheld if item.init == against), "not run")
    return f"{against} is not complete in {_named(table)} ({reason})"


def _named(table: ScoreTable) -> str:
    return f"{table.block['dataset']} × {table.block['backbone']}"


def _twice(tables: Sequence[ScoreTable]) -> str:
    """Why some of these blocks cannot stand beside each other, as they would count the same patients twice; else empty."""
    sources: dict[str, set[tuple[str, str]]] = {}
    for table in tables:
        name, split = str(table.block["dataset"]), str(table.block["split"])
        sources.setdefault(patients(name), set()).add((name, split))
    shared = next((sorted(found) for found in sources.values() if len(found) > 1), None)
    if shared:
        said = " and ".join(f"{name} (split {split})" for name, split in shared)
        return f"{said} are of the same patients, and no two data sets: `--by dataset` has a table of each"
    networks = Counter((_named(table), table.block["variant"], table.block["split"]) for table in tables)
    (name, *_), most = networks.most_common(1)[0]
    if most > 1:
        return f"{name} is there with {most} recipes or numbers of steps: keep the runs of each in a folder of its own"
    return ""


@dataclass(frozen=True)
class _Study:
    """The runs of a data set, averaged over its backbones: y [init, seed, case]."""

    y: Array
    design: SeedDesign


def _by_dataset(tables: Sequence[ScoreTable]) -> list[list[ScoreTable]]:
    found: dict[tuple[Any, ...], list[ScoreTable]] = {}
    for table in tables:
        found.setdefault((table.block["dataset"], table.block["split"]), []).append(table)
    return list(found.values())


def _averaged(tables: Sequence[ScoreTable]) -> _Study | Refused:
    first = tables[0]
    name = first.block["dataset"]
    if any(table.cases != first.cases for table in tables):
        return Refused(f"{name}: the blocks have other cases")
    if any(table.seeds != first.seeds or table.design != first.design for table in tables):
        return Refused(f"{name}: the blocks have other seeds; compare those that all have")
    return _Study(np.mean([table.y for table in tables], axis=0), first.design)


def _differences(
    studies: Sequence[_Study], inits: Sequence[str], control: str, margin: float, problem: str
) -> dict[str, Difference]:
    """Of every init to the control; placebos in a family of their own each."""
    others = [init for init in inits if init != control]
    families = [[init for init in others if not is_placebo(init)], *([init] for init in others if is_placebo(init))]
    found = {}
    for family in families:
        items = [_difference(studies, inits, init, control, margin, problem, len(family)) for init in family]
        found.update({item.first: item for item in judge(items)})
    return found


def _difference(
    studies: Sequence[_Study], inits: Sequence[str], init: str, control: str, margin: float, problem: str, family: int
) -> Difference:
    i, j = list(inits).index(init), list(inits).index(control)
    reasons = [problem, *(untestable(study.y[i], study.y[j], "A", study.design, family) for study in studies)]
    value = float(np.mean([study.y[i].mean() - study.y[j].mean() for study in studies])) if studies else math.nan
    reason = next(filter(None, reasons), "")
    if reason:
        return untestable_difference((init, control), "A", value, reason)
    estimates = [
        crossed_difference(study.y[i] - study.y[j]) if study.design == "crossed" else nested_difference(study.y[i], study.y[j])
        for study in studies
    ]
    return evaluated([(init, control)], "A", combined(estimates).spread(1), margin, None)[0]


def combined(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates; degrees of freedom of Satterthwaite, and the fewest of any for the tails."""
    variances = np.array([float(item.error) ** 2 for item in estimates])
    whole = variances.sum()
    if whole == 0:
        df = share = 1.0
    else:
        df = float(whole**2 / sum(v**2 / float(item.df) for v, item in zip(variances, estimates, strict=True)))
        share = float(sum(v * float(item.share) for v, item in zip(variances, estimates, strict=True)) / whole)
    return Estimate(
        value=np.mean([item.value for item in estimates], axis=0),
        error=np.asarray(math.sqrt(whole) / len(estimates)),
        df=np.asarray(df),
        share=np.asarray(share),
        df_seeds=np.min([item.df_seeds for item in estimates]),
        df_cases=np.min([item.df_cases for item in estimates]),
    )
