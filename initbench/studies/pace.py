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
    """Notes when which step was done."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, float]] = []

    def start(self, stage: str, total: int) -> None:
        self.marks = [(0, time.perf_counter())]

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        self.marks.append((done, time.perf_counter()))

    def pace(self) -> float | None:
        """Returns the seconds of a step, after the first ones where there are later ones; None where none was done."""
        step, begun = self.marks[-2:][0]
        last, ended = self.marks[-1]
        if last <= step:
            return None
        return (ended - begun) / (last - step)


def time_steps(cell: Cell, init: str, *, train: bool, stage: bool) -> Sample:
    """Times a step of a cell: of its init stage, of its training, and the evaluation of a case. Leaves nothing behind.

    Args:
        cell: the run.
        init: its init, as the sample names it.
        train: whether to time training and evaluation, which are the same for every init.
        stage: whether to time the init stage.

    Raises:
        InitbenchError: the network cannot be trained here, as for want of memory.
    """
    name = ""
    paces: dict[str, float] = {}
    with seeding.deterministic(cell.request.threads):
        if stage:
            name = init
            _note(paces, "pretext", _stage(cell))
        if train:
            step, case = _train(cell)
            _note(paces, "train", step)
            _note(paces, "evaluate", case)
    return Sample(name, paces, whole=False)


def _note(paces: dict[str, float], stage: str, seconds: float | None) -> None:
    """Notes the seconds of a step of a stage, if any was done."""
    if seconds is not None:
        paces[stage] = seconds


def _stage(cell: Cell) -> float | None:
    """Returns the seconds of a step of the init stage."""
    watch = _Watch()
    Run(cell, Path(), watch).first_steps(STEPS)
    return watch.pace()


def _train(cell: Cell) -> tuple[float | None, float]:
    """Returns the seconds of a training step and of the evaluation of a case."""
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
