"""The learning curves of a block, from the files of its runs: what the report draws."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from initbench import dice
from initbench.limits import MAX_TABLE, read_regular
from initbench.runs import store
from initbench.stats.blocks import POINTS, by_treatment
from initbench.stats.learning import LearningCurve

_COUNTS = ("tp", "fp", "fn")
_NUMBERS = ("step", "seconds", *_COUNTS)
_MOST = 2**53  # numbers beyond this are no counts


def learning_curves(runs: pd.DataFrame) -> dict[str, list[LearningCurve]]:
    """Returns the curves of the runs of a block, by the name of their row; rows without a curve are left out.

    Args:
        runs: rows as `load_runs` gives, of one block.
    """
    found: dict[str, list[LearningCurve]] = {}
    for name, rows in by_treatment(runs):
        curves = []
        for run in rows.to_dict("records"):
            if run["status"] not in ("ok", "diverged"):
                continue
            own = _curve(run["path"], int(run["seed"]), run["init_steps"], run["init_seconds"], run["status"] == "diverged")
            if own is not None:
                curves.append(own)
        if curves:
            found[name] = sorted(curves, key=lambda curve: curve.seed)
    return found


def _curve(path: str, seed: int, init_steps: float, init_seconds: float, diverged: bool) -> LearningCurve | None:
    """Returns the curve of a run, on the steps and the clock of both stages; None where it has none.

    Args:
        path: folder of the run.
        seed: of the run.
        init_steps: steps of its init stage.
        init_seconds: duration of its init stage.
        diverged: whether it diverged.
    """
    points = read_points(Path(path) / store.VALIDATION)
    if points is None or points.empty:
        return None
    return LearningCurve(
        seed,
        points["step"].to_numpy(float) + init_steps,
        points["seconds"].to_numpy(float) + init_seconds,
        points["dice"].to_numpy(float) * POINTS,
        diverged,
        int(points["cases"].max()),
    )


def read_points(file: Path) -> pd.DataFrame | None:
    """Reads ``validation.csv``: a row per point with ``step, seconds, dice, cases``.

    Dice is the mean over the classes that the reference holds, then over cases, as the score of a run is.

    Returns:
        None where there is no such file, or it is no such table.
    """
    try:
        table: pd.DataFrame = pd.read_csv(io.BytesIO(read_regular(file, MAX_TABLE)), dtype={"case": str})
    except (OSError, ValueError):
        return None
    if not _holds_counts(table):
        return None
    scores = dice.dice_of_counts(table["tp"], table["fp"], table["fn"])
    table = table.assign(dice=scores)
    of_cases = table.groupby(["step", "case"], as_index=False).agg(seconds=("seconds", "first"), dice=("dice", "mean"))
    wanted = {"seconds": ("seconds", "first"), "dice": ("dice", "mean"), "cases": ("dice", "count")}
    of_points = of_cases.groupby("step", as_index=False).agg(**wanted)
    return of_points.dropna()


def _holds_counts(table: pd.DataFrame) -> bool:
    """Whether a table has the columns of ``validation.csv``, with counts and times in them."""
    if not {"case", *_NUMBERS} <= set(table.columns):
        return False
    for name in _NUMBERS:
        column = table[name]
        if column.dtype.kind not in "if" or not column.between(0, _MOST).all():
            return False
    return True
