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
from initbench.stats.power import Pilot, detectable, floor
from initbench.stats.summary import Interval
from initbench.stats.table import ScoreTable
from initbench.stats.testable import undecidable
from initbench.stats.treatments import treatment_of
from initbench.tables import words
from initbench.tables.power import INTERACTIONS, from_runs
from initbench.tables.standings import UNKNOWN
from initbench.tables.titles import title

# In which settings runs that are there may differ from planned ones, and how that is told where the title of their block does not
# say it. What changes the noise most comes first.
_SETTINGS = {
    "dataset": "",
    "backbone": "",
    "variant": "",
    "size": "{size} size",
    "steps": "{steps} steps",
    "precision": "",
    "split": "split {split}",
    "recipe": "another recipe",
}


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
    told = [f"borrowed: {title(table.block)}"]
    for is_other, words_of_setting in zip(differs, _SETTINGS.values(), strict=True):
        if is_other and words_of_setting:
            told.append(words_of_setting.format_map(table.block))
    return Noise(pilot, ", ".join(told))


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
        self.finds, self.floor = UNKNOWN, math.nan
        if noise is not None:
            comparisons = max(1, self.pairs)
            self.floor = floor(noise.pilot, self.patients, comparisons)
            found = detectable(noise.pilot, self.seeds, self.patients, comparisons)
            if isinstance(found, Interval):
                self.finds = found

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
    if not any(block.noise for block in able):
        yield "What this can find is unknown: no runs to take the noise from; run a few seeds of two inits first, or state --sd."
        return
    if len(blocks) == 1:
        yield _of_one(blocks[0])
    else:
        seeds = max(block.seeds for block in able)
        yield (
            f"finds ≥: the true difference in Dice points that {seeds} seeds × the reported cases tell from 0 in 80 % of "
            "studies, for new seeds and cases, judged with the other differences of its table. floor: what more seeds never get "
            "below (case noise)."
        )
    if any(not math.isnan(block.finds.low) for block in able):
        yield "In brackets: what it may be, as the pilot's few runs tell their own noise only roughly."
    if any(block.interactions for block in able):
        yield INTERACTIONS


def _of_one(block: Block) -> str:
    """Returns what a study of one block finds."""
    pilot = f"pilot: {block.source}"
    if math.isnan(block.finds.value):
        return f"With these {block.seeds} seeds not even 100 points are found in 80 % of studies ({pilot}): take more seeds."
    cases = words.count(block.cases, "case")
    if block.patients < block.cases:
        cases += f" of {words.count(block.patients, 'patient')}"
    more = f"More seeds stop helping below {block.floor:.1f} points (case noise)."
    if block.floor < 0.05:
        more = "More seeds help on: the noise of the cases is too small to be seen in the pilot."
    return (
        f"With these {block.seeds} seeds × {cases} you can detect ≥ {words.interval(block.finds, digits=1)} Dice points (80 % "
        f"power at 5 % for {words.count(max(1, block.pairs), 'difference')} judged at once, new seeds and cases; {pilot}). {more}"
    )
