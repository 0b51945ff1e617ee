"""One examination under two names: refused where a split has it on both sides, said where it counts twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from initbench import cache
from initbench.datasets.duplicates import content_of, equal_cases
from initbench.datasets.inspect.examine import examine
from initbench.datasets.inspect.fingerprint import fingerprint
from initbench.datasets.open import open_dataset
from initbench.datasets.splits import resolve_split
from initbench.errors import DataError
from initbench.preprocessing.prepare import Prepared, prepare
from initbench.protocols import Dataset
from initbench.recipes.load import load_recipe
from tests.msd_factory import make_msd

IDS = tuple("abcdef")
SPLIT = {"mine": {"train": ["a", "b", "c"], "test": ["d", "e", "f"]}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))


def same_bytes(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def saved_again(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    header = image.header.copy()
    header["descrip"] = b"saved again"
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header), target)


def other_type(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj, np.float64), image.affine), target)


def turned_over(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    nibabel.save(nibabel.as_closest_canonical(image).slicer[::-1, ::-1], target)


def elsewhere(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    affine = image.affine.copy()
    affine[:3, 3] += 100
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), target)


def signed_zeros(source: Path, target: Path) -> None:
    """Saved again by a program that turned 0 into -0, as by a product with a negative number."""
    image = nibabel.load(source)
    array = np.asarray(image.dataobj, np.float32)
    if "images" in str(source):
        array[0] = 0.0
        nibabel.save(nibabel.Nifti1Image(array, image.affine), source)
    nibabel.save(nibabel.Nifti1Image(np.where(array == 0, np.float32(-0.0), array), image.affine), target)


COPIES: list[Callable[[Path, Path], None]] = [same_bytes, saved_again, other_type, turned_over, elsewhere, signed_zeros]


def one_voxel(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    array = np.asarray(image.dataobj).copy()
    array[2, 3, 4] += 1
    nibabel.save(nibabel.Nifti1Image(array, image.affine), target)


def other_spacing(source: Path, target: Path) -> None:
    image = nibabel.load(source)
    affine = image.affine.copy()
    affine[:3, :3] *= 1.1
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), target)


def folder_with(tmp_path: Path, copy: Callable[[Path, Path], None], source: str, target: str) -> Dataset:
    folder = make_msd(tmp_path / "Task90_Copies", len(IDS), ids=IDS)
    of_label = same_bytes if copy is one_voxel else copy  # a label has no voxel to spare
    copy(folder / "imagesTr" / f"{source}.nii.gz", folder / "imagesTr" / f"{target}.nii.gz")
    of_label(folder / "labelsTr" / f"{source}.nii.gz", folder / "labelsTr" / f"{target}.nii.gz")
    (folder / "splits.json").write_text(json.dumps(SPLIT), "utf-8")
    return open_dataset(str(folder))


def prepared(dataset: Dataset, split: str | None = "mine") -> Prepared:
    recipe = load_recipe("generic-ct", size="tiny", budget="smoke", backbone="unetr")
    return prepare(dataset, resolve_split(dataset, split), recipe.preprocess)


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_on_the_other_side_is_refused_by_name(tmp_path: Path, copy: Callable[[Path, Path], None]) -> None:
    dataset = folder_with(tmp_path, copy, "b", "e")
    for _ in range(2):  # also where the cache has the volumes
        with pytest.raises(DataError, match="split mine trains on b and reports e, which have equal voxels on equal grids"):
            prepared(dataset)
    (problem,) = examine(dataset).problems
    assert "trains on b and reports e" in problem.text
    assert any("cases b, e have equal voxels" in note for note in fingerprint(dataset).notes)


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("pair", [("a", "c"), ("d", "f")])
def test_a_copy_on_the_same_side_is_said(tmp_path: Path, copy: Callable[[Path, Path], None], pair: tuple[str, str]) -> None:
    dataset = folder_with(tmp_path, copy, *pair)
    for _ in range(2):
        (said,) = prepared(dataset).remarks
        assert said == f"cases {', '.join(pair)} have equal voxels on equal grids, so one examination counts 2 times"
    found = examine(dataset)
    assert not found.problems
    assert any(f"cases {', '.join(pair)}" in note for note in found.notes)


@pytest.mark.parametrize("change", [one_voxel, other_spacing])
def test_what_only_looks_alike_is_no_copy(tmp_path: Path, change: Callable[[Path, Path], None]) -> None:
    dataset = folder_with(tmp_path, change, "b", "e")
    assert prepared(dataset).remarks == ()
    assert not examine(dataset).problems


@pytest.mark.parametrize("groups", [[], [("a", "b")], [("a", "d", "f"), ("b", "c")]])
def test_every_group_is_found_once(tmp_path: Path, groups: Sequence[tuple[str, ...]]) -> None:
    folder = make_msd(tmp_path / "Task90_Copies", len(IDS), ids=IDS)
    for first, *others in groups:
        for other in others:
            for kind in ("imagesTr", "labelsTr"):
                saved_again(folder / kind / f"{first}.nii.gz", folder / kind / f"{other}.nii.gz")
    dataset = open_dataset(str(folder))
    assert equal_cases({case_id: content_of(dataset.load(case_id)) for case_id in IDS}) == list(groups)


def test_volumes_of_before_are_made_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(str(make_msd(tmp_path / "Task90_Plain", 4)))
    prepared(dataset, None)
    for file in (cache.root() / "volumes").glob("*/meta.json"):
        table = json.loads(file.read_text("utf-8"))
        del table["values"]["noticed"]
        file.write_text(json.dumps(table), "utf-8")
    read = []
    load = dataset.load
    monkeypatch.setattr(dataset, "load", lambda case_id: (read.append(case_id), load(case_id))[1])
    prepared(dataset, None)
    assert sorted(read) == sorted(dataset.case_ids())
    prepared(dataset, None)
    assert len(read) == 4
