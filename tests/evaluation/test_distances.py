"""HD95 and surface Dice in mm: hand-worked masks, an independent computation, runs that have them and runs that get them."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

import initbench
from initbench.audit.add_distances import add_distances as measure_run
from initbench.audit.rescore import read_cases
from initbench.audit.verify import verify
from initbench.cli.app import main
from initbench.errors import InitbenchError, UsageError
from initbench.evaluation import distances as distances_module
from initbench.evaluation.distances import (
    Distances,
    bounding_box,
    distances_of_case,
    distances_per_class,
    mean_distances,
    of_masks,
    voxel_size,
)
from initbench.harness import score as score_module
from initbench.harness.cell import resolve_cell
from initbench.harness.request import RunRequest, from_json
from initbench.preprocessing.prepare import PreparedCase
from initbench.runs import store, work
from initbench.validation.checks import Check
from tests.crash_driver import SETTINGS
from tests.folders import TESTS
from tests.msd_factory import make_msd

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
OPTIONS: dict[str, Any] = {"budget": "smoke", "size": "tiny", "device": "cpu", "precision": "float32", "assignments": SETTINGS}
Mask = NDArray[np.uint8]


def scaled(*spacing: float) -> NDArray[np.float64]:
    return np.diag([*spacing, 1.0])


def empty(*shape: int) -> Mask:
    return np.zeros(shape, np.uint8)


def cube(start: tuple[int, int, int], edge: int, shape: tuple[int, int, int] = (20, 20, 20)) -> Mask:
    made = empty(*shape)
    made[tuple(slice(s, s + edge) for s in start)] = 1
    return made


def one(reference: Mask, prediction: Mask, affine: NDArray[np.float64], tolerance: float = 2.0) -> Distances:
    [found] = distances_per_class(reference, prediction, affine, 2, tolerance)
    return found


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "spacing", "expected"),
    [
        ((3, 0, 0), (1.0, 1.0, 1.0), 3.0),
        ((3, 0, 0), (0.5, 1.0, 1.0), 1.5),
        ((0, 0, 4), (1.0, 1.0, 2.5), 10.0),
        ((1, 2, 2), (1.0, 1.0, 1.0), 3.0),
        ((1, 2, 2), (2.0, 1.5, 3.0), 7.0),  # 2, 3, 6
    ],
)
def test_two_voxels(step: tuple[int, int, int], spacing: tuple[float, float, float], expected: float) -> None:
    reference, prediction = empty(9, 10, 11), empty(9, 10, 11)
    reference[2, 3, 4] = 1
    prediction[2 + step[0], 3 + step[1], 4 + step[2]] = 1
    assert one(reference, prediction, scaled(*spacing), expected - 0.1) == Distances(expected, 0.0)
    assert one(reference, prediction, scaled(*spacing), expected) == Distances(expected, 1.0)


def test_the_same_mask_is_at_no_distance() -> None:
    assert one(cube((4, 4, 4), 5), cube((4, 4, 4), 5), scaled(1, 1, 3), 0.0) == Distances(0.0, 1.0)


def test_a_shifted_cube() -> None:
    """A cube of 4 shifted by 2 along the first axis: of its 56 surface voxels, by their distance along that axis alone."""
    found = one(cube((5, 5, 5), 4), cube((7, 5, 5), 4), scaled(1.5, 1, 1), 0.0)
    # The shift costs at most 2 voxels of 1.5 mm, which the far face (16 of 56 voxels, over 5 %) has.
    assert found.hd95_mm == 3.0
    # On both surfaces: the side walls of the slices both cubes have (2 slices of 12 voxels); of the near faces the rims.
    surface, shared = 4**3 - 2**3, 12 * 2
    assert surface == 56
    assert found.nsd == pytest.approx(shared_share(cube((5, 5, 5), 4), cube((7, 5, 5), 4)))
    assert found.nsd == pytest.approx(2 * shared / (2 * surface))
    assert one(cube((5, 5, 5), 4), cube((7, 5, 5), 4), scaled(1.5, 1, 1), 3.0).nsd == 1.0


def shared_share(a: Mask, b: Mask) -> float:
    """Surface Dice at no tolerance: voxels that are on both surfaces."""
    one_, other = surface(a == 1), surface(b == 1)
    return 2 * int((one_ & other).sum()) / int(one_.sum() + other.sum())


def test_spacing_is_that_of_its_axis() -> None:
    for axis in range(3):
        spacing = np.array([1.0, 1.0, 1.0])
        spacing[axis] = 4.0
        for moved in range(3):
            start = [5, 5, 5]
            start[moved] += 1
            found = one(cube((5, 5, 5), 3), cube((start[0], start[1], start[2]), 3), scaled(*spacing))
            assert found.hd95_mm == (4.0 if moved == axis else 1.0)


def test_an_oblique_grid_is_measured_along_its_own_axes() -> None:
    angle = 0.5
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 1.1, 3.0])
    affine[:3, 3] = (-90.0, 40.0, 7.0)
    assert voxel_size(affine) == pytest.approx((0.7, 1.1, 3.0))
    reference, prediction = empty(8, 8, 8), empty(8, 8, 8)
    reference[1, 2, 3], prediction[4, 6, 5] = 1, 1
    world = affine[:3, :3] @ np.array([3, 4, 2])
    assert one(reference, prediction, affine).hd95_mm == pytest.approx(np.linalg.norm(world), rel=1e-6)
    affine[:3, 0] *= -1  # an axis that points the other way is as long
    assert one(reference, prediction, affine).hd95_mm == pytest.approx(np.linalg.norm(world), rel=1e-6)


def test_a_mask_at_the_border_has_a_surface_there() -> None:
    whole = np.ones((4, 4, 4), np.uint8)
    assert one(whole, cube((0, 0, 0), 4, (4, 4, 4)), scaled(1, 1, 1)) == Distances(0.0, 1.0)
    half = whole.copy()
    half[2:] = 0
    assert one(whole, half, scaled(1, 1, 1)).hd95_mm == 2.0


# --- empty masks ------------------------------------------------------------------------------------------------------


def test_empty_masks() -> None:
    full, none = cube((5, 5, 5), 4), empty(20, 20, 20)
    assert one(none, none, scaled(1, 1, 1)) == Distances(None, None)
    assert one(none, full, scaled(1, 1, 1)) == Distances(None, None)
    assert one(full, none, scaled(1, 1, 1)) == Distances(None, 0.0)


def test_every_class_for_itself() -> None:
    reference, prediction = cube((2, 2, 2), 3), cube((3, 2, 2), 3)
    reference[12:14, 12:14, 12:14] = 3
    prediction[15, 15, 15] = 2
    assert distances_per_class(reference, prediction, scaled(2, 1, 1), 4, 2.0) == [
        one(cube((2, 2, 2), 3), cube((3, 2, 2), 3), scaled(2, 1, 1)),
        Distances(None, None),
        Distances(None, 0.0),
    ]


def test_means_leave_out_what_is_missing_and_count_it() -> None:
    table = {
        "a": [Distances(2.0, 0.5), Distances(None, None)],
        "b": [Distances(None, 0.0), Distances(None, None)],
        "c": [Distances(4.0, 1.0), Distances(None, None)],
        "d": [Distances(None, None), Distances(None, None)],
    }
    found = mean_distances(table, ("background", "one", "none"))
    assert found["hd95_mm_per_class"]["one"] == {"mean": 3.0, "cases": 2, "reference_empty": 1, "prediction_empty": 1}
    assert found["nsd_per_class"]["one"] == {"mean": 0.5, "cases": 3, "reference_empty": 1}
    assert found["hd95_mm_per_class"]["none"] == {"mean": None, "cases": 0, "reference_empty": 4, "prediction_empty": 0}
    assert found["nsd_per_class"]["none"] == {"mean": None, "cases": 0, "reference_empty": 4}


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, math.inf])
def test_a_tolerance_that_is_none(tolerance: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        distances_per_class(cube((1, 1, 1), 2), cube((1, 1, 1), 2), np.eye(4), 2, tolerance)
    with pytest.raises(UsageError, match="--nsd-tolerance"):
        initbench.run("default", LIGHT, "phantom-lung", out=tmp_path, nsd_tolerance=tolerance, **OPTIONS)
    with pytest.raises(UsageError, match="--nsd-tolerance"):
        measure_run(tmp_path, tolerance_mm=tolerance)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        distances_per_class(empty(3, 3, 3), empty(3, 3, 4), np.eye(4), 2, 2.0)


# --- against others ---------------------------------------------------------------------------------------------------


def blobs(seed: int, shape: tuple[int, int, int] = (30, 26, 22)) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two smooth random masks that overlap."""
    rng = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    other = base + 0.5 * ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    return base > np.quantile(base, 0.9), other > np.quantile(other, 0.88)


def surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    eroded: NDArray[np.bool_] = ndimage.binary_erosion(mask)
    return mask & ~eroded


def independently(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float]:
    """By distance maps over the whole volume."""
    a, b = surface(prediction), surface(reference)
    from_a = ndimage.distance_transform_edt(~b, sampling=spacing)[a]
    from_b = ndimage.distance_transform_edt(~a, sampling=spacing)[b]
    within = (from_a <= tolerance).sum() + (from_b <= tolerance).sum()
    return max(np.percentile(from_a, 95), np.percentile(from_b, 95)), within / (len(from_a) + len(from_b))


SPACINGS = [(0.73, 0.91, 2.9), (3.1, 0.8, 0.8), (1.0, 1.7, 0.6)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_distance_maps_give_the_same(seed: int, spacing: tuple[float, float, float]) -> None:
    reference, prediction = blobs(seed)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*spacing), 1.87)
    hd95, nsd = independently(reference, prediction, spacing, 1.87)
    assert found.hd95_mm == pytest.approx(hd95, rel=1e-5)
    assert found.nsd == pytest.approx(nsd, abs=1e-12)
    assert 0 < nsd < 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_bits_are_those_of_monai(seed: int, spacing: tuple[float, float, float]) -> None:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    reference, prediction = blobs(seed)
    found = one(reference.astype(np.uint8), prediction.astype(np.uint8), scaled(*spacing))
    pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)  # MONAI of its own call
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing))
        nsd = compute_surface_dice(*pair, class_thresholds=[2.0], include_background=True, spacing=list(spacing))
    assert found.hd95_mm == hd95.item()
    assert np.float32(found.nsd) == np.float32(nsd.item())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at", [(0, 0, 0), (7, 3, 12), (30, 20, 9)])
def test_cropping_changes_no_bit(seed: int, at: tuple[int, int, int]) -> None:
    """Masks in the midst of a volume, at its border, and cut by it."""
    reference, prediction = empty(48, 40, 36), empty(48, 40, 36)
    for target, mask in zip((reference, prediction), blobs(seed), strict=True):
        place = tuple(slice(a, a + n) for a, n in zip(at, mask.shape, strict=True))
        kept = target[place].shape
        target[place] = mask[: kept[0], : kept[1], : kept[2]]
    whole = of_masks(reference == 1, prediction == 1, (0.73, 0.91, 2.9), 1.5)
    assert one(reference, prediction, scaled(0.73, 0.91, 2.9), 1.5) == whole
    box = bounding_box((reference | prediction) == 1)
    assert reference[box].size < reference.size
    assert reference[box].sum() + prediction[box].sum() == reference.sum() + prediction.sum()


def test_axes_and_sides_are_alike() -> None:
    reference, prediction = (mask.astype(np.uint8) for mask in blobs(9))
    found = one(reference, prediction, scaled(0.7, 1.1, 2.0))
    assert one(prediction, reference, scaled(0.7, 1.1, 2.0)) == found
    turned = one(reference.transpose(2, 0, 1)[::-1], prediction.transpose(2, 0, 1)[::-1], scaled(2.0, 0.7, 1.1))
    assert turned.nsd == found.nsd
    assert turned.hd95_mm == pytest.approx(found.hd95_mm, rel=1e-6)


def test_surfaces_beyond_the_limit_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, prediction = (mask.astype(np.uint8) for mask in blobs(5))
    found = one(reference, prediction, scaled(0.7, 1.1, 2.0))
    monkeypatch.setattr(distances_module, "_TORCH_QUANTILE", 10)
    assert one(reference, prediction, scaled(0.7, 1.1, 2.0)).hd95_mm == pytest.approx(found.hd95_mm, rel=1e-6)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=10, classes=3)


def started(data: Path, out: Path, **options: Any) -> Path:
    [outcome] = initbench.run("default", LIGHT, str(data), out=out, **OPTIONS | options)
    assert outcome.folder is not None, outcome.message
    assert outcome.state in ("ok", "diverged")
    return outcome.folder


@pytest.fixture(scope="module")
def without(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return started(data, tmp_path_factory.mktemp("without") / "runs")


@pytest.fixture(scope="module")
def measured(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return started(data, tmp_path_factory.mktemp("with") / "runs", distances=True, nsd_tolerance=1.0, save_predictions=True)


def copy(folder: Path, tmp_path: Path) -> Path:
    """The run alone in an output folder of its own."""
    to = tmp_path.joinpath("runs", *folder.parts[-4:])
    shutil.copytree(folder, to)
    return to


def record_of(folder: Path) -> dict[str, Any]:
    found = store.read_record(folder)
    assert found is not None
    return found


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / store.CASES).open(newline="") as file:
        return list(csv.DictReader(file))


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


def directly(data: Path, predictions: Path, tolerance: float) -> dict[str, list[Distances]]:
    found = {}
    for path in sorted(predictions.glob("*.nii.gz")):
        label = nibabel.load(data / "labelsTr" / path.name)
        maps = [np.asarray(image.dataobj, np.uint8) for image in (label, nibabel.load(path))]
        found[path.name.removesuffix(".nii.gz")] = distances_per_class(maps[0], maps[1], label.affine, 3, tolerance)
    return found


def test_a_run_measures_them(data: Path, measured: Path) -> None:
    expected = directly(data, measured / store.PREDICTIONS, 1.0)
    assert len(expected) == 2
    _, found = read_cases(measured)
    assert found == expected
    assert any(item.hd95_mm for per_class in expected.values() for item in per_class)
    record = record_of(measured)
    assert record["distances"] == {"tool": "monai", "version": monai_version(), "percentile": 95, "nsd_tolerance_mm": 1.0}
    for key in ("hd95_mm", "nsd"):
        values = [getattr(per_class[0], key) for per_class in expected.values()]
        assert record[f"{key}_per_class"]["part 1"]["mean"] == pytest.approx(np.mean([v for v in values if v is not None]))
    cost = record["cost"]
    assert cost["distance_seconds"] > 0
    parts = cost["init"]["seconds"] + cost["train"]["seconds"] + cost["evaluate_seconds"]
    assert cost["total_seconds"] == pytest.approx(parts)  # distances are a measurement and no cost of the init
    table = initbench.load_cases(measured.parents[3])
    assert table["nsd"].notna().all()


def test_their_time_is_no_cost(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that passes while a case is measured is in no other number."""
    hours = 0

    def slow(*arguments: Any) -> list[Distances]:
        nonlocal hours
        hours += 1
        return distances_of_case(*arguments)

    clock = time.perf_counter
    monkeypatch.setattr(score_module, "of_case", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 3600 * hours)
    cost = record_of(started(data, tmp_path, distances=True))["cost"]
    assert hours == 2
    assert cost["distance_seconds"] >= 2 * 3600
    assert cost["total_seconds"] < 3600


def monai_version() -> str:
    import monai

    return str(monai.__version__)


def test_without_asking_there_are_none(without: Path) -> None:
    assert {(row["hd95_mm"], row["nsd"]) for row in rows_of(without)} == {("", "")}
    record = record_of(without)
    assert [record[key] for key in ("distances", "hd95_mm_per_class", "nsd_per_class")] == [None] * 3
    assert record["cost"]["distance_seconds"] == 0


def test_they_are_no_part_of_what_a_run_is(without: Path, measured: Path, data: Path, tmp_path: Path) -> None:
    assert record_of(without)["cell"] == record_of(measured)["cell"]
    assert record_of(without)["weights_digest"] == record_of(measured)["weights_digest"]
    assert (without / store.CURVE).read_bytes() == (measured / store.CURVE).read_bytes()
    assert read_cases(without)[0] == read_cases(measured)[0]
    request = RunRequest("default", LIGHT, str(data), 0, budget="smoke", size="tiny", assignments=SETTINGS, out=tmp_path)
    asked = {resolve_cell(from_json({**vars(request), **more})).id for more in ({}, {"distances": True, "nsd_tolerance": 7.0})}
    assert len(asked) == 1
    old = {key: value for key, value in record_of(without)["asked"].items() if key not in ("distances", "nsd_tolerance")}
    assert resolve_cell(from_json(old, out=tmp_path)).id == record_of(without)["cell"]


def test_a_diverged_run_follows_the_rule_of_empty_predictions(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"assignments": [*SETTINGS, "optimizer.lr=1e30"]}
    first = started(data, tmp_path / "a", distances=True, **options)
    assert record_of(first)["status"] == "diverged"
    assert {(row["hd95_mm"], row["nsd"]) for row in rows_of(first)} == {("", "0.0")}
    assert record_of(first)["hd95_mm_per_class"]["part 2"] == {
        "mean": None, "cases": 0, "reference_empty": 0, "prediction_empty": 2,
    }  # fmt: skip
    later = started(data, tmp_path / "b", **options)
    assert measure_run(later).source == "empty predictions"
    assert rows_of(later) == rows_of(first)
    assert failed(verify(later, steps=1)) == {}


def test_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--init", "default", "--backbone", LIGHT, "--dataset", str(data), "--out", str(tmp_path / "runs")]
    arguments += ["--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32"]
    arguments += [part for assignment in SETTINGS for part in ("--set", assignment)]
    assert exit_code(arguments) == 0
    capsys.readouterr()
    assert exit_code([*arguments, "--distances"]) == 0
    assert "cached" in (printed := capsys.readouterr().out)
    assert f"`initbench measure {tmp_path / 'runs'} --nsd-tolerance 2` adds them" in printed
    assert exit_code(["measure", str(tmp_path / "runs")]) == 0
    assert "2 cases from the weights" in capsys.readouterr().out
    assert exit_code([*arguments, "--distances"]) == 0
    assert "initbench measure" not in capsys.readouterr().out
    assert exit_code([*arguments, "--distances", "--nsd-tolerance", "1"]) == 0
    assert "--nsd-tolerance 1` adds them" in capsys.readouterr().out
    [folder] = [path.parent for path in tmp_path.rglob(store.RECORD)]
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "1", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["state"], row["cases"]) == ("measured", 2)
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "1"]) == 0
    assert "its distances are there" in capsys.readouterr().out
    assert exit_code(["describe", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "HD95 (mm)" in printed
    assert "surface Dice (1 mm)" in printed
    (folder / store.CURVE).unlink()
    assert exit_code(["measure", str(folder)]) == 1
    assert "curve.csv is missing" in capsys.readouterr().out
    assert exit_code(["measure", str(tmp_path / "nowhere")]) == 2
    assert exit_code(["measure", str(folder), "--nsd-tolerance", "-1"]) == 2


def exit_code(arguments: list[str]) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


# --- finished runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
def test_a_finished_run_gets_the_numbers_it_would_have_had(
    data: Path, without: Path, measured: Path, tmp_path: Path, kept: bool
) -> None:
    folder = copy(without, tmp_path)
    if kept:
        shutil.copytree(measured / store.PREDICTIONS, folder / store.PREDICTIONS)
    before, weights = record_of(folder), (folder / store.WEIGHTS).stat().st_mtime_ns
    done = measure_run(folder, tolerance_mm=1.0)
    assert (done.cases, done.source) == (2, "predictions" if kept else "weights")
    assert (folder / store.CASES).read_bytes() == (measured / store.CASES).read_bytes()
    record = record_of(folder)
    assert store.problem(folder, record, thorough=True) == ""
    changed = {key for key in record if record[key] != before[key]}
    assert changed == {"distances", "hd95_mm_per_class", "nsd_per_class", "cost", "files", "sizes", "digest"}
    assert record["dice"] == before["dice"]
    assert record["cost"]["total_seconds"] == before["cost"]["total_seconds"]
    assert (folder / store.WEIGHTS).stat().st_mtime_ns == weights
    checks = verify(folder, steps=2)
    assert failed(checks) == {}
    assert checks[3].detail.endswith("the same counts and distances")
    [again] = initbench.run("default", LIGHT, str(data), out=folder.parents[3], distances=True, nsd_tolerance=1.0, **OPTIONS)
    assert (again.state, again.message) == ("cached", "")
    assert not list(folder.parent.glob(".seed-0*"))


def test_measuring_twice_changes_nothing_and_another_tolerance_replaces(without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    measure_run(folder, tolerance_mm=1.0)
    stamp = (folder / store.RECORD).stat().st_mtime_ns
    assert measure_run(folder, tolerance_mm=1.0).cases == 0
    assert (folder / store.RECORD).stat().st_mtime_ns == stamp
    strict = read_cases(folder)[1]
    assert measure_run(folder, tolerance_mm=5.0).cases == 2
    lenient = read_cases(folder)[1]
    assert record_of(folder)["distances"]["nsd_tolerance_mm"] == 5.0
    for case in strict:
        for one_, other in zip(strict[case], lenient[case], strict=True):
            assert one_.hd95_mm == other.hd95_mm
            assert (one_.nsd or 0) <= (other.nsd or 0)
    assert strict != lenient


def reseal(folder: Path, **changes: Any) -> None:
    """What a forger does who knows the format."""
    record = {key: value for key, value in record_of(folder).items() if key != "digest"}
    store.write_json(folder / store.RECORD, store.seal(record | changes, folder))


def replace_in_cases(folder: Path, column: str, change: Callable[[str], Any]) -> str:
    """Changes a cell of the first row; gives its case."""
    rows = rows_of(folder)
    rows[0][column] = str(change(rows[0][column]))
    with (folder / store.CASES).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows[0]["case"]


def test_what_was_changed_is_refused(without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    data = bytearray((folder / store.WEIGHTS).read_bytes())
    data[-1] ^= 64
    (folder / store.WEIGHTS).write_bytes(bytes(data))
    before = snapshot(folder)
    with pytest.raises(InitbenchError, match=r"weights\.safetensors was changed"):
        measure_run(folder)
    reseal(folder)
    resealed = snapshot(folder)
    with pytest.raises(InitbenchError, match="not the weights that the record names"):
        measure_run(folder)
    assert snapshot(folder) == resealed != before


def test_other_counts_are_refused_by_the_case(without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    case = replace_in_cases(folder, "tp", lambda tp: int(tp) + 1)
    with pytest.raises(InitbenchError, match=r"cases\.csv"):
        measure_run(folder)
    reseal(folder)
    before = snapshot(folder)
    with pytest.raises(InitbenchError, match=rf"weights give other counts than cases\.csv holds: {case};"):
        measure_run(folder)
    assert snapshot(folder) == before


def test_changed_predictions_are_refused_by_the_case(measured: Path, tmp_path: Path) -> None:
    folder = copy(measured, tmp_path)
    path = sorted((folder / store.PREDICTIONS).iterdir())[1]
    image = nibabel.load(path)
    case = path.name.removesuffix(".nii.gz")
    for array, message in (
        (1 - np.minimum(np.asarray(image.dataobj), 1), f"other counts.*{case}"),
        (np.full(image.shape, 3, np.uint8), f"case {case}: .* no label map of 3 classes"),
        (np.zeros((2, 2, 2), np.uint8), f"case {case}: .* no label map"),
    ):
        nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
        with pytest.raises(InitbenchError, match=message):
            measure_run(folder)
    path.unlink()
    with pytest.raises(InitbenchError, match=f"case {case}: .* cannot be read"):
        measure_run(folder)
    assert record_of(folder)["distances"]["nsd_tolerance_mm"] == 1.0


def test_verify_finds_forged_distances(measured: Path, tmp_path: Path) -> None:
    folder = copy(measured, tmp_path)
    case = replace_in_cases(folder, "hd95_mm", lambda value: float(value) / 2)
    reseal(folder)
    wrong = failed(verify(folder, steps=1))
    assert wrong["score"] == "cases.csv gives another hd95_mm_per_class than the record says"
    assert wrong["Dice"] == f"other distances than in cases.csv: {case}"
    reseal(folder, **mean_distances(read_cases(folder)[1], record_of(folder)["resolved"]["classes"]))
    assert set(failed(verify(folder, steps=1))) == {"Dice"}
    replace_in_cases(folder, "hd95_mm", lambda value: "")
    reseal(folder, **mean_distances(read_cases(folder)[1], record_of(folder)["resolved"]["classes"]))
    assert set(failed(verify(folder, steps=1))) == {"Dice"}


def test_a_run_without_a_result_is_refused(without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    reseal(folder, status="failed", reason="planted")
    with pytest.raises(UsageError, match="has no result: it failed"):
        measure_run(folder)
    with pytest.raises(UsageError, match="no record"):
        measure_run(tmp_path)


def test_other_data_are_refused(data: Path, without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    changed = make_msd(tmp_path / data.name, cases=10, classes=3, seed=7)
    reseal(folder, asked=record_of(folder)["asked"] | {"dataset": str(changed)})
    with pytest.raises(InitbenchError, match="data_digest changed"):
        measure_run(folder)


def test_a_run_in_other_hands_is_left_alone(without: Path, tmp_path: Path) -> None:
    folder = copy(without, tmp_path)
    with work.claim(folder) as claim:
        assert claim is not None
        with pytest.raises(InitbenchError, match="another process is at it"):
            measure_run(folder)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


STEPS = 8  # changes of files that `measure` makes
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@FORKS
@pytest.mark.parametrize("at", range(STEPS))
def test_whoever_is_killed_leaves_the_run_whole(without: Path, tmp_path: Path, at: int) -> None:
    """`kill -9` of a child at every thing it does to files."""
    folder = copy(without, tmp_path)
    before, counts = record_of(folder), read_cases(folder)[0]
    assert not killed_at(folder, at)
    record = record_of(folder)
    assert store.problem(folder, record, thorough=True) == ""
    assert store.is_finished(folder)
    assert (record["dice"], record["weights_digest"]) == (before["dice"], before["weights_digest"])
    assert read_cases(folder)[0] == counts
    assert record["distances"] is None or all(row["nsd"] for row in rows_of(folder))
    assert failed(verify(folder, steps=1)) == {}
    measure_run(folder)
    record = record_of(folder)
    assert store.COMING not in record
    assert store.problem(folder, record, thorough=True) == ""
    assert record["distances"]["nsd_tolerance_mm"] == 2.0
    assert all(row["nsd"] for row in rows_of(folder))
    assert not list(folder.parent.glob(".seed-0-*"))


def killed_at(folder: Path, at: int) -> bool:
    """Measures in a forked process that is killed at its `at`-th change of a file; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir")):
                return
            if not str(arguments[0]).startswith(str(folder.parent)):
                return
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        sys.addaudithook(hook)
        try:
            measure_run(folder)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


@FORKS
def test_every_change_of_a_file_is_among_them(without: Path, tmp_path: Path) -> None:
    assert killed_at(copy(without, tmp_path / "whole"), STEPS)
    between = copy(without, tmp_path / "between")
    assert not killed_at(between, STEPS - 3)
    assert store.COMING in record_of(between)
    assert all(row["nsd"] for row in rows_of(between))


@FORKS
@pytest.mark.parametrize("at", range(STEPS))
def test_a_record_never_names_the_tolerance_of_other_numbers(measured: Path, tmp_path: Path, at: int) -> None:
    folder = copy(measured, tmp_path)
    assert not killed_at(folder, at)  # on the way from 1 mm to 2 mm
    record = record_of(folder)
    assert failed(verify(folder, steps=1)) == {}
    if record["distances"]:
        kept = record["distances"]["nsd_tolerance_mm"]
        assert read_cases(folder)[1] == directly(Path(record["asked"]["dataset"]), folder / store.PREDICTIONS, kept)
    measure_run(folder, tolerance_mm=1.0)
    assert read_cases(folder)[1] == read_cases(measured)[1]


def test_the_case_of_a_scored_label_is_measured_on_its_own_grid(data: Path, measured: Path) -> None:
    """Spacings differ from case to case: another case's affine gives other numbers."""
    record = record_of(measured)
    prepared = resolve_cell(from_json(record["asked"])).prepared
    cases: list[PreparedCase] = [prepared.case(case) for case in prepared.split.test]
    sizes = [voxel_size(case.affine) for case in cases]
    assert sizes[0] != pytest.approx(sizes[1])
    path = measured / store.PREDICTIONS / f"{cases[0].id}.nii.gz"
    prediction = np.asarray(nibabel.load(path).dataobj, np.uint8)
    own, other = (distances_per_class(np.asarray(cases[0].reference), prediction, case.affine, 3, 1.0) for case in cases)
    assert own == read_cases(measured)[1][cases[0].id] != other
