"""The reported cases of a run: predicted, counted, and three of them drawn."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

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
        distance_seconds: time that the distances took, with the import of MONAI.
        resampled: counts on the preprocessed grid; empty where the recipe does not ask for them.
        telling: slices of every prediction that its picture would show.
    """

    counts: records.CaseCounts
    distances: CaseDistances | None
    distance_seconds: float = 0.0
    resampled: records.CaseCounts = field(default_factory=list)
    telling: dict[str, overlay.Telling] = field(default_factory=dict)


def score(cell: Cell, evaluator: Evaluator, staging: Path, progress: Progress, *, failed: bool) -> Scores:
    """Predicts every reported case, counts its voxels, and measures distances where they are asked for.

    Args:
        cell: the run.
        evaluator: applies its network.
        staging: folder that takes pictures and predictions.
        progress: told of each case.
        failed: whether training failed; every case is scored with an empty prediction then.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    prepared = cell.prepared
    progress.start("evaluate", len(prepared.split.test))
    results = Scores([], None)
    if cell.request.distances:
        results.distances = {}
    shown: dict[str, slices.Bytes] = {}
    if failed:
        found = score_empty(prepared, evaluator.settings)
    else:
        found = score_cases(evaluator, prepared)
    for done, scored in enumerate(found, start=1):
        if interrupt.asked():
            raise InterruptedRunError(f"stopped at case {done} of {len(prepared.split.test)} of the evaluation")
        results.counts.append((scored.case.id, scored.counts))
        if scored.resampled is not None:
            results.resampled.append((scored.case.id, scored.resampled))
        shown[scored.case.id] = slices.case_slice(scored.case, scored.prediction)
        results.telling[scored.case.id] = overlay.telling_slices(scored.case, scored.prediction)
        if results.distances is not None:
            started = time.perf_counter()
            results.distances[scored.case.id] = distances_of_case(scored, cell.request.nsd_tolerance)
            results.distance_seconds += time.perf_counter() - started
        if cell.request.save_predictions:
            records.save_prediction(staging / store.PREDICTIONS, scored)
        progress.advance(done, {})
    slices.write(staging / store.SLICES, shown)
    return results


def draw(cell: Cell, scores: Scores, path: Path) -> None:
    """Draws the best, the median and the worst case, or as many as there are, from the slices that were kept of predictions.

    Args:
        cell: whose reported cases they are.
        scores: of every reported case.
        path: of the picture.
    """
    values = {case_id: dice.case_dice(counts) for case_id, counts in scores.counts}
    cases = []
    for place, case_id in overlay.choose(values).items():
        title = f"{place}: {case_id}\nDice {100 * values[case_id]:.1f}"
        cases.append(overlay.OverlayCase(title, cell.prepared.case(case_id), scores.telling[case_id]))
    if cases:
        overlay.draw(cases, cell.prepared.classes, path)
