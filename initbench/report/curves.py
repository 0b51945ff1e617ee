"""Learning curves: the loss of every run, and its Dice where it was measured in training, over steps or over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from initbench.limits import open_regular
from initbench.report import svg
from initbench.report.content import Block, Row, Run
from initbench.report.figure import Figure
from initbench.report.traces import Across, Array, Panel, Trace, Traced, switched
from initbench.runs import store
from initbench.stats.learning import SHARE, LearningCurve, MeanCurve, mean_curve, steps_to_share
from initbench.tables import words
from initbench.tables.learning import learning_curves

POINTS = 60
CHUNK = 4096  # bytes of a long curve that are read for a point: some forty steps
_TITLE = "Learning curves"
_HEADER = 4096  # bytes of a first line, at most
_ABSURD = 1e30  # a loss beyond it is no loss, and sums of such would overflow
_CROWDED = 60  # runs, from which on their lines are faint


@dataclass(frozen=True)
class Curve:
    """The losses of a run, by stage."""

    run: Run
    stages: dict[str, Trace]


def curves(block: Block, points: int = POINTS, chunk: int = CHUNK, *, looks: bool = True) -> Figure:
    """Draws a thin line for every seed, and a thick one for the mean over the seeds of an init.

    Args:
        block: whose runs they are.
        points: points of a curve of losses, at most.
        chunk: bytes of a long curve that are read for each point.
        looks: whether Dice over the steps is shown, too, where it was measured.
    """
    found = []
    for row in block.rows:
        found.append((row, _of_row(row, points, chunk)))
    pretext, train = _traced(found, "pretext"), _traced(found, "train")
    learned: Mapping[str, Sequence[LearningCurve]] = {}
    if looks:
        learned = learning_curves(block.runs)
    if not pretext and not train and not learned:
        return Figure("curves", _TITLE, "No run kept a learning curve.")
    caption = ""
    if learned:
        caption += (
            f"Dice of {words.count(_cases(learned), 'reported case')}, looked at after the end, used for no choice. It counts "
            "all steps, those of an init stage too. "
        )
    caption += (
        "Loss of the minibatches, each point a mean of some steps. All over steps or over the time since a run began: a thin "
        "line per seed, the mean over seeds thick."
    )
    if pretext:
        caption += (
            " The losses of an init stage are of other tasks than segmentation. Over time both stages have one clock: training "
            "begins where the init stage ends (dotted)."
        )
    drawing = svg.joined([_drawn(block, pretext, train, learned), _steps_to(block, learned)])
    return Figure("curves", _TITLE, caption, drawing)


def _cases(learned: Mapping[str, Sequence[LearningCurve]]) -> int:
    """Returns how many cases were measured in training."""
    cases = 0
    for of_init in learned.values():
        for curve in of_init:
            cases = max(cases, curve.cases)
    return cases


def _of_row(row: Row, points: int, chunk: int) -> list[Curve]:
    """Returns the curves of the runs of a row that kept one."""
    found = []
    for run in row.runs:
        curve = _curve(run, points, chunk)
        if curve.stages:
            found.append(curve)
    return found


def _curve(run: Run, points: int, chunk: int) -> Curve:
    """Reads the losses of a run, and puts them over its steps and over its time in seconds."""
    init = begin = 0.0
    if run.init_steps:
        init = run.init_seconds
    if math.isfinite(init):
        begin = init
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
    """Returns the inits that have the curve of a stage."""
    traced = []
    for row, of_row in found:
        traces = []
        for curve in of_row:
            if stage in curve.stages:
                traces.append(curve.stages[stage])
        if traces:
            traced.append(Traced(row, tuple(traces), begins=stage == "train" and row.protocol != "any"))
    return traced


def _drawn(
    block: Block, pretext: Sequence[Traced], train: Sequence[Traced], learned: Mapping[str, Sequence[LearningCurve]]
) -> Markup:
    """Draws the curves over steps, and over time, where all panels have one clock.

    Args:
        block: whose runs they are.
        pretext: the losses of init stages.
        train: the losses of training.
        learned: the Dice of the runs of each init that was measured in training.
    """
    panels = []
    height = 220.0
    looked = _looked(block, learned)
    if looked:
        panels.append(Panel(looked, "Dice of the cases looked at (points)", "step of both stages", height, losses=False))
        height = 160.0
    if pretext:
        panels.append(Panel(pretext, "loss of the init stage", "step of the init stage", 90.0))
    if train:
        panels.append(Panel(train, "training loss", "step of training", height))
    latest = max(panel.end("time") for panel in panels)
    drawn: dict[Across, list[Markup]] = {"steps": [], "time": []}
    for panel in panels:
        drawn["steps"].append(panel.drawn("steps", panel.end("steps")))
        drawn["time"].append(panel.drawn("time", latest))
    runs = 0
    for item in train:
        runs += len(item.traces)
    return switched(block.key, drawn, crowded=runs > _CROWDED)


def _looked(block: Block, learned: Mapping[str, Sequence[LearningCurve]]) -> list[Traced]:
    """Returns the inits whose Dice was measured in training, with Dice over the steps."""
    found = []
    for row in block.rows:
        of_init = learned.get(row.init, ())
        if of_init:
            mean = mean_curve(of_init)
            found.append(Traced(row, tuple(map(_trace, of_init)), mean=_trace(mean)))
    return found


def _trace(curve: LearningCurve | MeanCurve) -> Trace:
    """Returns the Dice of a run, or of a mean of runs, as it is drawn."""
    return Trace(curve.steps, curve.seconds, curve.dice)


def _steps_to(block: Block, learned: Mapping[str, Sequence[LearningCurve]]) -> Markup:
    """Writes a table with the steps that each init takes to nearly the last Dice of default; nothing where there are none."""
    told = {item.init: str(item) for item in steps_to_share(learned)}
    rows = []
    for row in block.rows:
        if row.init in told:
            name = svg.tag("th", row.label, scope="row")
            rows.append(svg.tag("tr", name, svg.tag("td", told[row.init]), data_init=row.init))
    if not rows:
        return Markup("")
    heading = f"steps to {100 * SHARE:.0f} % of the Dice that default of the same seed ends at: median (range)"
    head = svg.tag("tr", svg.tag("th", "initializer", scope="col"), svg.tag("th", heading, scope="col"))
    return svg.tag("table", svg.tag("thead", head), svg.tag("tbody", *rows), class_="steps")


def sampled(file: Path, points: int, chunk: int = CHUNK) -> dict[str, Array]:
    """Reads steps and losses of a curve by stage, [point, (step, loss)]; each point is a mean of neighbours.

    Of a long file some stretches are read, evenly spread: a study has thousands of curves of 90,000 lines.

    Args:
        file: the curve that a run kept.
        points: of a stage, at most.
        chunk: bytes of a long file that are read for each point.

    Returns:
        The points of each stage; none where the file cannot be read.
    """
    try:
        with open_regular(file) as handle:
            header = handle.readline(_HEADER).decode("utf-8", "replace").rstrip("\r\n").split(",")
            wanted = (header.index("stage"), header.index("step"), header.index("loss"))
            start, size = handle.tell(), file.stat().st_size
            stretch = (size - start) / points
            if stretch <= chunk:
                return _binned([handle.read()], wanted, points)
            parts = []
            for k in range(points):
                handle.seek(start + round(k * stretch))
                part = handle.read(chunk)
                if k > 0:  # the first line of a stretch is not whole
                    part = part[part.find(b"\n") + 1 :]
                parts.append(part)
            return _binned(parts, wanted, points)
    except (OSError, ValueError):
        return {}


def _binned(chunks: Sequence[bytes], wanted: tuple[int, int, int], points: int) -> dict[str, Array]:
    """Returns steps and losses by stage, [point, (step, loss)], from stretches of a file.

    Args:
        chunks: the stretches, each of which begins with a whole line.
        wanted: the columns of the stage, the step and the loss.
        points: of a stage, at most.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    stage_at, step_at, loss_at = wanted
    for chunk in chunks:
        for line in chunk.split(b"\n")[:-1]:  # the last line is empty or not whole
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
    """Returns means of neighbours by rising step, [point, (step, loss)], `points` of them at most."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    starts = np.linspace(0, len(rows), min(points, len(rows)), endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(rows)))
    return np.asarray(np.add.reduceat(rows, starts) / sizes[:, None], np.float64)
