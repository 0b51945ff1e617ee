"""The pace of a run before it is made: a few of its real steps and one of its cases, timed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from initbench import seeding
from initbench.choices import BASELINE
from initbench.harness.cell import Cell, resolve_cell
from initbench.harness.run import Run
from initbench.runs.costs import Sample
from initbench.spec import Spec

STEPS = 20  # of a stage; the loop reads the device every ten, so the last ten count and the first ten warm up


class _Watch:
    """Progress that notes when which step was done."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float]] = []

    def start(self, stage: str, total: int) -> None:
        self.marks = [(0, time.perf_counter())]

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        self.marks.append((done, time.perf_counter()))

    def pace(self) -> float | None:
        """Seconds of a step, after the first ones where there are later ones."""
        (step, begun), (last, ended) = self.marks[-2 if len(self.marks) > 1 else -1], self.marks[-1]
        return (ended - begun) / (last - step) if last > step else None


def time_steps(cell: Cell, init: str, *, train: bool, stage: bool) -> Sample:
    """What a step of a cell takes: of its init stage, of its training, of the evaluation of a case. Leaves nothing.

    Args:
        cell: whose.
        init: name for the sample.
        train: whether training and evaluation are timed, which are the same for every init.
        stage: whether the init stage is.

    Raises:
        InitbenchError: the network cannot be trained here, as for want of memory.
    """
    with seeding.deterministic(cell.request.threads):
        staged = _stage(cell) if stage else None
        pace, case = _train(cell) if train else (None, None)
    steps = cell.pretext_steps if staged is not None else 0
    return Sample(init if stage else "", (staged or 0.0) * steps, steps, pace, case, whole=False)


def _stage(cell: Cell) -> float | None:
    watch = _Watch()
    Run(cell, Path(), watch).first_steps(STEPS)
    return watch.pace()


def _train(cell: Cell) -> tuple[float | None, float]:
    plain = resolve_cell(replace(cell.request, init=Spec(BASELINE), protocol="equal-total"))
    watch = _Watch()
    run = Run(plain, Path(), watch)
    run.first_steps(STEPS)
    # A step's pace does not depend on the weights, nor does a case's: the network as constructed will do.
    model = run.construct().to(run.device)
    case = plain.prepared.case(plain.prepared.split.test[0])
    started = time.perf_counter()
    run.evaluator(model).predict(case)
    return watch.pace(), time.perf_counter() - started
