"""Learning curves: the loss of every run over its steps, or over the time that they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from initbench.limits import open_regular
from initbench.report.content import Block, Row, Run
from initbench.report.figure import Figure
from initbench.report.traces import Across, Array, Panel, Trace, Traced, switched
from initbench.runs import store

POINTS = 60
CHUNK = 4096  # bytes of a long curve that are read for a point: some forty steps
_TITLE = "Learning curves"
_HEADER = 4096  # bytes of a first line, at most
_ABSURD = 1e30  # a loss beyond it is no loss, and sums of such would overflow
_CROWDED = 60  # runs, from which on their lines are faint


@dataclass(frozen=True)
class Curve:
    """The losses of a run by stage."""

    run: Run
    stages: dict[str, Trace]


def curves(block: Block, points: int = POINTS, chunk: int = CHUNK) -> Figure:
    """Every seed a thin line, the mean over the seeds of an init a thick one; `points` to a stage, from so many bytes each."""
    found = [(row, _of_row(row, points, chunk)) for row in block.rows]
    pretext, train = _traced(found, "pretext"), _traced(found, "train")
    if not pretext and not train:
        return Figure("curves", _TITLE, "No run kept a learning curve.")
    caption = (
        "Loss of the minibatches, over steps or over the time since a run began: a thin line per seed, the mean over seeds "
        "thick, each point a mean of some steps."
    )
    if pretext:
        caption += (
            " The init stage of learned inits is drawn above. Over time both stages have one clock: training begins where "
            "the init stage ends (dotted). The losses of an init stage are of other tasks than segmentation."
        )
    return Figure("curves", _TITLE, caption, _drawn(block.key, pretext, train))


def _of_row(row: Row, points: int, chunk: int) -> list[Curve]:
    """The runs of a row that kept a curve."""
    found = []
    for run in row.runs:
        curve = _curve(run, points, chunk)
        if curve.stages:
            found.append(curve)
    return found


def _curve(run: Run, points: int, chunk: int) -> Curve:
    init = run.init_seconds if run.init_steps else 0.0
    begin = init if math.isfinite(init) else 0.0
    clock = {"pretext": (0.0, init, run.init_steps), "train": (begin, run.train_seconds, run.train_steps)}
    stages = {}
    for name, found in sampled(Path(run.path) / store.CURVE, points, chunk).items():
        if name not in clock:
            continue
        start, seconds, count = clock[name]
        if math.isfinite(seconds) and count > 0 and len(found):
            steps = found[:, 0]
            stages[name] = Trace(steps, start + (steps + 1) / count * seconds, found[:, 1])
    return Curve(run, stages)


def _traced(found: Sequence[tuple[Row, Sequence[Curve]]], stage: str) -> list[Traced]:
    """The inits that have the curve of a stage."""
    traced = []
    for row, of_row in found:
        traces = tuple(curve.stages[stage] for curve in of_row if stage in curve.stages)
        if traces:
            traced.append(Traced(row, traces, begins=stage == "train" and row.protocol != "any"))
    return traced


def _drawn(key: str, pretext: Sequence[Traced], train: Sequence[Traced]) -> Markup:
    """The curves over steps, and over time, where both stages share the axis."""
    panels = []
    if pretext:
        panels.append(Panel(pretext, "loss of the init stage", "step of the init stage", 90.0))
    if train:
        panels.append(Panel(train, "training loss", "step of training", 220.0))
    latest = max(panel.end("time") for panel in panels)
    drawn: dict[Across, list[Markup]] = {"steps": [], "time": []}
    for panel in panels:
        drawn["steps"].append(panel.drawn("steps", panel.end("steps")))
        drawn["time"].append(panel.drawn("time", latest))
    runs = 0
    for item in train:
        runs += len(item.traces)
    return switched(key, drawn, crowded=runs > _CROWDED)


def sampled(file: Path, points: int, chunk: int = CHUNK) -> dict[str, Array]:
    """Steps and losses of a curve by stage, [point, (step, loss)], means of neighbours; `points` to a stage at most.

    Of a long file some stretches are read, evenly spread: a study has thousands of curves of 90,000 lines.
    """
    try:
        with open_regular(file) as handle:
            header = handle.readline(_HEADER).decode("utf-8", "replace").rstrip("\r\n").split(",")
            wanted = tuple(header.index(name) for name in ("stage", "step", "loss"))
            start, size = handle.tell(), file.stat().st_size
            stretch = (size - start) / points
            if stretch <= chunk:
                return _binned([handle.read()], wanted, points)
            parts = []
            for k in range(points):
                handle.seek(start + round(k * stretch))
                part = handle.read(chunk)
                parts.append(part if k == 0 else _whole(part))
            return _binned(parts, wanted, points)
    except (OSError, ValueError):
        return {}


def _whole(chunk: bytes) -> bytes:
    """Without the line it begins within."""
    return chunk[chunk.find(b"\n") + 1 :]


def _binned(chunks: Sequence[bytes], wanted: tuple[int, ...], points: int) -> dict[str, Array]:
    rows: dict[str, list[tuple[float, float]]] = {}
    stage_at, step_at, loss_at = wanted
    for chunk in chunks:
        lines = chunk.split(b"\n")
        for line in lines[:-1] if not chunk.endswith(b"\n") else lines:
            cells = line.split(b",")
            if len(cells) <= max(wanted):
                continue
            try:
                step, loss = float(cells[step_at]), float(cells[loss_at])
            except ValueError:
                continue
            if math.isfinite(step) and abs(loss) < _ABSURD:
                rows.setdefault(cells[stage_at].decode("utf-8", "replace"), []).append((step, loss))
    return {stage: _means(np.array(found), points) for stage, found in rows.items()}


def _means(rows: Array, points: int) -> Array:
    """Means of neighbours, `points` of them at most."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    starts = np.linspace(0, len(rows), min(points, len(rows)), endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(rows)))
    return np.asarray(np.add.reduceat(rows, starts) / sizes[:, None], np.float64)
