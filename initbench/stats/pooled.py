"""Several blocks at once: the mean difference of inits over backbones and data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from initbench.choices import BASELINE, MARGIN
from initbench.stats.across import Friedman, friedman
from initbench.stats.blocks import is_placebo, patients
from initbench.stats.collapse import Collapses, collapses
from initbench.stats.compare import Difference, evaluated, untestable_difference
from initbench.stats.design import SCOPES, Array, Flags, Refused
from initbench.stats.families import family
from initbench.stats.interactions import Judged, Scores, judge
from initbench.stats.mrmc import crossed_difference, nested_difference
from initbench.stats.ranks import ranks
from initbench.stats.table import ScoreTable
from initbench.stats.tails import combined
from initbench.stats.testable import untestable
from initbench.stats.treatments import compared_with

CLAIM = SCOPES["A"].replace("this training set", "these data sets and backbones")


@dataclass(frozen=True)
class PooledInit:
    """An init over all blocks of a group, in Dice points.

    Attributes:
        mean: over data sets, each counting the same, and within them over backbones.
        rank: mean of its ranks in the blocks, 1 the best; None for a placebo, which is no scheme.
        won: number of blocks in which it has the highest mean; likewise.
        diverged: number of its runs that diverged, which score 0.
        collapses: how many of its runs collapsed, found block by block, the diverged ones among them.
        difference: to the control; None for the control itself, and without one.
    """

    init: str
    mean: float
    rank: float | None
    won: int | None
    diverged: int
    collapses: Collapses
    difference: Difference | None


@dataclass(frozen=True)
class Pooled:
    """The inits that every block of a group has, by falling mean.

    Attributes:
        against: the init that all others are compared with, None where no block has it.
        blocks: number of blocks.
        datasets: names of their data sets.
        left_out: inits that are not complete in every block, each with the first such block and why.
        friedman: whether the inits rank alike over data sets.
        interactions: of inits and regimens, where the blocks have both.
    """

    inits: tuple[PooledInit, ...]
    against: str | None
    blocks: int
    datasets: tuple[str, ...]
    left_out: Mapping[str, str]
    friedman: Friedman | Refused
    interactions: tuple[Judged, ...]


def pool(tables: Sequence[ScoreTable], against: str = BASELINE, margin: float = MARGIN) -> Pooled | Refused:
    """The differences to `against`, averaged over blocks; every data set counts the same.

    Blocks of one data set share its cases, so that their runs are averaged over the backbones first, by seed and case; data sets
    are independent, and the squared errors of their differences add up. The claim is about these data sets and backbones: what
    another data set would show is for Friedman's test, which needs several. Where a block lacks the control nothing is compared.
    """
    refused = _twice(tables) or next((f"{_named(table)}: {table.refused}" for table in tables if table.refused), "")
    names = list(dict.fromkeys(init for table in tables for init in table.names))
    common = [init for init in names if all(init in table.inits for table in tables)]
    if refused:
        return Refused(refused)
    left_out = {init: _lacking(tables, init) for init in names if init not in common}
    if not common:
        lacking = "; ".join(f"{init} is not complete in {block}" for init, block in left_out.items())
        return Refused(f"no init is complete in every block: {lacking}")
    parts = [table.only(common) for table in tables]
    groups = [_averaged(group) for group in _by_dataset(parts)]
    problem = next((found.reason for found in groups if isinstance(found, Refused)), "")
    studies = [found for found in groups if not isinstance(found, Refused)]
    means = np.stack([table.by_patient.mean((-2, -1)) for table in parts])
    differences = {}
    if against in common:
        differences = _differences(studies, common, against, margin, problem)
    elif against in names:
        reason = f"{against} is not complete in {left_out[against]}"
        differences = {init: untestable_difference((init, against), "A", math.nan, reason) for init in common}
    schemes = [k for k, init in enumerate(common) if not is_placebo(init)]
    own = {common[k]: places for k, places in zip(schemes, ranks(means[:, schemes]).T, strict=True)}
    sets = [str(table.block["dataset"]) for table in tables]
    overall = _weights(parts) @ means
    # The bound of their mean rate holds where rates differ by block: no collapse is then less likely than at one rate.
    fallen = {init: collapses(np.concatenate([table.collapsed[k] for table in parts])) for k, init in enumerate(common)}
    rows = []
    for k, init in enumerate(common):
        item = differences.get(init)
        if item is not None and item.second in fallen:
            item = replace(item, collapses=(fallen[item.first], fallen[item.second]))
        lost = np.concatenate([table.diverged[k] for table in parts])
        rows.append(_row(init, float(overall[k]), own, lost, fallen[init], item))
    return Pooled(
        inits=tuple(sorted(rows, key=lambda row: (-row.mean, row.init))),
        against=against if against in names else None,
        blocks=len(tables),
        datasets=tuple(dict.fromkeys(sets)),
        left_out=left_out,
        friedman=friedman(means[:, schemes], sets),
        interactions=judge(studies, common, margin, problem=problem, fallen=fallen),
    )


def _weights(tables: Sequence[ScoreTable]) -> Array:
    """The weight of each block: every data set counts the same, and every backbone of a data set, as in the differences."""
    sets = [(table.block["dataset"], table.block["split"]) for table in tables]
    return np.array([1 / (len(set(sets)) * sets.count(name)) for name in sets])


def _row(
    init: str, mean: float, places: Mapping[str, Array], lost: Flags, fallen: Collapses, difference: Difference | None
) -> PooledInit:
    """The row of an init.

    Args:
        init: its name.
        mean: its Dice points over the blocks.
        places: ranks of every scheme in the blocks.
        lost: which of its runs diverged.
        fallen: how many of them collapsed.
        difference: to the control, if there is one.
    """
    rank, won = None, None
    if init in places:
        first = np.min(list(places.values()), axis=0)
        rank, won = float(places[init].mean()), int((places[init] == first).sum())
    return PooledInit(init, mean, rank, won, int(lost.sum()), fallen, difference)


def _lacking(tables: Sequence[ScoreTable], init: str) -> str:
    """The first block in which an init is not complete, why, and how many other such blocks there are."""
    first, *others = [table for table in tables if init not in table.inits]
    reason = next((item.reason for item in first.withheld if item.init == init), "not run")
    found = f"{_named(first)} ({reason})"
    if not others:
        return found
    return f"{found}, and in {len(others)} other block{'s' if len(others) > 1 else ''}"


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


def _by_dataset(tables: Sequence[ScoreTable]) -> list[list[ScoreTable]]:
    found: dict[tuple[Any, ...], list[ScoreTable]] = {}
    for table in tables:
        found.setdefault((table.block["dataset"], table.block["split"]), []).append(table)
    return list(found.values())


def _averaged(tables: Sequence[ScoreTable]) -> Scores | Refused:
    first = tables[0]
    name = first.block["dataset"]
    if any(table.cases != first.cases for table in tables):
        return Refused(f"{name}: the blocks have other cases")
    if any(table.seeds != first.seeds or table.design != first.design for table in tables):
        return Refused(f"{name}: the blocks have other seeds; compare those that all have")
    return Scores(np.mean([table.by_patient for table in tables], axis=0), first.design)


def _differences(
    studies: Sequence[Scores], inits: Sequence[str], control: str, margin: float, problem: str
) -> dict[str, Difference]:
    """Of every init to the control, each judged in its family."""
    found = {}
    for init in inits:
        if init == control:
            continue
        own = compared_with(init, control)
        if own in inits:
            found[init] = _difference(studies, inits, (init, own), margin, problem)
        else:
            found[init] = untestable_difference((init, own), "A", math.nan, f"{own} is not complete in every block")
    return found


def _difference(
    studies: Sequence[Scores], inits: Sequence[str], names: tuple[str, str], margin: float, problem: str
) -> Difference:
    i, j = (list(inits).index(name) for name in names)
    of = family(*names, inits)
    reasons = [problem, *(untestable(study.y[i], study.y[j], "A", study.seeds) for study in studies)]
    value = float(np.mean([study.y[i].mean() - study.y[j].mean() for study in studies])) if studies else math.nan
    reason = next(filter(None, reasons), "")
    if reason:
        return untestable_difference(names, "A", value, reason, of)
    estimates = []
    for study in studies:
        crossed = study.seeds == "crossed"
        a, b = study.y[i], study.y[j]
        estimates.append(crossed_difference(a - b) if crossed else nested_difference(a, b))
    return evaluated([names], [of], "A", combined(estimates).spread(1), margin)[0]
