"""The picture of a run: which cases it shows, how their slices lie, and that nothing is predicted again for it."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from initbench.evaluation import overlay
from initbench.evaluation.evaluate import Evaluator
from initbench.plots import OPPOSITE_SIDES, SIDES_BY_DEPTH
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.prepare import PreparedCase
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Case
from initbench.recipes.settings import Preprocess
from initbench.runs import store
from tests.msd_factory import make_noise
from tests.runs_factory import run_one

SHAPE = (24, 20, 16)
CORNER = (slice(16, 22), slice(13, 18), slice(10, 14))  # right, anterior, superior


@pytest.mark.parametrize(
    ("dice", "shown"),
    [
        ({}, {}),
        ({"a": math.nan}, {}),
        ({"a": 0.5}, {"the only case": "a"}),
        ({"a": 0.5, "b": math.nan}, {"the only case": "a"}),
        ({"a": 0.5, "b": 0.2}, {"best": "a", "worst": "b"}),
        ({"a": 0.5, "b": 0.2, "c": 0.4}, {"best": "a", "median": "c", "worst": "b"}),
        ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.0}, {"best": "d", "median": "b", "worst": "e"}),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, {"best": "c", "median": "b", "worst": "a"}),
    ],
)
def test_best_median_and_worst_of_any_number(dice: dict[str, float], shown: dict[str, str]) -> None:
    chosen = overlay.choose(dice)
    assert list(chosen.items()) == list(shown.items())
    assert len(set(chosen.values())) == len(chosen)


def body(codes: str = "RAS", *, tilt: float = 0.0, depth: str = "z") -> PreparedCase:
    """A dim body with a bright organ towards its right, front and head, stored along the axes of `codes`.

    Args:
        tilt: of the body about its long axis, in degrees.
        depth: the axis of the body that is D.
    """
    image = np.random.default_rng(0).uniform(0, 0.2, SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    image[CORNER], label[CORNER] = 1, 1
    angle = math.radians(tilt)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:2, :2] = 2 * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    stored = [nibabel.orientations.apply_orientation(array, turn) for array in (image, label)]
    affine = affine @ nibabel.orientations.inv_ornt_aff(turn, SHAPE)
    case = Case("case", np.ascontiguousarray(stored[0])[None], np.ascontiguousarray(stored[1]), affine)
    table = {"spacing": "native", "intensity": "window", "window": [0, 1], "image_order": 1, "crop": False, "depth_axis": depth}
    made = preprocess(case, resolve_parameters(Preprocess.model_validate(table), "CT", [scan(case)]))
    arrays: dict[str, NDArray[Any]] = {"image": made.image, "label": made.label, "reference": case.label}
    return PreparedCase("case", arrays.__getitem__, affine, made.placement)


def row_of(case: PreparedCase) -> Sequence[Any]:
    row: Sequence[Any] = Figure().subplots(1, 4)
    empty = np.zeros_like(case.reference)
    overlay._draw_case(row, overlay.OverlayCase("case", case, overlay.telling_slices(case, empty)))
    return row


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PIR", "SAL"])
@pytest.mark.parametrize("depth", ["x", "y", "z"])
def test_the_marks_say_where_the_organ_lies(codes: str, depth: str) -> None:
    """It is drawn at the left and at the top, and there stand the sides of the body that it is in."""
    case = body(codes, depth=depth)
    sides = overlay.sides_of(case)
    assert sides == SIDES_BY_DEPTH[depth]
    for plot in row_of(case):
        marks = {text.get_text(): text.get_position() for text in plot.texts}
        _, top, left = sides
        assert marks[left][0] < 0.1 < 0.9 < marks[OPPOSITE_SIDES[left]][0]
        assert marks[OPPOSITE_SIDES[top]][1] < 0.1 < 0.9 < marks[top][1]
        [drawn] = plot.get_images()
        rows, columns = np.nonzero(np.asarray(drawn.get_array()) > 0.9)
        places = plot.transAxes.inverted().transform(plot.transData.transform(np.stack([columns, rows], 1)))
        across, along = places.mean(0)
        assert across < 0.4
        assert along > 0.6


def picture(case: PreparedCase, path: Path) -> bytes:
    prediction = np.roll(case.placement.axes.apply(case.reference), 2, axis=2)
    shown = overlay.telling_slices(case, np.ascontiguousarray(case.placement.axes.invert(prediction)))
    overlay.draw([overlay.OverlayCase("only", case, shown)], ["background", "organ"], path)
    return path.read_bytes()


def test_a_volume_that_is_stored_the_other_way_round_gives_the_same_picture(tmp_path: Path) -> None:
    plain = picture(body("RAS"), tmp_path / "plain.png")
    assert picture(body("LIP"), tmp_path / "turned.png") == plain
    assert picture(body("RAS", depth="y"), tmp_path / "coronal.png") != plain


def test_a_tilted_volume_says_so() -> None:
    assert "tilted" not in row_of(body())[0].get_ylabel()
    tilted = body("LPS", tilt=20)
    assert overlay.sides_of(tilted) == ("S", "A", "R")
    assert row_of(tilted)[0].get_ylabel() == "case\ntilted by 20°"


def test_the_slices_that_are_kept_are_those_of_the_prediction() -> None:
    case = body("PIR")
    prediction = np.roll(case.reference, 3, axis=1)
    shown = overlay.telling_slices(case, prediction)
    whole = case.placement.axes.apply(prediction)
    for kept in (shown.main, shown.error):
        assert np.array_equal(kept.labels, whole[kept.index])
    wrong = np.count_nonzero(case.placement.axes.apply(case.reference) != whole, axis=(1, 2))
    assert wrong[shown.error.index] == wrong.max() > 0


def test_nothing_is_predicted_for_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = []
    before = Evaluator.probabilities

    def counted(self: Evaluator, case: PreparedCase) -> Any:
        predicted.append(case.id)
        return before(self, case)

    monkeypatch.setattr(Evaluator, "probabilities", counted)
    folder = run_one(make_noise(tmp_path / "data", cases=10, classes=2), tmp_path / "runs")
    assert (folder / store.OVERLAY).is_file()
    assert len(predicted) == len(set(predicted)) == 2


def test_a_run_imports_no_pictures_before_it_draws() -> None:
    code = "import sys, initbench.harness.execute; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
