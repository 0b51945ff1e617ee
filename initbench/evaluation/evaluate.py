"""Evaluation of a trained network on the reported cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from initbench import dice, seeding
from initbench.evaluation.inference import predict_probabilities, to_native
from initbench.evaluation.metrics import count
from initbench.preprocessing.prepare import Prepared, PreparedCase
from initbench.protocols import Grid
from initbench.recipes.settings import Inference
from initbench.sampling.volumes import with_neighbours
from initbench.training.precision import Precision


@dataclass(frozen=True)
class Evaluator:
    """A network and how to apply it.

    Attributes:
        patch: (D, H, W) of a window.
        neighbours: slices on each side of a slice that are further channels of it, as in training.
    """

    model: nn.Module
    patch: Grid
    settings: Inference
    precision: Precision
    device: torch.device
    neighbours: int = 0

    def predict(self, case: PreparedCase) -> NDArray[np.uint8]:
        """Predicts the labels of a case on its native grid, in the file's own axis order."""
        return to_native(self.probabilities(case), case.placement, self.settings.back)

    def probabilities(self, case: PreparedCase) -> Tensor:
        """Predicts the class probabilities ``(K, D, H, W)`` of a case on its preprocessed grid."""
        self.model.eval()
        image = with_neighbours(torch.from_numpy(case.image).to(self.device), self.neighbours)
        with seeding.memory_of(self.device):
            return predict_probabilities(self.model, image, self.patch, self.settings, self.precision)


@dataclass(frozen=True)
class Scored:
    """One reported case with its counts on the native grid, per foreground class or, where the data set has regions, per region.

    Attributes:
        regions: the labels of each region; empty where classes are counted.
        resampled: counts on the preprocessed grid, where the recipe asks for them.
    """

    case: PreparedCase
    prediction: NDArray[np.uint8]
    counts: list[dice.Counts]
    regions: tuple[tuple[int, ...], ...] = ()
    resampled: list[dice.Counts] | None = None

    @property
    def dice(self) -> float:
        """Mean over the classes the reference holds, NaN where it holds none."""
        return dice.case_dice(self.counts)


def score_cases(evaluator: Evaluator, prepared: Prepared) -> Iterator[Scored]:
    """Predicts and scores the reported cases, one at a time."""
    for case_id in prepared.split.test:
        case = prepared.case(case_id)
        probabilities = evaluator.probabilities(case)
        labels: NDArray[np.uint8] | None = None
        if "resampled" in evaluator.settings.grids:
            labels = probabilities.argmax(0).to(torch.uint8).cpu().numpy()
        native = to_native(probabilities, case.placement, evaluator.settings.back)
        yield scored(prepared, case, native, labels)


def score_empty(prepared: Prepared, settings: Inference | None = None) -> Iterator[Scored]:
    """Scores an empty prediction of every reported case: a diverged run gets the worst value for each class a case holds."""
    for case_id in prepared.split.test:
        case = prepared.case(case_id)
        labels: NDArray[np.uint8] | None = None
        if settings is not None and "resampled" in settings.grids:
            labels = np.zeros_like(case.label)
        yield scored(prepared, case, np.zeros_like(case.reference), labels)


def scored(
    prepared: Prepared, case: PreparedCase, prediction: NDArray[np.uint8], resampled: NDArray[np.uint8] | None = None
) -> Scored:
    """Counts a prediction by class, or by the data set's regions where it has some.

    Args:
        prepared: the data set.
        case: the case that was predicted.
        prediction: labels on the native grid.
        resampled: labels on the preprocessed grid, where counts there are asked for.
    """
    regions, classes = tuple(prepared.regions.values()), len(prepared.classes)
    native = count(case.reference, prediction, classes, regions)
    if resampled is None:
        return Scored(case, prediction, native, regions)
    return Scored(case, prediction, native, regions, count(case.label, resampled, classes, regions))
