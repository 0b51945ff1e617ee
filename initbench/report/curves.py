"""Learning curves: the loss of every run over the time it took, the init stage first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from initbench.limits import open_regular
from initbench.report import svg
from initbench.report.content import Block, Row, Run
from initbench.report.figure import Figure, group, together
from initbench.report.svg import Scale
from initbench.runs import store

POINTS = 60
CHUNK = 4096  # bytes of a long curve that are read for a point: some forty steps
_TITLE = "Learning curves"
_LABELS = 150.0
_HEADER = 4096  # bytes of a first line, at most
_ABSURD = 1e30  # a loss beyond it is no loss, and sums of such would overflow
_CROWDED = 60  # runs, from which on their lines are faint

Points = NDArray[np.float64]  # [point, (seconds, loss)]


@dataclass(frozen=True)
class Curve:
    """The curves of a run by stage, on the clock of the run."""

    run: Run
    stages: dict[str, Points]


def curves(block: Block, points: int = POINTS, chunk: int = CHUNK) -> Figure:
    """Every seed a thin line, the mean over the seeds of an init a thick one; `points` to a stage, from so many bytes each."""
    found = [(row, [curve for run in row.runs if (curve := _curve(run, points, chunk)).stages]) for row in block.rows]
    found = [(row, drawn) for row, drawn in found if drawn]
    if not found:
        return Figure("curves", _TITLE, "No run kept a learning curve.")
    caption = (
        "Loss over the time since a run began: a thin line per seed, the mean over seeds thick, each point a mean of some steps."
    )
    if any("pretext" in curve.stages for _, drawn in found for curve in drawn):
        caption += (
            " The init stage of learned inits is drawn above, on the same clock: their training begins where it ends (dotted). "
            "Its losses are of other tasks than segmentation, and of different ones."
        )
    return Figure("curves", _TITLE, caption, _drawn(found))


def _curve(run: Run, points: int, chunk: int) -> Curve:
    init, train = run.init_seconds if run.init_steps else 0.0, run.train_seconds
    clock = {"pretext": (0.0, init, run.init_steps), "train": (_number(init), train, run.train_steps)}
    stages = {}
    for stage, steps in sampled(Path(run.path) / store.CURVE, points, chunk).items():
        if stage not in clock:
            continue
        begin, seconds, count = clock[stage]
        if not (math.isfinite(seconds) and count > 0 and len(steps)):
            continue
        stages[stage] = np.stack([begin + (steps[:, 0] + 1) / count * seconds, steps[:, 1]], -1)
    return Curve(run, stages)


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def sampled(file: Path, points: int, chunk: int = CHUNK) -> dict[str, Points]:
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


def _binned(chunks: Sequence[bytes], wanted: tuple[int, ...], points: int) -> dict[str, Points]:
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


def _means(rows: Points, points: int) -> Points:
    """Means of neighbours, `points` of them at most."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    starts = np.linspace(0, len(rows), min(points, len(rows)), endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(rows)))
    return np.asarray(np.add.reduceat(rows, starts) / sizes[:, None], np.float64)


def _drawn(found: Sequence[tuple[Row, list[Curve]]]) -> Markup:
    everything = [curve for _, drawn in found for curve in drawn]
    latest = max(points[-1, 0] for curve in everything for points in curve.stages.values())
    divisor, unit = time_unit(latest)
    left, right = 46.0, svg.WIDTH - _LABELS
    x = Scale(0.0, max(latest / divisor, 1e-9), left, right)
    learned = any("pretext" in curve.stages for curve in everything)
    top = 30.0
    middle = top + 90 if learned else top
    upper = middle + 30 if learned else top
    bottom = upper + max(210.0, 15.0 * len(found))
    parts = [svg.x_axis(x, top, bottom, f"time since the run began ({unit})")]
    panels = [("pretext", middle, top, "loss of the init stage")] if learned else []
    if any("train" in curve.stages for curve in everything):
        panels.append(("train", bottom, upper, "training loss"))
    for stage, low, high, title in panels:
        values = [v for curve in everything if stage in curve.stages for v in curve.stages[stage][:, 1]]
        y = loss_scale(values, low, high)
        parts.append(svg.y_axis(y, left, right, title + (", log scale" if y.log else "")))
        parts += _panel(found, stage, x, y, divisor)
    drawn = svg.tag("g", *parts, class_="crowded" if len(everything) > _CROWDED else None)
    return together([drawn], svg.WIDTH, bottom + 40, "Learning curves")


def _panel(found: Sequence[tuple[Row, list[Curve]]], stage: str, x: Scale, y: Scale, divisor: float) -> list[Markup]:
    shown = [(row, [curve.stages[stage] for curve in drawn if stage in curve.stages]) for row, drawn in found]
    shown = [(row, lines) for row, lines in shown if lines]
    means = [_mean(lines) for _, lines in shown]
    labels = svg.spread_out([y(_inside(mean[-1, 1], y)) for mean in means], 14, y.end + 4, y.start)
    parts = []
    for (row, lines), mean, label in zip(shown, means, labels, strict=True):
        inside = [svg.path(_pixels(points, x, y, divisor), "thin") for points in lines]
        drawn = _pixels(mean, x, y, divisor)
        inside.append(svg.path(drawn, "thick"))
        if stage == "train" and row.standing.runs.protocol != "any":
            inside.append(svg.line(drawn[0][0], y.end, drawn[0][0], y.start, "begin"))
        last = drawn[-1]
        inside.append(svg.path([(last[0] + 2, last[1]), (x.end + 4, label), (x.end + 26, label)], "leader"))
        inside.append(svg.line(x.end + 8, label, x.end + 26, label, "thick"))
        inside.append(svg.text(x.end + 30, label + 4, svg.short(row.label, _LABELS - 34), "label", data_tip=row.init))
        parts.append(group(row.init, row.style, *inside))
    return parts


def _pixels(points: Points, x: Scale, y: Scale, divisor: float) -> list[tuple[float, float]]:
    return [(x(seconds / divisor), y(_inside(loss, y))) for seconds, loss in points]


def _inside(value: float, scale: Scale) -> float:
    return min(max(value, scale.low), scale.high)


def _mean(lines: Sequence[Points]) -> Points:
    """Over the seeds, point by point; of curves that end early, as diverged ones do, as far as all go."""
    shortest = min(map(len, lines))
    return np.asarray(np.mean([points[:shortest] for points in lines], axis=0), np.float64)


def loss_scale(values: Iterable[float], bottom: float, top: float) -> Scale:
    """Without the few highest losses; logarithmic where they fall by much."""
    found = np.array(list(values))
    low, high = float(found.min()), float(np.quantile(found, 0.995))
    if low > 0 and high / low > 4:
        return Scale(low / 1.05, high * 1.05, bottom, top, log=True)
    return Scale(*svg.padded((low, high), least=1e-3), bottom, top)


def time_unit(longest: float) -> tuple[float, str]:
    """Seconds in the unit to show times in, and its name."""
    return (1.0, "seconds") if longest < 300 else (60.0, "minutes") if longest < 3 * 3600 else (3600.0, "hours")
