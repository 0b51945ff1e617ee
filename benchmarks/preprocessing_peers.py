"""Preprocessing of a case, from its files to arrays on the disk, beside MONAI and nnU-Net. A part of `benchmarks.ratios`."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.case_parts import two_organs
from benchmarks.turns import Row, Setting, Target, compare
from initbench.datasets.msd import MsdDataset
from initbench.preprocessing.parameters import Parameters, resolve_parameters, scan
from initbench.preprocessing.preprocess import preprocess
from initbench.recipes.load import load_recipe

SPACING_MM = (0.8, 0.8, 2.5)  # (X, Y, Z) of the file
TARGET_MM = (2.0, 1.2, 1.2)  # (D, H, W)
WINDOW_HU = (-175.0, 250.0)


def write_case(root: Path, setting: Setting) -> MsdDataset:
    """Writes a data set of one made-up CT in the Decathlon layout: two organs in a body in air."""
    shape = setting.grid(256, 256, 96)
    label = two_organs(shape)
    x, y = np.ogrid[: shape[0], : shape[1]]
    body = ((x / shape[0] - 0.5) / 0.45) ** 2 + ((y / shape[1] - 0.5) / 0.4) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 15, shape)
    image = np.where(body[..., None], 30 + 40 * label + noise, -1000 + noise).astype(np.int16)
    affine = np.diag([*SPACING_MM, 1.0])
    for folder, array in (("imagesTr", image), ("labelsTr", label)):
        (root / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), root / folder / "made_001.nii.gz")
    table = {
        "name": "made",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver", "2": "lesion"},
        "training": [{"image": "./imagesTr/made_001.nii.gz", "label": "./labelsTr/made_001.nii.gz"}],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(table), "utf-8")
    return MsdDataset(root)


def compare_preprocessing(setting: Setting) -> Iterator[Row]:
    """(e) The same steps on the same files; nobody computes digests or checksums, and all write with numpy."""
    few = Setting(setting.device, setting.turns, 1, setting.scale)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_case(Path(folder) / "made", setting)
        out = Path(folder) / "out.npz"
        ours = _ours(dataset, _parameters(dataset, resampling="monai", image_order=1), out)
        yield from compare("preprocessing", "a CT, linear", ours, {"MONAI": _monai(dataset, out)}, few)
        if importlib.util.find_spec("nnunetv2") is not None:
            ours = _ours(dataset, _parameters(dataset, resampling="nnunet", image_order=3, crop="nonzero"), out)
            yield from compare("preprocessing", "a CT, cubic", ours, {"nnU-Net": _nnunet(dataset, out)}, few)


def _parameters(dataset: MsdDataset, **chosen: Any) -> Parameters:
    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    settings = recipe.preprocess.model_copy(update={"spacing": TARGET_MM, "intensity": "window", "window": WINDOW_HU, **chosen})
    return resolve_parameters(settings, dataset.modality, [scan(dataset.load(dataset.case_ids()[0]))], dataset.channels)


def _ours(dataset: MsdDataset, parameters: Parameters, out: Path) -> Target:
    def make(_: int) -> None:
        made = preprocess(dataset.load(dataset.case_ids()[0]), parameters)
        np.savez(out, image=made.image, label=made.label)

    return make


def _files(dataset: MsdDataset) -> dict[str, str]:
    return {
        "image": str(dataset.root / "imagesTr" / "made_001.nii.gz"),
        "label": str(dataset.root / "labelsTr" / "made_001.nii.gz"),
    }


def _monai(dataset: MsdDataset, out: Path) -> Target:
    from monai import transforms

    both, spacing = ["image", "label"], (TARGET_MM[2], TARGET_MM[1], TARGET_MM[0])
    pipeline = transforms.Compose(
        [
            transforms.LoadImaged(both, ensure_channel_first=True),
            transforms.Orientationd(both, axcodes="RAS"),
            transforms.Spacingd(both, pixdim=spacing, mode=("bilinear", "nearest")),
            transforms.ScaleIntensityRanged("image", *WINDOW_HU, 0.0, 1.0, clip=True),
            transforms.CropForegroundd(both, source_key="image"),
        ]
    )
    files = _files(dataset)

    def make(_: int) -> None:
        made = pipeline(files)
        np.savez(out, image=made["image"].numpy(), label=made["label"].numpy().astype(np.uint8))

    return make


def _nnunet(dataset: MsdDataset, out: Path) -> Target:
    """Crop, normalization and resampling of nnU-Net v2's `DefaultPreprocessor`, in its order."""
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    numbers = {"mean": 40.0, "std": 60.0, "percentile_00_5": WINDOW_HU[0], "percentile_99_5": WINDOW_HU[1]}
    normalize = CTNormalization(use_mask_for_norm=False, intensityproperties=numbers)
    files = _files(dataset)
    native = (SPACING_MM[2], SPACING_MM[1], SPACING_MM[0])

    def read(name: str) -> Any:
        return np.asarray(nibabel.load(files[name]).dataobj).transpose(2, 1, 0)[None].astype(np.float32)

    def make(_: int) -> None:
        image, label, _bounds = crop_to_nonzero(read("image"), read("label"))
        shape = [round(edge * own / target) for edge, own, target in zip(image.shape[1:], native, TARGET_MM, strict=True)]
        image[0] = normalize.run(image[0])
        image = resample_data_or_seg_to_shape(image, shape, native, TARGET_MM, is_seg=False, order=3, force_separate_z=None)
        label = resample_data_or_seg_to_shape(label, shape, native, TARGET_MM, is_seg=True, order=1, force_separate_z=None)
        np.savez(out, image=image, label=label.astype(np.uint8))

    return make
