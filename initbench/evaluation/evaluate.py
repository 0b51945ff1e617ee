"""Evaluation of a trained network on the reported cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from initbench import dice
from initbench.data.prepare import Prepared, PreparedCase
from initbench.evaluation.inference import predict_probabilities, to_native
from initbench.evaluation.metrics import count
from initbench.protocols import Grid
from initbench.recipe import Inference
from initbench.training.precision import Precision


@dataclass(frozen=True)
class Evaluator:
    """A network and how to apply it."""

    model: nn.Module
    patch: Grid
    settings: Inference
    precision: Precision
    device: torch.device

    def predict(self, case: PreparedCase) -> NDArray[np.uint8]:
        """Label map of a case on its native grid, in the file's own axis order."""
        self.model.eval()
        image = torch.from_numpy(np.array(case.image)).to(self.device)
        probabilities = predict_probabilities(self.model, image, self.patch, self.settings, self.precision)
        return to_native(probabilities, case.placement)


@dataclass(frozen=True)
class Scored:
    """One reported case with its counts per foreground class, or per region where some are reported in their place."""

    case: PreparedCase
    prediction: NDArray[np.uint8]
    counts: list[dice.Counts]
    regions: tuple[tuple[int, ...], ...] = ()

    @property
    def dice(self) -> float:
        """Mean over the classes the reference holds, NaN where it holds none."""
        return dice.case_dice(self.counts)


def score_cases(evaluator: Evaluator, prepared: Prepared) -> Iterator[Scored]:
    """Predicts and scores the reported cases, one at a time."""
    for case_id in prepared.split.test:
        case = prepared.case(case_id)
        yield scored(prepared, case, evaluator.predict(case))


def score_empty(prepared: Prepared) -> Iterator[Scored]:
    """Scores of an empty prediction: what a diverged run gets, the worst value for every class a case holds."""
    for case_id in prepared.split.test:
        case = prepared.case(case_id)
        yield scored(prepared, case, np.zeros_like(case.reference))


def scored(prepared: Prepared, case: PreparedCase, prediction: NDArray[np.uint8]) -> Scored:
    """A prediction counted: by class, or by the data set's regions."""
    regions = tuple(prepared.regions.values())
    return Scored(case, prediction, count(case.reference, prediction, len(prepared.classes), regions), regions)
