"""The reported cases of a run: predicted, counted, and three of them drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from initbench import dice, interrupt
from initbench.errors import InterruptedRunError
from initbench.evaluation import overlay
from initbench.evaluation.evaluate import Evaluator, score_cases, score_empty
from initbench.harness import record as records
from initbench.harness.cell import Cell
from initbench.protocols import Progress
from initbench.runs import store


def score(cell: Cell, evaluator: Evaluator, staging: Path, progress: Progress, *, failed: bool) -> records.CaseCounts:
    """Counts of every reported case; those of an empty prediction where training `failed`.

    Raises:
        InterruptedRunError: somebody asked to stop.
    """
    prepared = cell.prepared
    progress.start("evaluate", len(prepared.split.test))
    results: records.CaseCounts = []
    for done, scored in enumerate(score_empty(prepared) if failed else score_cases(evaluator, prepared), start=1):
        if interrupt.asked():
            raise InterruptedRunError(f"stopped at case {done} of {len(prepared.split.test)} of the evaluation")
        results.append((scored.case.id, scored.counts))
        if cell.request.save_predictions:
            records.save_prediction(staging / store.PREDICTIONS, scored)
        progress.advance(done, {})
    return results


def draw(cell: Cell, evaluator: Evaluator, scored: records.CaseCounts, path: Path, *, failed: bool) -> None:
    """Draws the best, the median and the worst case.

    They are predicted again: keeping every prediction would hold gigabytes for large CT.
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
        cases.append(overlay.OverlayCase(text, case.image, np.array(case.reference), prediction, case.placement, case.affine))
    overlay.draw(cases, cell.prepared.classes, path)
