"""Several blocks at once: the mean difference of inits over backbones and data sets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from initbench.choices import BASELINE, MARGIN
from initbench.stats.across import Friedman, friedman
from initbench.stats.blocks import patients, without_placebos
from initbench.stats.collapse import Collapses, collapses
from initbench.stats.compare import Difference, evaluated, untestable_difference
from initbench.stats.design import SCOPES, Array, Flags, Refused
from initbench.stats.families import family
from initbench.stats.interactions import Judged, Scores, judge
from initbench.stats.mrmc import mean_difference
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
        won: number of blocks in which it has the highest mean; None for a placebo.
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
        inits: the rows, by falling mean.
        against: the init that all others are compared with, None where no block has it.
        blocks: number of blocks.
        datasets: names of their data sets.
        left_out: inits that are not complete in every block, each with the first such block and why.
        friedman: the test whether the inits rank alike over data sets, or why there is none.
        interactions: the interactions of inits and regimens, where the blocks have both.
    """

    inits: tuple[PooledInit, ...]
    against: str | None
    blocks: int
    datasets: tuple[str, ...]
    left_out: Mapping[str, str]
    friedman: Friedman | Refused
    interactions: tuple[Judged, ...]


def pool(tables: Sequence[ScoreTable], against: str = BASELINE, margin: float = MARGIN) -> Pooled | Refused:
    """Averages the differences to `against` over blocks; every data set counts the same.

    Blocks of one data set share its cases, so that their runs are averaged over the backbones first, by seed and case; data sets
    are independent, and the squared errors of their differences add up. The claim is about these data sets and backbones.
    Friedman's test is about other data sets, and needs several. Where a block lacks the control nothing is compared.

    Args:
        tables: the scores of the blocks.
        against: the init that all others are compared with.
        margin: Dice points within which two inits are equivalent.

    Returns:
        The inits that every block has, or why nothing is pooled.
    """
    refused = _refusal(tables)
    if refused:
        return Refused(refused)
    common, left_out = _complete(tables)
    if not common:
        lacking = "; ".join(f"{init} is not complete in {block}" for init, block in left_out.items())
        return Refused(f"no init is complete in every block: {lacking}")
    parts = [table.only(common) for table in tables]
    studies, problem = _studies(parts)
    control: str | None = against
    differences: dict[str, Difference] = {}
    if against in common:
        differences = _differences(studies, common, against, margin, problem)
    elif against in left_out:
        reason = f"{against} is not complete in {left_out[against]}"
        for init in common:
            differences[init] = untestable_difference((init, against), "A", math.nan, reason)
    else:
        control = None
    means = np.stack([table.by_patient.mean((-2, -1)) for table in parts])
    schemes = without_placebos(common)
    of_schemes = means[:, [common.index(init) for init in schemes]]
    places = dict(zip(schemes, ranks(of_schemes).T, strict=True))
    sets = [str(table.block["dataset"]) for table in tables]
    overall = _weights(parts) @ means
    collapsed = np.concatenate([table.collapsed for table in parts], axis=1)
    diverged = np.concatenate([table.diverged for table in parts], axis=1)
    # The bound of their mean rate holds where rates differ by block: no collapse is then less likely than at one rate.
    fallen = {}
    for init, flags in zip(common, collapsed, strict=True):
        fallen[init] = collapses(flags)
    rows = []
    for init, mean, lost in zip(common, overall.tolist(), diverged, strict=True):
        item = differences.get(init)
        if item is not None and item.second in fallen:
            item = replace(item, collapses=(fallen[item.first], fallen[item.second]))
        rows.append(_row(init, mean, places, lost, fallen[init], item))
    return Pooled(
        inits=tuple(sorted(rows, key=lambda row: (-row.mean, row.init))),
        against=control,
        blocks=len(tables),
        datasets=tuple(dict.fromkeys(sets)),
        left_out=left_out,
        friedman=friedman(of_schemes, sets),
        interactions=judge(studies, common, margin, problem=problem, fallen=fallen),
    )


def _complete(tables: Sequence[ScoreTable]) -> tuple[list[str], dict[str, str]]:
    """Returns the inits that are complete in every block, and the others, each with the first block in which it is not."""
    names: dict[str, None] = {}  # in the order in which blocks have them
    for table in tables:
        names.update(dict.fromkeys(table.names))
    common, left_out = [], {}
    for init in names:
        if all(init in table.inits for table in tables):
            common.append(init)
        else:
            left_out[init] = _lacking(tables, init)
    return common, left_out


def _studies(tables: Sequence[ScoreTable]) -> tuple[list[Scores], str]:
    """Returns the scores of each data set, averaged over its backbones, and why some cannot be averaged; empty where all can."""
    studies, problem = [], ""
    for group in _by_dataset(tables):
        found = _averaged(group)
        if isinstance(found, Refused):
            problem = problem or found.reason
        else:
            studies.append(found)
    return studies, problem


def _source(table: ScoreTable) -> tuple[str, str]:
    """Returns the data set of a block and the name of its split: blocks that share both have the same cases."""
    return str(table.block["dataset"]), str(table.block["split"])


def _weights(tables: Sequence[ScoreTable]) -> Array:
    """Returns the weight of each block, [block]; the weights sum to 1.

    Every data set counts the same, and every backbone of a data set, as in the differences.
    """
    number = Counter(map(_source, tables))
    weights = []
    for table in tables:
        weights.append(1 / (len(number) * number[_source(table)]))
    return np.array(weights)


def _row(
    init: str, mean: float, places: Mapping[str, Array], lost: Flags, fallen: Collapses, difference: Difference | None
) -> PooledInit:
    """Returns the row of an init.

    Args:
        init: its name.
        mean: its Dice points over the blocks.
        places: ranks of every scheme in the blocks, [block].
        lost: which of its runs diverged, [run].
        fallen: how many of its runs collapsed.
        difference: to the control, if there is one.
    """
    rank, won = None, None
    if init in places:
        first = np.min(list(places.values()), axis=0)
        rank, won = float(places[init].mean()), int((places[init] == first).sum())
    return PooledInit(init, mean, rank, won, int(lost.sum()), fallen, difference)


def _lacking(tables: Sequence[ScoreTable], init: str) -> str:
    """Returns the first block in which an init is not complete, why, and how many other such blocks there are, in words."""
    blocks = [table for table in tables if init not in table.inits]
    reason = "not run"
    for item in blocks[0].withheld:
        if item.init == init:
            reason = item.reason
    found = f"{_named(blocks[0])} ({reason})"
    others = len(blocks) - 1
    if others == 0:
        return found
    if others == 1:
        return f"{found}, and in 1 other block"
    return f"{found}, and in {others} other blocks"


def _named(table: ScoreTable) -> str:
    """Returns the data set and the network of a block, for messages."""
    return f"{table.block['dataset']} × {table.block['backbone']}"


def _refusal(tables: Sequence[ScoreTable]) -> str:
    """Returns why some of these blocks cannot be pooled; empty where all can."""
    twice = _twice(tables)
    if twice:
        return twice
    for table in tables:
        if table.refused:
            return f"{_named(table)}: {table.refused}"
    return ""


def _twice(tables: Sequence[ScoreTable]) -> str:
    """Returns why some of these blocks would count the same patients twice; empty where none would."""
    sources: dict[str, set[tuple[str, str]]] = {}
    networks: Counter[tuple[str, str, str]] = Counter()
    for table in tables:
        name, split = _source(table)
        sources.setdefault(patients(name), set()).add((name, split))
        networks[_named(table), str(table.block["variant"]), split] += 1
    for shared in sources.values():
        if len(shared) > 1:
            said = " and ".join(f"{name} (split {split})" for name, split in sorted(shared))
            return f"{said} are of the same patients, and no two data sets: `--by dataset` has a table of each"
    (network, *_), most = networks.most_common(1)[0]
    if most > 1:
        return f"{network} is there with {most} recipes or numbers of steps: keep the runs of each in a folder of its own"
    return ""


def _by_dataset(tables: Sequence[ScoreTable]) -> list[list[ScoreTable]]:
    """Returns the blocks of each data set and split."""
    found: dict[tuple[str, str], list[ScoreTable]] = {}
    for table in tables:
        found.setdefault(_source(table), []).append(table)
    return list(found.values())


def _averaged(tables: Sequence[ScoreTable]) -> Scores | Refused:
    """Returns the scores of the blocks of a data set, averaged over the backbones, or why they cannot be averaged."""
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
    """Returns the difference of every init to the control, each judged in its family.

    Args:
        studies: the scores of each data set.
        inits: names along the first axis of the scores.
        control: the init that all others are compared with.
        margin: Dice points within which two inits are equivalent.
        problem: why nothing can be compared; empty where it can.
    """
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
    """Returns the mean over data sets of the difference of two inits; the arguments are as for `_differences`."""
    first, second = inits.index(names[0]), inits.index(names[1])
    of = family(*names, inits)
    reason, values, estimates = problem, [], []
    for study in studies:
        a, b = study.y[first], study.y[second]
        values.append(a.mean() - b.mean())
        reason = reason or untestable(a, b, "A", study.seeds)
        if not reason:
            estimates.append(mean_difference(a, b, study.seeds))
    if reason:
        value = math.nan
        if values:
            value = float(np.mean(values))
        return untestable_difference(names, "A", value, reason, of)
    return evaluated([names], [of], "A", combined(estimates).spread(1), margin)[0]
