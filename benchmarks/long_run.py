"""Trains an empty task for as many steps as a paper does, with checkpoints: ``python -m benchmarks.long_run --out PICTURE``.

The task has one weight and no data, so that what is measured is the loop: its time has to be linear in the steps, and a
checkpoint has to cost the same after any number of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from initbench.recipes.settings import Optimizer
from initbench.training.checkpoints import Checkpoints
from initbench.training.loop import FitSettings, fit


@dataclass(frozen=True)
class Point:
    """The batch, which says nothing."""

    image: Tensor


class Empty:
    """One weight that is pulled to 0."""

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)

    def batch(self, _: int) -> Point:
        return Point(torch.ones(1, 1))

    def loss(self, batch: Point) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.module(batch.image).square().mean()
        return loss, {"dice": loss.detach(), "ce": loss.detach()}


class Timed(Checkpoints):
    """Checkpoints every some steps, with the processor seconds that each took and that had passed before it."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, "train", 0.0)
        self.steps: list[int] = []
        self.passed: list[float] = []
        self.took: list[float] = []
        self._gap = every
        self._asked = 0

    def due(self) -> bool:
        self._asked += 1
        return self._asked % self._gap == 0

    def save(self, step: int, content: dict[str, Any]) -> None:
        started = time.process_time()
        super().save(step, content)
        self.steps.append(step)
        self.passed.append(started)
        self.took.append(time.process_time() - started)


def draw(timed: Timed, path: Path) -> None:
    """Seconds by step, and seconds of a checkpoint by step."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(timed.steps, [passed - timed.passed[0] for passed in timed.passed])
    left.set(xlabel="step", ylabel="processor seconds", title="an empty task")
    right.plot(timed.steps, [1e3 * seconds for seconds in timed.took], ".")
    right.set(xlabel="step", ylabel="ms", ylim=(0, None), title="a checkpoint")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Trains, draws, and prints the seconds of the first and the last tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=250_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    optimizer = Optimizer.model_validate({"name": "adamw", "lr": 1e-3, "weight_decay": 0, "schedule": "constant", "warmup": 0})
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(Path(folder), max(1, given.steps // 100))
        fit(Empty(), FitSettings(given.steps, optimizer, "float32", torch.device("cpu"), 0, "train"), None, timed)
    tenth = len(timed.steps) // 10
    first, last = timed.passed[tenth] - timed.passed[0], timed.passed[-1] - timed.passed[-1 - tenth]
    print(f"{given.steps} steps: {timed.passed[-1] - timed.passed[0]:.1f} processor seconds")
    print(f"a tenth of the steps: {first:.2f} s at the beginning, {last:.2f} s at the end")
    print(f"a checkpoint: {1e3 * min(timed.took):.1f} to {1e3 * max(timed.took):.1f} ms")
    if given.out:
        draw(timed, given.out)


if __name__ == "__main__":
    main()
