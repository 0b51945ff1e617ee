"""The reported cases of a run: predicted, counted, and three of them drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from initbench import dice, interrupt
from initbench.errors import InterruptedRunError
from initbench.evaluation import overlay, slices
from initbench.evaluation.distances import CaseDistances, distances_of_case
from initbench.evaluation.evaluate import Evaluator, score_cases, score_empty
from initbench.harness import record as records
from initbench.harness.cell import Cell
from initbench.protocols import Progress
from initbench.runs import store


@dataclass
class Scores:
    """What was measured on the reported cases.

    Attributes:
        counts: per case and foreground class.
        distances: likewise, None where they were not asked for.
        distance_seconds: what those took, MONAI's import with them.
        resampled: counts on the preprocessed grid; empty where the recipe does not ask for them.
    """

    counts: records.CaseCounts
    distances: CaseDistances | None
    distance_seconds: float = 0.0
    resampled: records.CaseCounts = field(default_factory=list)


def score(cell: Cell, evaluator: Evaluator, staging: Path, progress: Progress, *, failed: bool) -> Scores:
    """Counts of every reported case, and distances where asked for; those of an empty prediction where training `failed`.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    prepared = cell.prepared
    progress.start("evaluate", len(prepared.split.test))
    results = Scores([], {} if cell.request.distances else None)
    shown: dict[str, slices.Bytes] = {}
    found = score_empty(prepared, evaluator.settings) if failed else score_cases(evaluator, prepared)
    for done, scored in enumerate(found, start=1):
        if interrupt.asked():
            raise InterruptedRunError(f"stopped at case {done} of {len(prepared.split.test)} of the evaluation")
        results.counts.append((scored.case.id, scored.counts))
        if scored.resampled is not None:
            results.resampled.append((scored.case.id, scored.resampled))
        shown[scored.case.id] = slices.case_slice(scored.case, scored.prediction)
        if results.distances is not None:
            started = time.perf_counter()
            results.distances[scored.case.id] = distances_of_case(scored, cell.request.nsd_tolerance)
            results.distance_seconds += time.perf_counter() - started
        if cell.request.save_predictions:
            records.save_prediction(staging / store.PREDICTIONS, scored)
        progress.advance(done, {})
    slices.write(staging / store.SLICES, shown)
    return results


def draw(cell: Cell, evaluator: Evaluator, scored: records.CaseCounts, path: Path, *, failed: bool) -> None:
    """Draws the best, the median and the worst case.

    They are predicted again: keeping every prediction would hold gigabytes for large CT.

    Args:
        cell: whose reported cases they are.
        evaluator: the trained network.
        scored: counts of every reported case.
        path: of the picture.
        failed: whether the run diverged, so that its predictions are empty.
    """
    ranked = sorted((dice.case_dice(counts), case_id) for case_id, counts in scored if dice.case_dice(counts) >= 0)
    if not ranked:
        return
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    cases = []
    for title, (value, case_id) in list(chosen.items())[: len(ranked)]:
        case = cell.prepared.case(case_id)
        prediction = np.zeros_like(case.reference) if failed else evaluator.predict(case)
        text = f"{title}: {case_id}\nDice {100 * value:.1f}"
        cases.append(overlay.OverlayCase(text, case.image, case.reference, prediction, case.placement, case.affine))
    overlay.draw(cases, cell.prepared.classes, path)
