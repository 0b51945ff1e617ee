"""Dice from stored counts: one place for the policy, shared by the evaluation and by the tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean


def reference_mask(tp: int, fp: int, fn: int) -> float:
    """2 TP / (2 TP + FP + FN), NaN where the reference is empty: which classes are scored must not depend on the prediction."""
    return math.nan if tp + fn == 0 else 2 * tp / (2 * tp + fp + fn)


@dataclass(frozen=True)
class Counts:
    """Voxels of one class in one case on the native grid."""

    tp: int
    fp: int
    fn: int

    @property
    def dice(self) -> float:
        """Dice under the policy ``reference-mask``."""
        return reference_mask(self.tp, self.fp, self.fn)


def case_dice(counts: list[Counts]) -> float:
    """Mean over the classes scored in a case, NaN where the reference holds none."""
    values = [c.dice for c in counts if not math.isnan(c.dice)]
    return fmean(values) if values else math.nan


def run_dice(per_case: list[list[Counts]]) -> float:
    """Mean over classes, then over the cases that have a score."""
    values = [value for value in map(case_dice, per_case) if not math.isnan(value)]
    return fmean(values) if values else math.nan
