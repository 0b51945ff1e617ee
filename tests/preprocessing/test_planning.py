"""Settings of data sets without a recipe: what the rule makes of made-up grids, and that runs are named by its numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from initbench import cache, registry
from initbench.catalog import BACKBONES
from initbench.datasets.msd import MsdDataset
from initbench.errors import DataError
from initbench.harness.cell import resolve_cell
from initbench.harness.choose import planning_rule
from initbench.harness.request import RunRequest
from initbench.preprocessing.auto_settings import Grids, fill_auto_settings, median_shape, patch_for, read_grids, target_spacing
from initbench.protocols import Grid, PatchRule, check_patch
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import AutoSettings, Recipe
from initbench.spec import Spec
from tests.msd_factory import make_msd

FREE = PatchRule((1, 1, 1))


def grids(shape: tuple[float, ...], spacing: tuple[float, ...], count: int = 9, vary: float = 0.0) -> Grids:
    """Cases along x, y, z; `vary` spreads the z spacing about its median."""
    spacings = np.tile(np.array(spacing), (count, 1))
    spacings[:, 2] *= 1 + vary * np.linspace(-1, 1, count)
    return Grids(np.tile(np.array(shape, np.int64), (count, 1)), spacings)


CT = grids((512, 512, 420), (0.8, 0.8, 1.0), count=60)
THICK = grids((320, 320, 22), (0.7, 0.7, 6.0), count=20, vary=0.5)
SMALL = grids((36, 50, 35), (1.0, 1.0, 1.0), count=9)
SAGITTAL = grids((24, 256, 256), (4.0, 0.9, 0.9))
KINDS = {"ct": CT, "thick": THICK, "small": SMALL, "sagittal": SAGITTAL}


def rule_of(backbone: str) -> PatchRule:
    info = registry.find("backbone", Spec(backbone)).target.info
    return planning_rule(info)


def paper(backbone: str, *assignments: str, name: str = "generic-ct") -> Recipe:
    return load_recipe(name, size="paper", backbone=backbone, budget="paper", assignments=assignments)


def test_spacing_is_the_median() -> None:
    assert target_spacing(CT) == (1.0, 0.8, 0.8)
    odd = Grids(np.full((3, 3), 100), np.array([(1, 1, 1), (1, 1.2, 3), (1.1, 1.5, 2.0)]))
    assert target_spacing(odd) == (2.0, 1.2, 1.0)


def test_coarse_slices_take_the_tenth_percentile() -> None:
    expected = np.percentile(THICK.spacings[:, 2], 10)
    assert target_spacing(THICK) == (round(expected, 4), 0.7, 0.7)
    assert expected < 6.0
    many = grids((320, 320, 200), (0.7, 0.7, 6.0), vary=0.5)
    assert target_spacing(many) == (6.0, 0.7, 0.7), "as many voxels as a third of the others: the median"
    wide = Grids(
        np.tile([320, 320, 22], (20, 1)), np.column_stack([np.full((20, 2), 1.0), np.r_[np.full(15, 5.0), np.full(5, 0.5)]])
    )
    assert target_spacing(wide) == (1.0, 1.0, 1.0), "no finer than the others"


def test_depth_is_the_coarse_axis() -> None:
    assert target_spacing(SAGITTAL) == (4.0, 0.9, 0.9)
    assert median_shape(SAGITTAL, (4.0, 0.9, 0.9)) == (24, 256, 256)
    assert median_shape(CT, (2.0, 1.6, 1.6)) == (210, 256, 256)


def test_patches_by_hand() -> None:
    assert patch_for((420, 512, 512), (1.0, 1.0, 1.0), 96**3, PatchRule((16, 16, 16))) == (96, 96, 96)
    assert patch_for((20, 320, 320), (5.0, 1.0, 1.0), 20 * 144 * 144, PatchRule((4, 4, 4))) == (20, 144, 144)
    assert patch_for((420, 512, 512), (2.0, 1.0, 1.0), 64 * 128 * 128, PatchRule((16, 16, 16))) == (64, 128, 128), "a cube in mm"
    assert patch_for((35, 50, 36), (1.0, 1.0, 1.0), 96**3, PatchRule((16, 16, 16))) == (48, 64, 48), "the whole volume, no more"
    assert patch_for((10, 200, 200), (8.0, 1.0, 1.0), 10**6, PatchRule((4, 4, 4), least=(8, 8, 8)))[0] == 12
    assert patch_for((5, 5, 5), (1.0, 1.0, 1.0), 8, PatchRule((32, 32, 32))) == (32, 32, 32), "the smallest there is"
    assert patch_for((14, 200, 200), (8.0, 1.0, 1.0), 14 * 160 * 160, PatchRule((4, 32, 32), (2, 0, 0), (6, 1, 1)))[0] == 14


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_patch_is_valid_and_within_the_voxels(kind: str, backbone: str) -> None:
    recipe, found = paper(backbone), KINDS[kind]
    rule = rule_of(backbone)
    made = fill_auto_settings(recipe, found, rule)
    size = made.patch.size
    assert check_patch(backbone, size, rule) == size
    assert math.prod(size) <= math.prod(recipe.patch.size)
    masked = size[1:] if BACKBONES[backbone].dimension == 2 else size
    assert all(edge % made.pretext.mask_patch == 0 for edge in masked)
    shape = median_shape(found, target_spacing(found))
    for axis, (edge, whole) in enumerate(zip(size, shape, strict=True)):
        if axis == 0 and rule.depth:
            assert edge == rule.depth
            continue
        step = max(rule.multiple[axis], 16 if whole >= 64 else 8 if whole >= 32 else 1)
        assert edge < whole + step or edge == rule.at_least((1, 1, 1))[axis], "no more than the volume, rounded up"
        if edge < whole:
            grown = [n + step if a == axis else n for a, n in enumerate(size)]
            assert math.prod(grown) > math.prod(recipe.patch.size), "nothing fits any more"


def extent(size: Grid, spacing: tuple[float, float, float]) -> list[float]:
    return [n * mm for n, mm in zip(size, spacing, strict=True)]


def test_patch_follows_the_shape() -> None:
    rule = rule_of("unet")
    isotropic = fill_auto_settings(paper("unet"), CT, rule)
    assert max(extent(isotropic.patch.size, (1.0, 0.8, 0.8))) / min(extent(isotropic.patch.size, (1.0, 0.8, 0.8))) < 1.3
    flat = fill_auto_settings(paper("unet", name="generic-mr"), THICK, rule).patch.size
    assert flat == (40, 224, 224)
    small = fill_auto_settings(paper("unet", name="generic-mr"), SMALL, rule).patch.size
    assert small == (40, 56, 40), "what nnU-Net plans for the hippocampus"


def test_steps_by_training_cases() -> None:
    assert fill_auto_settings(paper("unetr"), SMALL, rule_of("unetr")).steps.paper == 45_000
    assert fill_auto_settings(paper("unetr"), CT, rule_of("unetr")).steps.paper == 250_000, "not 300,000"
    assert fill_auto_settings(paper("unet"), SMALL, rule_of("unet")).steps.paper == 250_000, "nnU-Net counts no cases"


def test_what_is_set_by_hand_stays() -> None:
    by_hand = ("patch.size=64,64,64", "preprocess.spacing=2,2,2", "steps.paper=7000")
    recipe = paper("unetr", *by_hand)
    made = fill_auto_settings(recipe, CT, rule_of("unetr"), [item.partition("=")[0] for item in by_hand])
    assert (made.patch.size, made.preprocess.spacing, made.steps.paper) == ((64, 64, 64), (2.0, 2.0, 2.0), 7000)
    coarse = fill_auto_settings(paper("unetr", "preprocess.spacing=4,4,4"), CT, rule_of("unetr"), ["preprocess.spacing"])
    assert coarse.patch.size == (96, 96, 96)
    assert coarse.preprocess.spacing == (4.0, 4.0, 4.0)


def test_numbers_replace_the_plan() -> None:
    """The same numbers written down are the same recipe, so the same run."""
    made = fill_auto_settings(paper("unetr"), SMALL, rule_of("unetr"))
    assert made.plan == AutoSettings()
    said = paper(
        "unetr", "plan.patch=false", "plan.epochs=0", "patch.size=48,64,48", "preprocess.spacing=1,1,1", "steps.paper=45000"
    )
    assert made.digest() == said.digest()


def test_tiny_recipes_plan_nothing() -> None:
    for name in ("generic-ct", "generic-mr"):
        assert load_recipe(name, size="tiny", backbone="unetr", budget="short").plan == AutoSettings()


def test_grids_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    folder = make_msd(tmp_path / "data", cases=3, orientations=("RAS", "PIR", "SAL"))
    dataset = MsdDataset(folder)
    digests = {case: dataset.digest(case) for case in dataset.case_ids()}
    first = read_grids(dataset, dataset.case_ids(), digests)
    for n, case_id in enumerate(dataset.case_ids()):
        case = dataset.load(case_id)
        for world in range(3):
            native = int(np.argmax(np.abs(case.affine[world, :3])))
            assert first.shapes[n, world] == case.label.shape[native]
            assert first.spacings[n, world] == pytest.approx(np.linalg.norm(case.affine[:3, native]))
    monkeypatch.setattr(MsdDataset, "load", None)
    again = read_grids(dataset, dataset.case_ids(), digests)
    assert np.array_equal(first.shapes, again.shapes)
    assert np.array_equal(first.spacings, again.spacings)


def test_a_grid_is_kept_under_the_digest_of_the_files_that_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change between the digest and the reading would leave their grid under another content's name."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    dataset = MsdDataset(make_msd(tmp_path / "data", cases=2))
    ids = dataset.case_ids()
    digests = {case: dataset.digest(case) for case in ids}
    make_msd(tmp_path / "data", cases=2, seed=1)
    with pytest.raises(DataError, match=f"case {ids[0]}: its files changed since this command began"):
        read_grids(dataset, ids, digests)
    assert not list((cache.root() / "grids").glob("*"))


def test_a_run_is_named_by_what_was_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    folder = make_msd(tmp_path / "data", cases=6)
    request = RunRequest.of("default", "unet", str(folder), 0, device="cpu", size="paper", budget="paper")
    cell = resolve_cell(request)
    assert cell.recipe.plan == AutoSettings()
    assert isinstance(cell.recipe.preprocess.spacing, tuple)
    assert cell.identity["recipe"]["patch"]["size"] == list(cell.recipe.patch.size)
    assert "plan" not in cell.identity["recipe"]
    assert max(cell.recipe.patch.size) <= 32, "the volumes of the test are small"
    by_hand = replace(request, assignments=("patch.size=16,16,32",))
    assert resolve_cell(by_hand).recipe.patch.size == (16, 16, 32)
