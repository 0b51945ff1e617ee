"""Preprocessing against plain numpy, and the cache in front of it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from initbench import cache, digest
from initbench.datasets.msd import MsdDataset
from initbench.datasets.nnunet import NnunetDataset
from initbench.errors import DataError
from initbench.preprocessing import prepare
from initbench.preprocessing.parameters import CaseScan, Channel, Parameters, resolve_parameters, scan
from initbench.preprocessing.preprocess import Placement, preprocess
from initbench.protocols import Case, Split
from initbench.recipes.settings import Preprocess
from tests.msd_factory import affine_of, make_msd, write_nifti

SHAPE = (7, 9, 8)


def settings(**values: Any) -> Preprocess:
    return Preprocess.model_validate({"spacing": "native", "intensity": "window", "image_order": 1, "crop": False} | values)


def make_case(seed: int = 0, codes: str = "RAS", channels: int = 1) -> Case:
    rng = np.random.default_rng(seed)
    image = rng.normal(50, 120, (channels, *SHAPE)).astype(np.float32)
    label = (rng.random(SHAPE) < 0.3).astype(np.uint8)
    return Case(f"case_{seed}", image, label, affine_of(codes, (1.0, 1.2, 2.0), SHAPE))


def made(case: Case, chosen: Preprocess, modality: str = "CT") -> tuple[Any, Parameters]:
    parameters = resolve_parameters(chosen, modality, [scan(case)])
    return preprocess(case, parameters), parameters


def depth_first(array: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(array, (-1, -2, -3), (-3, -2, -1))


def test_window() -> None:
    case = make_case()
    result, _ = made(case, settings(window=(-100, 300)))
    assert result.image.dtype == np.float32
    expected = (np.clip(depth_first(case.image), -100, 300) + 100) / 400
    np.testing.assert_allclose(result.image, expected, atol=1e-6)
    assert (result.image.min(), result.image.max()) == (0.0, 1.0)
    assert np.array_equal(result.label, depth_first(case.label))


def test_percentile_takes_foreground_of_all_training_cases() -> None:
    cases = [make_case(seed) for seed in range(3)]
    parameters = resolve_parameters(settings(intensity="percentile"), "CT", map(scan, cases))
    values = np.concatenate([case.image[0][case.label > 0] for case in cases])
    low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
    assert parameters.clip == pytest.approx((low, high))
    expected = (np.clip(depth_first(cases[1].image), low, high) - values.mean()) / values.std()
    np.testing.assert_allclose(preprocess(cases[1], parameters).image, expected, atol=1e-5)


def test_case_zscore_takes_each_channel_by_itself() -> None:
    case = make_case(channels=2)
    result, parameters = made(case, settings(intensity="case-zscore"), "MR")
    assert (parameters.clip, parameters.scale) == (None, None)
    for found, channel in zip(result.image, depth_first(case.image), strict=True):
        clipped = np.clip(channel, *np.percentile(channel, (0.5, 99.5)))
        np.testing.assert_allclose(found, (clipped - clipped.mean()) / clipped.std(), atol=1e-5)


def test_a_constant_volume_stays_finite() -> None:
    case = make_case()
    flat = Case("flat", np.full_like(case.image, 5.0), case.label, case.affine)
    for intensity in ("percentile", "case-zscore"):
        result, _ = made(flat, settings(intensity=intensity))
        assert np.array_equal(result.image, np.zeros_like(result.image))


@pytest.mark.parametrize("intensity", ["percentile", "case-zscore", "window"])
def test_no_foreground_at_all(intensity: str) -> None:
    case = make_case()
    bare = Case("bare", case.image, np.zeros_like(case.label), case.affine)
    if intensity == "percentile":
        with pytest.raises(DataError, match="no training case has a foreground voxel"):
            made(bare, settings(intensity=intensity))
    else:
        assert np.isfinite(made(bare, settings(intensity=intensity))[0].image).all()


@pytest.mark.parametrize(
    ("modality", "outside", "intensity"), [("CT", -500.0, "window"), ("MR", 0.0, "case-zscore"), ("MR", -50.0, "window")]
)
def test_crop_keeps_what_lies_above(modality: str, outside: float, intensity: str) -> None:
    case = make_case()
    image = np.full_like(case.image, outside)
    image[0, 2:5, 1:8, 3:6] = 200.0
    image[0, 3, 4, 4] = outside  # a hole stays
    result, _ = made(Case("c", image, case.label, case.affine), settings(crop=True, intensity=intensity), modality)
    assert result.placement.bounds == ((3, 6), (1, 8), (2, 5))
    assert result.image.shape == (1, 3, 7, 3)
    assert np.array_equal(result.label, depth_first(case.label)[3:6, 1:8, 2:5])


def test_nothing_above_crops_nothing() -> None:
    case = make_case()
    result, _ = made(Case("c", np.full_like(case.image, -900), case.label, case.affine), settings(crop=True))
    assert result.placement.bounds == ((0, 8), (0, 9), (0, 7))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_restore_puts_labels_back_exactly(codes: str) -> None:
    case = make_case(codes=codes)
    image = np.where(np.pad(np.ones((3, 4, 3), bool), ((2, 2), (3, 2), (1, 4))), 100, -900)[None].astype(np.float32)
    result, _ = made(Case("c", image, case.label, case.affine), settings(crop=True))
    restored = result.placement.restore(result.label)
    assert np.array_equal(restored, np.where(image[0] > 0, case.label, 0))
    assert Placement.from_json(result.placement.to_json()) == result.placement


def test_target_spacing() -> None:
    spacings = [(1.0, 1.2, 2.0), (1.4, 1.4, 3.0), (1.1, 1.9, 2.5)]
    scans = [CaseScan(np.array(spacing), np.ones(1, np.float32)) for spacing in spacings]
    assert resolve_parameters(settings(spacing="native"), "CT", scans).spacing is None
    assert resolve_parameters(settings(spacing="median"), "CT", scans).spacing == (2.5, 1.4, 1.1)
    assert resolve_parameters(settings(spacing="median", depth_axis="y"), "CT", scans).spacing == (1.4, 2.5, 1.1)
    assert resolve_parameters(settings(spacing=(1.0, 2.0, 3.0)), "CT", scans).spacing == (1.0, 2.0, 3.0)
    coarse = [CaseScan(np.array((4.0, 1.0, 1.2)), np.ones(1, np.float32))]
    parameters = resolve_parameters(settings(spacing="median"), "CT", coarse)
    assert (parameters.depth_axis, parameters.spacing) == ("x", (4.0, 1.2, 1.0))


def test_resampling_halves_the_grid_and_respects_the_window() -> None:
    case = make_case()
    result, _ = made(case, settings(spacing=(4.0, 2.4, 2.0), window=(0, 100), image_order=3))
    assert result.image.shape == (1, 4, 4, 4)  # 8 / 2, 9 / 2 and 7 / 2 rounded to even
    assert result.label.shape == (4, 4, 4)
    assert result.image.min() >= 0
    assert result.image.max() <= 1


# --------------------------------------------------------------------------------------------------------------------
# Channels that are not alike


def ct_and_pet(seed: int) -> Case:
    """HU in a body that air surrounds, and an uptake of 0.4 to 11.2 everywhere."""
    case, rng = make_case(seed), np.random.default_rng(100 + seed)
    ct = np.full(SHAPE, -1000, np.float32)
    ct[1:6, 2:8, 1:7] = rng.normal(40, 60, (5, 6, 6))
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 3:6, 2:5] = 1
    return Case(f"case_{seed}", np.stack([ct, rng.uniform(0.4, 11.2, SHAPE)]).astype(np.float32), label, case.affine)


def foreground(cases: list[Case], channel: int) -> NDArray[np.float64]:
    return np.concatenate([case.image[channel][case.label > 0] for case in cases]).astype(np.float64)


@pytest.mark.parametrize("names", [("CT", "PET"), ("PET", "ct")])
@pytest.mark.parametrize("resampling", ["half-pixel", "nnunet"])
def test_only_ct_takes_the_numbers_of_the_data_set(names: tuple[str, str], resampling: str) -> None:
    cases = [ct_and_pet(seed) for seed in range(3)]
    ct = [name.lower() for name in names].index("ct")
    if ct:
        cases = [replace(case, image=case.image[::-1].copy()) for case in cases]
    chosen = settings(intensity="percentile", crop=True, resampling=resampling)
    parameters = resolve_parameters(chosen, "CT", map(scan, cases), names)
    values = foreground(cases, ct)
    low, high = np.percentile(values, (0.5, 99.5))
    assert parameters.clip == parameters.channels[ct].clip == pytest.approx((low, high))
    assert parameters.channels[1 - ct] == Channel()
    result = preprocess(cases[1], parameters)
    assert result.placement.bounds == ((1, 7), (2, 8), (1, 6)), "air is cut off, whatever the uptake there"
    inside = depth_first(cases[1].image)[:, 1:7, 2:8, 1:6]
    # nnU-Net v2: CTNormalization clips to the percentiles, then (x - mean) / std of the foreground of the training cases;
    # ZScoreNormalization is (x - mean) / std of the channel itself.
    np.testing.assert_allclose(result.image[ct], (np.clip(inside[ct], low, high) - values.mean()) / values.std(), atol=1e-4)
    pet = inside[1 - ct]
    np.testing.assert_allclose(result.image[1 - ct], (pet - pet.mean()) / pet.std(), atol=1e-4)
    assert result.image[1 - ct].std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("resampling", ["half-pixel", "monai", "nnunet"])
def test_a_window_in_hu_is_for_ct(resampling: str) -> None:
    case = ct_and_pet(0)
    parameters = resolve_parameters(
        settings(window=(-100, 300), crop=True, resampling=resampling), "CT", [scan(case)], ("CT", "PET")
    )
    result = preprocess(case, parameters)
    assert result.placement.grid.native == (6, 6, 5) or resampling == "monai"
    assert result.image.shape[1] <= 6, "cut to what lies above the window on the CT"
    assert (result.image[0].min(), result.image[0].max()) == pytest.approx((0.0, 1.0), abs=0.35)
    assert result.image[1].std() == pytest.approx(1, abs=0.1)
    both = resolve_parameters(settings(window=(0, 10)), "MR", [scan(case)], ("T1", "T2"))
    assert both.channels == (), "set by hand for channels that are no CT, it is for all of them"


def test_each_channel_has_percentiles_of_its_own() -> None:
    cases = [ct_and_pet(seed) for seed in range(2)]
    parameters = resolve_parameters(settings(intensity="percentile"), "MR", map(scan, cases), ("T1", "T2"))
    for index, rule in enumerate(parameters.channels):
        values = foreground(cases, index)
        assert rule.clip == pytest.approx(tuple(np.percentile(values, (0.5, 99.5))))
        assert rule.scale == pytest.approx((values.mean(), values.std()))


@pytest.mark.parametrize("resampling", ["half-pixel", "nnunet"])
def test_channels_whose_names_say_their_rule(resampling: str) -> None:
    case = ct_and_pet(0)
    image = np.concatenate([case.image, case.image[1:], case.image[1:]])
    case = replace(case, image=image)
    names = ("CT", "noNorm", "rescale_to_0_1", "rgb_to_0_1")
    parameters = resolve_parameters(settings(intensity="percentile", resampling=resampling), "CT", [scan(case)], names)
    found, pet = preprocess(case, parameters).image[1:], depth_first(case.image[1])
    expected = np.stack([pet, (pet - pet.min()) / (pet - pet.min()).max(), pet / 255])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("channels", [("CT",), ("PET",), ("FLAIR", "T1w", "t1gd", "T2w"), ("CT", "CT")])
@pytest.mark.parametrize("intensity", ["window", "case-zscore", "percentile"])
def test_channels_that_are_alike_keep_the_numbers_and_keys_of_before(channels: tuple[str, ...], intensity: str) -> None:
    case = replace(ct_and_pet(0), image=np.repeat(ct_and_pet(0).image[:1], len(channels), 0))
    modality = "CT" if channels[0] == "CT" else "MR"
    one = resolve_parameters(settings(intensity=intensity, crop=True), modality, [scan(replace(case, image=case.image[:1]))])
    found = resolve_parameters(settings(intensity=intensity, crop=True), modality, [scan(case)], channels)
    assert found.channels == ()
    assert (found, found.digest()) == (one, one.digest())


# --------------------------------------------------------------------------------------------------------------------
# The cache in front of it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return make_msd(tmp_path / "data", cases=3)


SPLIT = Split("test", ("case_00", "case_01"), ("case_02",))
PERCENTILE = settings(intensity="percentile")


class Counting(MsdDataset):
    """Remembers what was loaded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.loaded: list[str] = []

    def load(self, case_id: str) -> Case:
        self.loaded.append(case_id)
        return super().load(case_id)


def change(folder: Path, case_id: str) -> None:
    case = MsdDataset(folder).load(case_id)
    write_nifti(folder / "imagesTr" / f"{case_id}.nii.gz", case.image[0] + 500, case.affine)


def test_prepared_case_is_the_preprocessed_one(folder: Path) -> None:
    prepared = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    for case_id in (*SPLIT.train, *SPLIT.test):
        source, found = MsdDataset(folder).load(case_id), prepared.case(case_id)
        expected = preprocess(source, prepared.parameters)
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.label, expected.label)
        assert np.array_equal(found.reference, source.label)
        assert np.array_equal(found.affine, source.affine)
        assert found.placement == expected.placement


def test_statistics_come_from_training_cases_alone(folder: Path) -> None:
    before = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    change(folder, "case_02")
    after = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    assert before.parameters == after.parameters
    assert before.digest != after.digest
    change(folder, "case_01")
    assert prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE).parameters != before.parameters


def test_second_time_reads_the_cache(folder: Path) -> None:
    first, again = Counting(folder), Counting(folder)
    one = prepare.prepare(first, SPLIT, PERCENTILE)
    two = prepare.prepare(again, SPLIT, PERCENTILE)
    assert first.loaded == ["case_00", "case_01", "case_00", "case_01", "case_02"], "a scan of the training cases, then all"
    assert again.loaded == []
    assert one == two


def test_changed_file_gets_a_key_of_its_own(folder: Path) -> None:
    window = settings()
    before = prepare.prepare(MsdDataset(folder), SPLIT, window)
    change(folder, "case_01")
    counting = Counting(folder)
    after = prepare.prepare(counting, SPLIT, window)
    assert {case_id for case_id in before.keys if before.keys[case_id] != after.keys[case_id]} == {"case_01"}
    assert set(counting.loaded) == {"case_01"}
    assert not np.array_equal(before.case("case_01").image, after.case("case_01").image)


def test_other_numbers_get_other_keys(folder: Path) -> None:
    keys = [
        prepare.prepare(MsdDataset(folder), SPLIT, chosen).keys["case_00"]
        for chosen in (settings(), settings(window=(0, 1)), settings(spacing=(2, 2, 2)), PERCENTILE, settings(crop=True))
    ]
    assert len(set(keys)) == len(keys)


def test_same_numbers_said_differently_share_a_key(folder: Path) -> None:
    dataset = MsdDataset(folder)
    median = prepare.prepare(dataset, SPLIT, settings(spacing="median"))
    said = prepare.prepare(dataset, SPLIT, settings(spacing=median.parameters.spacing))
    assert median.keys == said.keys


@pytest.mark.parametrize("name", ["image.npy", "reference.npy", "meta.json"])
def test_truncated_cache_file_is_rebuilt(folder: Path, name: str) -> None:
    first = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    expected = np.array(first.case("case_01").image)
    file = cache.root() / "volumes" / first.keys["case_01"] / name
    file.write_bytes(file.read_bytes()[:40])
    counting = Counting(folder)
    again = prepare.prepare(counting, SPLIT, PERCENTILE)
    assert counting.loaded == ["case_01"]
    assert np.array_equal(again.case("case_01").image, expected)


def spoil(file: Path) -> None:
    """Zeros in place of a file's bytes; size and time of modification stay."""
    status = file.stat()
    file.write_bytes(bytes(status.st_size))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("damage", [spoil, Path.unlink])
@pytest.mark.parametrize("name", ["image", "label", "reference"])
def test_what_the_cache_lost_is_made_again(
    folder: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    counting = Counting(folder)
    prepared = prepare.prepare(counting, SPLIT, PERCENTILE)
    expected = {key: getattr(prepared.case("case_01"), key).copy() for key in ("image", "label", "reference")}
    case, loaded = prepared.case("case_01"), len(counting.loaded)
    damage(cache.root() / "volumes" / prepared.keys["case_01"] / f"{name}.npy")
    assert np.array_equal(getattr(case, name), expected[name])
    assert counting.loaded[loaded:] == ["case_01"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("case case_01: ")
    assert caplog.messages[0].endswith("it is made again from its files")
    for key, array in expected.items():
        assert np.array_equal(getattr(prepared.case("case_01"), key), array)
    assert prepared.mend() == []


def test_whoever_reads_one_case_pays_for_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    read: list[str] = []
    monkeypatch.setattr(cache, "_checked", lambda path, *_: read.append(f"{path.parent.name}/{path.name}"))
    case = prepared.case("case_01")
    assert read == []
    with contextlib.suppress(Exception):
        case.label  # noqa: B018 - asked for, and the answer is spoiled
    assert set(read) == {f"{prepared.keys['case_01']}/label.npy"}


def test_mending_reads_every_array(folder: Path) -> None:
    prepared = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    for case_id, name in (("case_00", "reference"), ("case_02", "image")):
        spoil(cache.root() / "volumes" / prepared.keys[case_id] / f"{name}.npy")
    assert prepared.mend() == ["case_00", "case_02"]
    assert prepared.mend() == []


@pytest.mark.parametrize("name", ["foreground", "spacing_xyz"])
def test_a_damaged_scan_decides_no_number(folder: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    before = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    for file in (cache.root() / "scans").glob(f"*/{name}.npy"):
        spoil(file)
    after = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    assert (after.parameters, after.keys) == (before.parameters, before.keys)
    assert len(caplog.messages) == len(SPLIT.train)


def test_a_case_that_cannot_be_made_again_is_not_used(folder: Path) -> None:
    """Its files are others now: what is made of them would be another case under the name of this one."""
    prepared = prepare.prepare(MsdDataset(folder), SPLIT, PERCENTILE)
    spoil(cache.root() / "volumes" / prepared.keys["case_01"] / "image.npy")
    case = prepared.case("case_01")
    change(folder, "case_01")
    with pytest.raises(DataError, match="case case_01: its files changed since this command began"):
        case.image  # noqa: B018


def test_files_that_change_while_they_are_read_are_refused(folder: Path) -> None:
    class Late(MsdDataset):
        """A copy that is still running: files change between the digest and the reading."""

        def load(self, case_id: str) -> Case:
            change(folder, case_id)
            return super().load(case_id)

    with pytest.raises(DataError, match="case case_00: its files changed"):
        prepare.prepare(Late(folder), SPLIT, PERCENTILE)
    assert list((cache.root()).glob("*/[!.]*/image.npy")) == []


def test_data_digest_depends_on_who_trains(folder: Path) -> None:
    dataset = MsdDataset(folder)
    swapped = Split("test", ("case_00", "case_02"), ("case_01",))
    whole, cases = prepare.data_digest(dataset, SPLIT)
    assert cases == {case_id: dataset.digest(case_id) for case_id in dataset.case_ids()}
    assert prepare.data_digest(dataset, swapped)[0] != whole
    renamed = Split("other name", SPLIT.train, SPLIT.test)
    assert prepare.data_digest(dataset, renamed)[0] == whole


def test_parameters_digest_holds_every_number() -> None:
    parameters = resolve_parameters(settings(), "CT", [scan(make_case())])
    later = {"resampling": "nnunet", "crop_nonzero": True, "region": "whole", "channels": (Channel(),), "plane": (64, 64)}
    first = {key: value for key, value in asdict(parameters).items() if key not in later}
    assert parameters.digest() == digest.of_json({**first, "revision": 1}), "what came later is in no digest at its default"
    others = {replace(parameters, **{key: value}).digest() for key, value in later.items()}  # type: ignore[arg-type]
    assert len(others | {parameters.digest()}) == 1 + len(later)


def test_a_folder_of_ct_and_pet_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    cases = [ct_and_pet(seed) for seed in range(3)]
    root = tmp_path / "Dataset501_Both"
    for case in cases:
        for channel, voxels in enumerate(case.image):
            write_nifti(root / "imagesTr" / f"{case.id}_{channel:04d}.nii.gz", voxels, case.affine)
        write_nifti(root / "labelsTr" / f"{case.id}.nii.gz", case.label, case.affine)
    table = {"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "PET", "1": "CT"}, **table}), "utf-8")
    assert NnunetDataset(root).modality == "CT", "a CT among the channels makes the recipe that of CT"
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT", "1": "PET"}, **table}), "utf-8")
    prepared = prepare.prepare(NnunetDataset(root), Split("test", ("case_0", "case_1"), ("case_2",)), PERCENTILE)
    assert prepared.parameters == resolve_parameters(PERCENTILE, "CT", map(scan, cases[:2]), ("CT", "PET"))
    assert prepared.case("case_2").image[1].std() == pytest.approx(1, abs=1e-3)
