"""CAMUS: stacks of frames, both views of a patient on one side, the split of its own lists."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import initbench
from initbench.cli.app import main
from initbench.datasets.camus import FRAME_MM
from initbench.datasets.geometry import bind_axes
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.errors import DataError, MissingDataError, UsageError
from initbench.preprocessing.auto_settings import median_shape, patch_for, read_grids, target_spacing
from initbench.preprocessing.parameters import resolve_parameters as parameters_of
from initbench.preprocessing.parameters import scan
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import PatchRule, group_of
from initbench.recipes.load import load_recipe
from initbench.runs import store
from tests import layouts
from tests.msd_factory import write_nifti

# No test finds data sets of the machine.
pytestmark = pytest.mark.usefixtures("root")

SPLIT = ((1, 2, 3, 4), (5,), (6,))


@pytest.mark.parametrize("place", ["CAMUS", "CAMUS_public", "camus/CAMUS_public"])
def test_half_sequences_are_cases_and_views_of_a_patient_stay_together(root: Path, place: str) -> None:
    layouts.camus(root / place, range(1, 7), split=SPLIT)
    dataset = open_dataset("camus")
    assert dataset.modality == "US"
    assert dataset.classes == ("background", "left ventricle", "myocardium", "left atrium")
    assert dataset.case_ids() == tuple(f"patient{n:04d}_{view}" for n in range(1, 7) for view in ("2CH", "4CH"))
    assert group_of(dataset, "patient0003_4CH") == "patient0003"
    case = dataset.load("patient0003_4CH")
    assert case.image.shape == (1, 21, 15, 12)
    assert set(np.unique(case.label)) == {0, 1, 2, 3}
    split = resolve_split(dataset, None)
    assert (split.name, len(split.train), len(split.unused)) == ("camus-4/1/1", 8, 2)
    assert split.test == ("patient0006_2CH", "patient0006_4CH")
    for fold in ("1/3", "2/3", "3/3"):
        sides = resolve_split(dataset, None, fold)
        assert not {group_of(dataset, case) for case in sides.train} & {group_of(dataset, case) for case in sides.test}


def test_patients_may_lie_in_the_folder_itself_and_the_lists_beside_it(root: Path) -> None:
    layouts.camus(root, range(1, 7), split=SPLIT)
    assert resolve_split(open_dataset("camus"), None).name == "camus-4/1/1"
    (root / "database_nifti").rename(root / "CAMUS")
    assert resolve_split(open_dataset("camus"), None).name == "auto"


@pytest.mark.parametrize("pixel", [(0.308, 0.154), (0.6, 0.5), (2.0, 2.0)])
def test_time_is_depth_and_is_never_resampled(root: Path, pixel: tuple[float, float]) -> None:
    layouts.camus(root / "CAMUS", (1, 2), pixel=pixel)
    layouts.camus(root / "CAMUS", (3,), pixel=(0.4, 0.4), frames=17)
    dataset = open_dataset("camus")
    cases = [dataset.load(case_id) for case_id in dataset.case_ids()]
    for case in cases:
        axes = bind_axes(case.affine, "z")
        assert axes.spacing(case.affine)[0] == pytest.approx(FRAME_MM)
        assert axes.apply(case.label).shape[0] == case.label.shape[2]
    settings = load_recipe("generic-mr", size="paper", backbone="unetr", budget="paper").preprocess
    parameters = parameters_of(settings, dataset.modality, map(scan, cases))
    for case in cases:
        assert preprocess(case, parameters).label.shape[0] == case.label.shape[2]


def test_patches_hold_the_sequence_and_as_much_of_the_picture_as_they_can(root: Path) -> None:
    """At the size of the release, from grids alone: a planned patch of no more frames than the network asks for."""
    layouts.camus(root / "CAMUS", (1, 2), shape=(549, 778), frames=18)
    dataset = open_dataset("camus")
    grids = read_grids(dataset, dataset.case_ids(), {case: dataset.digest(case) for case in dataset.case_ids()})
    spacing = target_spacing(grids)
    assert spacing == (FRAME_MM, 0.154, 0.308)
    shape = median_shape(grids, spacing)
    assert shape == (18, 778, 549)
    unetr = patch_for(shape, spacing, 96**3, PatchRule((16, 16, 16)))
    nnformer = patch_for(shape, spacing, 64 * 128 * 128, PatchRule((16, 32, 32), least=(32, 64, 64)))
    assert unetr[0] == 16
    assert nnformer[0] == 32
    for patch in (unetr, nnformer):
        assert patch[1] * 0.154 == pytest.approx(patch[2] * 0.308, abs=32 * 0.308)


def test_problems_are_named(root: Path) -> None:
    with pytest.raises(MissingDataError, match=r"camus was not found.*CAMUS.*database_split/subgroup_training"):
        open_dataset("camus")
    folder = layouts.camus(root / "CAMUS", range(1, 7), split=SPLIT)
    patient = folder / "database_nifti" / "patient0002"
    write_nifti(patient / "patient0002_2CH_half_sequence.nii.gz", np.zeros((21, 15), np.uint8))
    with pytest.raises(DataError, match=r"case patient0002_2CH: .*half_sequence.nii.gz has shape \(21, 15\)"):
        open_dataset("camus").load("patient0002_2CH")
    label = nibabel.load(patient / "patient0002_4CH_half_sequence_gt.nii.gz")
    write_nifti(patient / "patient0002_4CH_half_sequence_gt.nii.gz", np.asarray(label.dataobj) + np.uint8(1), label.affine)
    with pytest.raises(DataError, match=r"label value\(s\) 4; the CAMUS layout names 0 to 3"):
        open_dataset("camus").load("patient0002_4CH")
    (patient / "patient0002_4CH_half_sequence_gt.nii.gz").unlink()
    with pytest.raises(DataError, match=r"label .*patient0002_4CH_half_sequence_gt\.nii\.gz.*NAME_half_sequence_gt"):
        open_dataset("camus")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "subgroup_validation.txt cannot be read"),
        ("", "subgroup_validation.txt is empty"),
        ("patient0005 ../../x", "'../../x' is no patient"),
        ("patient0001", "patient0001 in two of the lists"),
    ],
)
def test_damaged_lists_are_named(root: Path, text: str | None, says: str) -> None:
    path = layouts.camus(root / "CAMUS", range(1, 7), split=SPLIT) / "database_split" / "subgroup_validation.txt"
    if text is None:
        path.unlink()
    else:
        path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=says):
        open_dataset("camus")


def test_the_commands_take_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.camus(root / "CAMUS", range(1, 7), split=SPLIT, shape=(61, 85))

    def told(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main([*arguments])
        found = capsys.readouterr()
        assert not caught.value.code, found.err
        return found.out

    row = next(row for row in json.loads(told("data", "list", "--json")) if row["name"] == "camus")
    assert (row["cases"], row["problem"]) == (12, None)
    facts = json.loads(told("data", "info", "camus", "--json"))
    assert (facts["patients"], facts["splits"]["camus-4/1/1"]) == (6, {"train": 8, "reported": 2, "unused": 2})
    assert facts["spacing_mm"]["median"][2] == FRAME_MM
    assert f"preprocess.spacing = [{FRAME_MM}, " in told("recipe", "new", "camus")
    json.loads(told("data", "verify", "camus", "--json"))


@pytest.mark.parametrize(
    "backbone", ["unetr", *(pytest.param(name, marks=pytest.mark.full) for name in ("unetrpp", "swin-unetr", "nnformer", "unet"))]
)
def test_tiny_networks_train_on_frames(root: Path, backbone: str) -> None:
    """With the recipe as it is: patches of as many frames as most sequences have."""
    layouts.camus(root / "CAMUS", range(1, 7), split=SPLIT, shape=(61, 85))
    [outcome] = initbench.run(
        "default", backbone, "camus", out=root / "runs", assignments=["steps.smoke=2", "patch.batch=1"],
        budget="smoke", size="tiny", device="cpu", precision="float32", save_predictions=True,
    )  # fmt: skip
    assert outcome.state == "ok", outcome.message
    assert outcome.folder is not None
    for case_id in ("patient0006_2CH", "patient0006_4CH"):
        assert nibabel.load(outcome.folder / store.PREDICTIONS / f"{case_id}.nii.gz").shape == (61, 85, 12)


def test_a_network_that_cannot_take_so_few_frames_says_so(root: Path) -> None:
    layouts.camus(root / "CAMUS", range(1, 7), split=SPLIT)
    more = {"assignments": ["patch.size=12,64,64"], "size": "tiny", "device": "cpu"}
    with pytest.raises(UsageError, match=r"patch \(12, 64, 64\) must be .*at least \(32, 64, 64\)"):
        initbench.run("default", "nnformer(variant=synapse)", "camus", out=root / "runs", **more)
