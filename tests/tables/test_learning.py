"""Learning curves are read from the files of runs, and what is no such file costs nothing but its curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from initbench import load_runs
from initbench.runs import store
from initbench.stats.learning import StepsTo, mean_curve, steps_to_share
from initbench.tables.learning import learning_curves, read_points
from tests.recorded import write_looks, write_run


def test_curves_of_a_block(tmp_path: Path) -> None:
    for seed, shift in enumerate((0, 10)):
        write_looks(write_run(tmp_path, "default", 0.5, seed=seed), (20 + shift, 40 + shift), (50 + shift, 70 + shift))
        write_looks(write_run(tmp_path, "lwi", 0.5, seed=seed), (60, 60), (30, 30))
    write_run(tmp_path, "he", 0.5)  # it was not looked at
    found = learning_curves(load_runs(tmp_path))
    assert list(found) == ["default", "lwi"]
    assert [curve.seed for curve in found["default"]] == [0, 1]
    assert found["default"][1].dice == pytest.approx([40, 70])
    mean = mean_curve(found["default"])
    assert mean.steps.tolist() == [60, 120]
    assert mean.seconds.tolist() == [1.5, 3.0]
    assert mean.dice == pytest.approx([35, 65])
    assert steps_to_share(found) == [StepsTo("default", (120, 120)), StepsTo("lwi", (60, float("inf")))]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no table",
        "step,seconds,case,tp,fp\n1,2,a,3,4\n",
        "step,seconds,case,tp,fp,fn\n1,2,a,3,4,-5\n",
        "step,seconds,case,tp,fp,fn\n1,2,a,3,x,5\n",
        "step,seconds,case,tp,fp,fn\n1,inf,a,3,4,5\n",
        'step,seconds,case,tp,fp,fn\n"1,2',
    ],
)
def test_what_is_no_table_gives_no_curve(tmp_path: Path, text: str) -> None:
    file = tmp_path / store.VALIDATION
    file.write_text(text)
    assert read_points(file) is None
    assert read_points(tmp_path / "missing.csv") is None
