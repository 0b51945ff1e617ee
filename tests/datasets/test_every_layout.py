"""From a folder in each layout to a prediction on the file's own grid: turned grids, several channels, small volumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from initbench.datasets.geometry import bind_axes, resample
from initbench.datasets.open import open_dataset
from initbench.evaluation.inference import to_native
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Dataset
from initbench.recipes.load import load_recipe
from initbench.runs import store
from tests import layouts
from tests.msd_factory import affine_of, make_msd, write_nifti
from tests.runs_factory import record_of, run_one
from tests.shared_data import shared

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")

ORIENTED = ("RAS", "LPS", "PIR", "oblique", "turned")


def msd(root: Path) -> str:
    make_msd(root / "Task90_Two", cases=5, modality=["T1", "T2"], classes=3)
    return "Task90_Two"


def brats(root: Path) -> str:
    ids = [f"BRATS_{i:03d}" for i in (1, 2, 3, 4, 58)]
    make_msd(root / "Task01_BrainTumour", cases=5, modality=["FLAIR", "T1w", "t1gd", "T2w"], classes=4, ids=ids)
    return "brats"


def nnunet(root: Path) -> str:
    layouts.nnunet(root / "Dataset501_Two", [f"c{i}" for i in range(8)], channels=("CT", "PET"))
    return "Dataset501_Two"


def synapse(root: Path) -> str:
    ids = ("img0005", "img0006", "img0007", "img0009", "img0001", "img0002", "img0003", "img0004")
    layouts.synapse(root / "Synapse", ids, "averaged-training-images", "averaged-training-labels")
    return "synapse"


def btcv(root: Path) -> str:
    ids = ("img0001", "img0002", "img0035", "img0036", "img0037", "img0038")
    layouts.synapse(root / "BTCV", ids, "imagesTr", "labelsTr")
    return "btcv"


def acdc(root: Path) -> str:
    ids = [
        f"patient{number}_frame{frame}"
        for number, frames in (("001", "0112"), ("002", "0112"))
        for frame in (frames[:2], frames[2:])
    ]
    layouts.acdc(root / "ACDC", ids, "training")
    return "acdc"


def chaos(root: Path) -> str:
    labels: dict[str, int | list[int]] = {"background": 0, "liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
    layouts.nnunet(root / "CHAOS", [f"t2_{i}" for i in range(5)], channels=("T2SPIR",), labels=labels)
    return "chaos"


def chaos_t1(root: Path) -> str:
    pytest.importorskip("pydicom")
    layouts.chaos(root / "CHAOS" / "Train_Sets", (1, 2, 3, 5, 8), part="T1DUAL")
    return "chaos-t1"


def chaos_ct(root: Path) -> str:
    pytest.importorskip("pydicom")
    layouts.chaos(root / "CHAOS_Train_Sets" / "Train_Sets", (1, 2, 5, 6, 8), part="CT")
    return "chaos-ct"


def camus(root: Path) -> str:
    layouts.camus(root / "CAMUS", range(1, 6), split=((1, 2, 3), (4,), (5,)))
    return "camus"


BUILDERS = (msd, brats, nnunet, synapse, btcv, acdc, chaos, chaos_t1, chaos_ct, camus)
LAYOUTS: dict[str, Callable[[Path], str]] = {f.__name__: f for f in BUILDERS}


def trained(name: str, out: Path, *more: str) -> tuple[dict[str, Any], Path]:
    """Two steps, then predictions. The patch is larger than any of the volumes."""
    short = ["patch.size=24,24,24", "steps.smoke=2", *more]
    folder = run_one(name, out, assignments=short, save_predictions=True, recipe="generic-ct")
    return record_of(folder), folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_a_folder_to_a_prediction_on_its_own_grid(root: Path, layout: str) -> None:
    name = LAYOUTS[layout](root)
    dataset = open_dataset(name)
    record, folder = trained(name, root / "runs", "preprocess.spacing=1.5,1.5,1.5")
    reported = record["resolved"]["reported_cases"]
    assert reported
    cases = pd.read_csv(folder / store.CASES)
    assert set(cases["case"]) == set(reported)
    for case_id in reported:
        truth = dataset.load(case_id)
        assert max(truth.label.shape) < 24
        found = nibabel.load(folder / store.PREDICTIONS / f"{case_id}.nii.gz")
        assert found.shape == truth.label.shape
        assert np.allclose(found.affine, truth.affine, atol=1e-4)
        counted = cases[(cases["case"] == case_id) & (cases["class_name"] == record["resolved"]["classes"][-1])]
        assert int((counted["tp"] + counted["fn"]).iloc[0]) == int((truth.label == len(dataset.classes) - 1).sum())


def turned_msd(root: Path) -> Dataset:
    """A case for every orientation, one at 20 and one at 50 degrees to the world's axes."""
    folder = root / "Task91_Turned"
    entries = []
    for index, codes in enumerate(ORIENTED):
        image, label, _ = layouts.volume(index, 3)
        affine = grid(codes, label.shape)
        for kind, array in (("imagesTr", image[0]), ("labelsTr", label)):
            write_nifti(folder / kind / f"{codes}.nii.gz", array, affine)
        entries.append({"image": f"imagesTr/{codes}.nii.gz", "label": f"labelsTr/{codes}.nii.gz"})
    table = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(table), "utf-8")
    return open_dataset(str(folder))


def grid(codes: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    spacing = (0.9, 1.3, 2.1)
    if codes in ("oblique", "turned"):
        return layouts.oblique(spacing, shape, 20 if codes == "oblique" else 50)
    return affine_of(codes, spacing, shape)


@pytest.mark.parametrize("spacing", ["native", "1.0,1.2,1.1"])
def test_a_perfect_network_scores_as_well_as_the_grid_allows(root: Path, spacing: str) -> None:
    """What was preprocessed and is carried back lies where it was: exactly, or up to half a voxel of the coarser grid."""
    dataset = turned_msd(root)
    settings = load_recipe(
        "generic-ct", size="tiny", backbone="unetr", budget="smoke", assignments=[f"preprocess.spacing={spacing}"]
    )
    cases = [dataset.load(case_id) for case_id in dataset.case_ids()]
    parameters = resolve_parameters(settings.preprocess, "CT", [scan(case) for case in cases])
    import torch

    for case in cases:
        made = preprocess(case, parameters)
        one_hot = np.stack([made.label == k for k in range(3)]).astype(np.float32)
        back = to_native(torch.from_numpy(one_hot), made.placement)
        if spacing == "native":
            assert np.array_equal(back, case.label), case.id
        overlap = (
            2
            * np.count_nonzero((back == case.label) & (case.label > 0))
            / (np.count_nonzero(back) + np.count_nonzero(case.label))
        )
        assert overlap > 0.8, case.id


# --- another library on the same files --------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", ORIENTED)
def test_simpleitk_sees_the_same_points_axes_and_volumes(root: Path, codes: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    dataset = turned_msd(root)
    case = dataset.load(codes)
    theirs = sitk.ReadImage(str(root / "Task91_Turned" / "labelsTr" / f"{codes}.nii.gz"))
    shape = case.label.shape
    assert theirs.GetSize() == shape
    for index in ((0, 0, 0), (shape[0] - 1, 0, 0), (1, 2, 3), tuple(n - 1 for n in shape)):
        point = np.array(theirs.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)  # ITK's world is LPS, ours RAS
        assert np.allclose((case.affine @ (*index, 1))[:3], point, atol=1e-3)
    axes = bind_axes(case.affine, "z")
    upright = sitk.DICOMOrient(theirs, "RAS")
    assert np.array_equal(axes.apply(case.label), sitk.GetArrayFromImage(upright))  # (z, y, x), as ours
    assert np.allclose(axes.spacing(case.affine), upright.GetSpacing()[::-1], atol=1e-5)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(theirs)
    from initbench.datasets.inspect.fingerprint import facts

    volumes = facts(case, [(1,), (2,)]).volumes_ml
    present = [k for k in (1, 2) if (case.label == k).any()]
    assert [volumes[k - 1] for k in present] == pytest.approx([shapes.GetPhysicalSize(k) / 1000 for k in present], rel=1e-5)


def test_simpleitk_resamples_alike(root: Path) -> None:
    """Linear interpolation on the half-pixel grid; beyond the outermost voxel centres ours repeats the edge."""
    sitk = pytest.importorskip("SimpleITK")
    image = np.random.default_rng(0).normal(size=(9, 11, 12)).astype(np.float32)
    for shape in ((6, 15, 12), (13, 7, 20)):
        theirs = sitk.GetImageFromArray(image)
        spacing = [m / n for n, m in zip(shape, image.shape, strict=True)][::-1]
        origin = [(step - 1) / 2 for step in spacing]
        size = [int(n) for n in shape[::-1]]
        transform, identity = sitk.Transform(), [float(v) for v in np.eye(3).ravel()]
        made = sitk.Resample(theirs, size, transform, sitk.sitkLinear, origin, spacing, identity, -99.0)
        found, ours = sitk.GetArrayFromImage(made), resample(image, shape, order=1)
        inside = found != -99.0
        assert inside.mean() > 0.5
        assert np.allclose(found[inside], ours[inside], atol=1e-4)


@pytest.mark.parametrize("layout", ["msd", "nnunet", "acdc"])
def test_simpleitk_finds_predictions_on_the_images_grid(root: Path, layout: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    name = LAYOUTS[layout](root)
    record, folder = trained(name, root / "runs")
    dataset: Any = open_dataset(name)
    for case_id in record["resolved"]["reported_cases"]:
        ours, theirs = (
            sitk.ReadImage(str(path)) for path in (folder / store.PREDICTIONS / f"{case_id}.nii.gz", dataset.files(case_id)[-1])
        )
        assert ours.GetSize() == theirs.GetSize()
        for key in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(ours, key)(), getattr(theirs, key)(), atol=1e-4), key


# --- real volumes -----------------------------------------------------------------------------------------------------


def sarcomas_as_lung(root: Path) -> str:
    """Soft-tissue tumours on CT under the ids of the lung task: three that train, one that is reported."""
    source = shared("data", "STS_CT")
    entries = json.loads((source / "dataset.json").read_text("utf-8"))["training"]
    folder = root / "Task06_Lung"
    training = []
    for case, entry in zip(("lung_004", "lung_005", "lung_006", "lung_001"), entries, strict=False):
        for kind in ("image", "label"):
            place = folder / f"{kind}sTr" / f"{case}.nii.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(source / entry[kind])
        training.append({"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"})
    table = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "cancer"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(table), "utf-8")
    return "lung"


def head_as_nnunet(root: Path) -> str:
    source = shared("data", "OpenKBP_HN5")
    table = json.loads((source / "dataset.json").read_text("utf-8"))
    folder = root / "Dataset900_Head"
    for entry in table["training"][:4]:
        case = Path(entry["label"]).name.removesuffix(".nii.gz")
        for kind, name in (("image", f"imagesTr/{case}_0000.nii.gz"), ("label", f"labelsTr/{case}.nii.gz")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(source / entry[kind])
    labels = {name: int(number) for number, name in table["labels"].items()}
    (folder / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}), "utf-8"
    )
    return "Dataset900_Head"


def hippocampus_as_acdc(root: Path) -> str:
    source = shared("data", "Task04_Hippocampus")
    entries = json.loads((source / "dataset.json").read_text("utf-8"))["training"]
    ids = ("patient001_frame01", "patient001_frame12", "patient002_frame01", "patient002_frame12")
    for case, entry in zip(ids, entries, strict=False):
        folder = root / "ACDC" / "training" / case.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case}.nii.gz").symlink_to(source / entry["image"])
        (folder / f"{case}_gt.nii.gz").symlink_to(source / entry["label"])
    return "acdc"


@pytest.mark.full
@pytest.mark.parametrize("build", [sarcomas_as_lung, head_as_nnunet, hippocampus_as_acdc], ids=lambda build: str(build.__name__))
def test_real_volumes_go_all_the_way(root: Path, build: Callable[[Path], str]) -> None:
    name = build(root)
    record, folder = trained(name, root / "runs", "preprocess.spacing=median")
    assert record["dice"] is not None
    dataset = open_dataset(name)
    for case_id in record["resolved"]["reported_cases"]:
        found = nibabel.load(folder / store.PREDICTIONS / f"{case_id}.nii.gz")
        assert found.shape == dataset.load(case_id).label.shape


def test_sarcomas_as_lung_keep_to_the_published_split(root: Path) -> None:
    from initbench.datasets import splits

    split = splits.resolve_split(open_dataset(sarcomas_as_lung(root)), None)
    assert (split.name, split.test) == ("unetrpp-50/13 (4 of 63 cases)", ("lung_001",))
