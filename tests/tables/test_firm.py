"""`compare A B --firm`: what the verdict hangs on, over studies whose parts are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from initbench.stats.analysis import pair
from initbench.stats.firm import Variation, without_patients, without_seeds
from initbench.stats.table import ScoreTable
from initbench.tables.firm import firm_overviews, firm_sheets, firmness
from initbench.tables.study import read_study
from tests.commands import said
from tests.recorded import write_block
from tests.stats.made_up import scored

MARGIN = 0.5


def table(seeds: int = 5) -> ScoreTable:
    """lwi is ahead by 2 points, at the last seed by 8, and on the last case by 12 more."""
    rng = np.random.default_rng(2)
    y = 60 + rng.normal(0, 0.3, (2, seeds, 8))
    y[1] += 2.0
    y[1, -1] += 6.0
    y[1, :, -1] += 12.0
    return scored(np.asarray(y, np.float64))


def test_without_each_seed_the_difference_is_that_of_the_others() -> None:
    own = table()
    whole = pair(own, "lwi", "default")
    found = list(without_seeds(whole, own, MARGIN))
    assert [item.name for item in found] == ["0", "1", "2", "3", "4"]
    for place, item in enumerate(found):
        left = np.delete(own.y, place, axis=1)
        assert item.value == pytest.approx(left[1].mean() - left[0].mean())
        assert item.shift == pytest.approx(item.value - whole.estimate.value)
        assert not item.changes_sign
    assert max(found, key=lambda item: abs(item.shift)).name == "4"
    assert all(item.remade is not None for item in found)


def test_the_error_of_the_whole_study_counts_for_the_verdict() -> None:
    own = table()
    whole = pair(own, "lwi", "default")
    reach = whole.estimate.high - whole.estimate.value
    for item in without_seeds(whole, own, MARGIN):
        assert (item.says == "better") == (item.value > reach)


def test_a_sign_that_turns_is_said() -> None:
    own = table()
    y = own.y.copy()
    y[1, :4] -= 4.0
    own = replace(own, y=y)
    whole = pair(own, "lwi", "default")
    turned = [item.name for item in without_seeds(whole, own, MARGIN) if item.changes_sign]
    assert whole.estimate.value > 0
    assert turned == ["4"]


def test_below_five_seeds_no_verdict_is_made_again_without_one() -> None:
    own = table(4)
    found: list[Variation] = list(without_seeds(pair(own, "lwi", "default"), own, MARGIN))
    assert [item.remade for item in found] == [None] * 4
    patients = list(without_patients(pair(own, "lwi", "default"), own, MARGIN))
    assert all(item.remade is not None for item in patients)


def test_patients_are_left_out_with_all_of_their_cases() -> None:
    own = replace(table(), patients=("a", "a", "b", "b", "c", "c", "d", "d"))
    whole = pair(own, "lwi", "default")
    found = {item.name: item for item in without_patients(whole, own, MARGIN)}
    assert set(found) == {"a", "b", "c", "d"}
    left = own.y[..., :6]
    assert found["d"].value == pytest.approx(left[1].mean() - left[0].mean())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two inits under five seeds, one class."""
    write_block(tmp_path, {"default": [0.60, 0.62, 0.64, 0.61, 0.63], "lwi": [0.71, 0.72, 0.75, 0.72, 0.73]})
    return tmp_path


def test_every_way_to_score_the_runs_is_a_row(out: Path) -> None:
    study = read_study(out)
    (found,) = firmness(study, lambda scoring: read_study(out, scoring=scoring), "lwi", "default")
    kinds = {(item.kind, item.name) for item in found.variations if item.kind not in ("seed", "patient")}
    assert kinds == {("policy", name) for name in ("monai", "nnunet", "empty-is-one", "worst")}
    same = next(item for item in found.variations if item.name == "monai")
    assert same.shift == pytest.approx(0)
    (made,) = firm_sheets([found])
    assert made.rows[0][4] == "better where it does not collapse (0/5; up to 45 %)"
    assert "better" not in {cell for row in made.rows for cell in row}  # never without its bound
    assert made.rows[1][0] == "without seed, each of 5"


def test_a_report_has_a_row_for_each_init(out: Path) -> None:
    write_block(out, {"mae": [0.60, 0.66, 0.62, 0.61, 0.60]}, protocol="any")
    (made,) = firm_overviews(read_study(out), "default")
    assert made is not None
    assert [row[0] for row in made.rows] == ["lwi", "mae"]
    (found, *_) = firmness(read_study(out), None, "lwi", "default")
    seeds = [item.value for item in found.variations if item.kind == "seed"]
    assert made.rows[0][2] == f"{min(seeds):+.2f} to {max(seeds):+.2f}, verdict stays in 5/5"
    assert made.rows[0][4] == "–"  # one class: none can be left out
    assert firm_overviews(read_study(out), "tube") == [None]


def test_the_command_says_it_in_every_form(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "compare", "lwi", "--out", str(out), "--firm")
    assert "how firm" in text
    rows = json.loads(said(capsys, "compare", "lwi", "--out", str(out), "--firm", "--format", "json"))
    assert {row["variation"] for row in rows} == {"seed", "patient", "policy"}
    assert len([row for row in rows if row["variation"] == "seed"]) == 5
