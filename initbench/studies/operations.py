"""How much arithmetic runs do, and how fast this device does it: a range for the time of runs that nobody has timed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch.nn import functional

from initbench import seeding
from initbench.evaluation.inference import forward_passes
from initbench.harness.cell import Cell
from initbench.harness.hardware import resolve_device
from initbench.protocols import PLAIN_UNITS
from initbench.training.precision import autocast

# A convolution that keeps a core busy for a hundredth of a second, and a GPU for long enough to be timed.
_CHANNELS, _EDGE, _KERNEL = 32, 32, 3
_TURNS = 3  # of which the fastest counts: others may use the machine meanwhile


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of parts of a run; NaN where nobody could count them.

    Attributes:
        pretext: of a step of the init stage.
        train: of a training step, forward and backward.
        evaluate: of the evaluation of a case.
    """

    pretext: float = math.nan
    train: float = math.nan
    evaluate: float = math.nan


def operations_of(cell: Cell, forward: float) -> Operations:
    """Returns the multiply-adds of the parts of a run.

    Args:
        cell: the run.
        forward: multiply-adds of the network for one patch.
    """
    recipe, prepared = cell.recipe, cell.prepared
    first = prepared.case(prepared.split.test[0]).placement.shape
    return Operations(
        pretext=forward * PLAIN_UNITS * recipe.pretext.batch,
        train=forward * cell.units * recipe.patch.batch,
        evaluate=forward * forward_passes(first, recipe.patch.size, recipe.inference),
    )


def multiply_adds_per_second(cell: Cell) -> float:
    """Times a 3-D convolution with the device, precision and threads of a run, and returns its multiply-adds a second."""
    device = resolve_device(cell.request.device)
    image = torch.ones(1, _CHANNELS, _EDGE, _EDGE, _EDGE, device=device)
    weight = torch.ones(_CHANNELS, _CHANNELS, _KERNEL, _KERNEL, _KERNEL, device=device)
    fastest = math.inf
    with seeding.deterministic(cell.request.threads), torch.no_grad(), autocast(device, cell.precision):
        for _ in range(_TURNS + 1):  # the first one finds memory and kernels
            started = time.perf_counter()
            output = functional.conv3d(image, weight, padding=_KERNEL // 2)
            float(output[0, 0, 0, 0, 0])  # waits for a GPU
            fastest = min(fastest, time.perf_counter() - started)
    return _CHANNELS**2 * _KERNEL**3 * _EDGE**3 / fastest
