"""What a planned study could find, from runs that are there or from SDs that somebody states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from initbench.choices import BASELINE
from initbench.runs.costs import Expected, init_of
from initbench.runs.record import Resolved
from initbench.stats.blocks import is_placebo
from initbench.stats.design import Refused
from initbench.stats.families import baseline_family
from initbench.stats.power import Pilot, detectable, detectable_ratio, floor, power_of
from initbench.stats.summary import Interval
from initbench.stats.table import ScoreTable
from initbench.stats.testable import undecidable
from initbench.stats.treatments import treatment_of
from initbench.stats.variances import SEEDS_TO_TEST
from initbench.tables import words
from initbench.tables.power import INTERACTIONS, from_runs
from initbench.tables.standings import UNKNOWN
from initbench.tables.titles import title

_VAST = 10  # a ratio of seed SDs that no two inits have
# In which settings runs that are there may differ from planned ones; what changes the noise most comes first.
_SETTINGS = ("dataset", "backbone", "variant", "size", "steps", "precision", "split", "recipe")


@dataclass(frozen=True)
class Noise:
    """How noisy the differences of a block are.

    Attributes:
        pilot: the noise.
        source: where it is from, for people; of runs of another block with ``borrowed:`` before it.
        is_own: whether the runs that tell it are like the planned ones.
    """

    pilot: Pilot
    source: str
    is_own: bool = False


def noise_of(resolved: Resolved, tables: Sequence[ScoreTable], stated: Pilot | None = None) -> Noise | None:
    """Returns the noise of a planned block; None where nobody knows it.

    Args:
        resolved: a run of the block.
        tables: blocks of runs that are there. The one that is most like the planned one counts: data set first, then network,
            then the rest.
        stated: the noise that somebody states, which counts in place of the noise of runs.
    """
    if stated is not None:
        return Noise(stated, "stated SDs")
    planned = {name: getattr(resolved, name) for name in _SETTINGS} | {"recipe": resolved.recipe_digest}
    nearest: tuple[list[bool], ScoreTable, Pilot] | None = None
    for table in tables:
        pilot = from_runs(table)
        if isinstance(pilot, Refused):
            continue
        differs = [table.block[name] != planned[name] for name in _SETTINGS]
        if nearest is None or differs < nearest[0]:
            nearest = differs, table, pilot
    if nearest is None:
        return None
    differs, table, pilot = nearest
    if not any(differs):
        return Noise(pilot, title(table.block), is_own=True)
    return Noise(pilot, f"borrowed: {title(table.block)}{_told(dict(zip(_SETTINGS, differs, strict=True)), table)}")


def _told(differs: dict[str, bool], table: ScoreTable) -> str:
    """Returns the settings in which a block differs from a planned one, as far as its title does not say them."""
    told = ""
    if differs["size"] or differs["steps"]:
        told += f", {table.block['size']} size, {table.block['steps']} steps"
    if differs["split"]:
        told += f", split {table.block['split']}"
    if differs["recipe"] and not differs["dataset"]:
        told += ", another recipe"
    return told


def row_of(resolved: Resolved) -> str:
    """Returns the name of the row that a run will be of."""
    return treatment_of(resolved.init, resolved.regimen, resolved.regimen_budget).name


class Block:
    """What the runs of a data set and a network could find.

    Attributes:
        name: for people.
        seeds: how many there are.
        cases: reported cases.
        patients: of whom these cases are.
        pairs: differences that are judged together.
        interactions: of an init and a regimen, among these differences.
        noise: of a difference; None where nobody knows it.
        finds: the smallest difference that is found in 80 % of studies, in Dice points.
        power: the share of studies that find this difference.
        floor: the difference that more seeds never get below, in Dice points.
        undecidable: why nothing can come of it; empty where something can.
    """

    def __init__(self, name: str, runs: Sequence[Expected], noise: Noise | None) -> None:
        """Looks what the runs of a block could find.

        Args:
            name: for people.
            runs: all of the block, those that are done among them.
            noise: of a difference.
        """
        resolved = runs[0].resolved
        self.name = name
        self.noise = noise
        self.seeds = len({run.resolved.seed for run in runs})
        self.cases = len(resolved.reported_cases)
        self.patients = len({resolved.patients.get(case, case) for case in resolved.reported_cases})
        rows = set()
        for run in runs:
            if not is_placebo(run.resolved.init):  # of inits that are called alike the parameters tell two rows
                rows.add((row_of(run.resolved), init_of(run.resolved)))
        names = [row for row, _ in rows]
        # As the tables judge them: with plain `default` in the study the differences to it and the interactions, else all pairs.
        family = baseline_family(names)
        self.interactions = family.interactions
        self.pairs = len(rows) * (len(rows) - 1) // 2
        if BASELINE in names:
            self.pairs = family.size
        self.undecidable = undecidable(len(rows), self.seeds, self.patients)
        self.finds, self.power, self.floor = UNKNOWN, UNKNOWN, math.nan
        if noise is not None:
            comparisons = max(1, self.pairs)
            self.floor = floor(noise.pilot, self.patients, comparisons)
            found = detectable(noise.pilot, self.seeds, self.patients, comparisons)
            if isinstance(found, Interval):
                self.finds = found
                self.power = power_of(noise.pilot, self.seeds, self.patients, found.value, comparisons)

    @property
    def source(self) -> str:
        """Where its noise is from."""
        if self.noise is None:
            return "none"
        return self.noise.source

    def cells(self) -> tuple[str, str, str]:
        """Returns the cells of its row: what it finds, its floor, and where its noise is from."""
        found, source = words.interval(self.finds, digits=1), self.source
        if self.undecidable:
            found = "not testable"
        elif self.noise and math.isnan(self.finds.value):
            found = "none"
        if self.noise and self.noise.is_own:
            source = "own runs"
        return found, words.number(self.floor, 1), source

    def values(self) -> dict[str, Any]:
        """Returns the columns of JSON and CSV."""
        return {
            "seeds": self.seeds,
            "cases": self.cases,
            "patients": self.patients,
            "differences": self.pairs,
            **words.interval_values("detectable", self.finds),
            "power_low": self.power.low,
            "power_high": self.power.high,
            "undecidable": self.undecidable,
            "floor": self.floor,
            "pilot": self.source,
        }


def notes(blocks: Sequence[Block]) -> Iterator[str]:
    """Gives the notes on what a study could find."""
    reasons: dict[str, list[str]] = {}
    able = []
    for block in blocks:
        if block.undecidable:
            reasons.setdefault(block.undecidable, []).append(block.name)
        else:
            able.append(block)
    for reason, names in reasons.items():
        study = "this study"
        if len(names) < len(blocks):
            study += f" of {', '.join(names)}"
        yield f"Warning: {study} can decide nothing: {reason}."
    if not able:
        return
    seeds = max(block.seeds for block in able)
    if not any(block.noise for block in able):
        yield "What this can find is unknown: no runs to take the noise from; run a few seeds of two inits first, or state --sd."
    elif len(blocks) == 1:
        yield _of_one(blocks[0])
    else:
        yield (
            f"finds ≥: the true difference in Dice points that {seeds} seeds × the reported cases tell from 0 in 80 % of "
            "studies, for new seeds and cases, judged with the other differences of its table; in brackets what it may be, as "
            "the pilot's few runs tell their own noise only roughly. floor: what more seeds never get below (case noise)."
        )
    if any(block.interactions for block in able):
        yield INTERACTIONS
    yield _of_seed_sds(seeds, len(blocks))


def _of_one(block: Block) -> str:
    """Returns what a study of one block finds."""
    finds, power = block.finds, block.power
    if math.isnan(finds.value):
        return (
            f"With these {block.seeds} seeds not even a difference of 100 points is found in 80 % of studies (pilot: "
            f"{block.source}): take more seeds."
        )
    cases = words.count(block.cases, "case")
    if block.patients < block.cases:
        cases = f"{cases} of {words.count(block.patients, 'patient')}"
    told = (
        f"With these {block.seeds} seeds × {cases} you can detect ≥ {finds.value:.1f} Dice points (80 % power at 5 % for "
        f"{words.count(max(1, block.pairs), 'difference')} judged at once, new seeds and cases; pilot: {block.source})."
    )
    if not math.isnan(finds.low):
        told += (
            f" The pilot's few runs tell their own noise only roughly: it may be {finds.low:.1f} to {finds.high:.1f} points, and "
            f"{finds.value:.1f} are found in {100 * power.low:.0f} to {100 * power.high:.0f} % of studies."
        )
    if block.floor < 0.05:
        return f"{told} More seeds help on: the noise of the cases is too small to be seen in the pilot."
    return f"{told} More seeds stop helping below {block.floor:.1f} points (case noise)."


def _of_seed_sds(seeds: int, blocks: int) -> str:
    """Returns which ratio of the seed SDs of two inits a study finds."""
    told = f"Seed SDs of two inits: in one block not testable below {SEEDS_TO_TEST} seeds"
    if seeds >= SEEDS_TO_TEST:
        told = f"Seed SDs of two inits: in one block testable with {seeds} seeds"
    ratio = detectable_ratio(seeds, blocks)
    if isinstance(ratio, Refused):
        return f"{told}."
    if ratio < _VAST:
        return f"{told}; pooled over {blocks} blocks, a ratio of ≥ {ratio:.1f} is found."
    return f"{told}; pooled over {blocks} blocks, no ratio below {_VAST} is found, more blocks would help."
