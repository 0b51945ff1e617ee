"""The papers' recipes: their published numbers, networks that take them, and steps that learn with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

import initbench
from initbench import registry
from initbench.catalog import BACKBONES
from initbench.datasets.open import open_dataset
from initbench.harness.regimens import plain_task
from initbench.preprocessing.parameters import resolve_parameters, scan
from initbench.preprocessing.preprocess import preprocess
from initbench.protocols import Case, Grid, structure_of
from initbench.recipes import files as recipe_files
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.samplers import PatchSampler
from initbench.sampling.volumes import make_volume
from initbench.spec import Spec
from initbench.training.loop import FitSettings, fit
from tests import layouts
from tests.msd_factory import affine_of

PUBLISHED = ("synapse", "btcv", "lung", "acdc", "brats")
NNUNET = ("unetrpp", "nnformer", "unet")
UNPUBLISHED = ("omnia-net", "dx-net", "ds-net", "transunet", "swin-unet", "missformer")
"""Nobody released a recipe for these, or for Synapse alone."""
CPU = torch.device("cpu")


def paper(name: str, backbone: str, *assignments: str) -> Recipe:
    return load_recipe(name, size="paper", backbone=backbone, budget="paper", assignments=assignments)


# What the papers and their releases say of each: patch, batch, spacing (D, H, W), deep supervision, variant, steps.
TABLE: dict[tuple[str, str], tuple[Grid, int, tuple[float, float, float], bool, str | None, int]] = {
    ("synapse", "unetr"): ((96, 96, 96), 4, (2.0, 1.5, 1.5), False, None, 90_000),
    ("synapse", "swin-unetr"): ((96, 96, 96), 4, (2.0, 1.5, 1.5), False, None, 90_000),
    ("synapse", "unetrpp"): ((64, 128, 128), 2, (3.0, 0.758, 0.758), True, "synapse", 250_000),
    ("synapse", "nnformer"): ((64, 128, 128), 2, (3.0, 0.758, 0.758), True, "synapse", 250_000),
    ("btcv", "unetr"): ((96, 96, 96), 4, (2.0, 1.5, 1.5), False, None, 120_000),
    ("btcv", "swin-unetr"): ((96, 96, 96), 4, (2.0, 1.5, 1.5), False, None, 120_000),
    ("lung", "unetr"): ((96, 96, 96), 4, (2.0, 1.5, 1.5), False, None, 250_000),
    ("lung", "unetrpp"): ((32, 192, 192), 2, (1.245, 0.785, 0.785), True, "lung", 250_000),
    ("acdc", "unetrpp"): ((16, 160, 160), 4, (6.35, 1.523, 1.523), True, "acdc", 250_000),
    ("acdc", "nnformer"): ((14, 160, 160), 4, (6.35, 1.523, 1.523), False, "acdc", 250_000),
    ("brats", "unetrpp"): ((128, 128, 128), 2, (1.0, 1.0, 1.0), True, "tumor", 250_000),
    ("brats", "nnformer"): ((128, 128, 128), 2, (1.0, 1.0, 1.0), False, "tumor", 250_000),
}


@pytest.mark.parametrize(("name", "backbone"), TABLE)
def test_published_numbers(name: str, backbone: str) -> None:
    found = paper(name, backbone)
    made = (
        found.patch.size,
        found.patch.batch,
        found.preprocess.spacing,
        found.loss.deep_supervision,
        found.variant,
        found.steps.paper,
    )
    assert made == TABLE[name, backbone]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("backbone", NNUNET)
def test_nnunet_family(name: str, backbone: str) -> None:
    found = paper(name, backbone)
    assert (found.preprocess.resampling, found.preprocess.image_order, found.preprocess.crop) == ("nnunet", 3, "nonzero")
    rules = {"acdc": "zscore", "brats": "nonzero-zscore"}
    assert found.preprocess.intensity == rules.get(name, "percentile")
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", 1e-2, 0.99, 3e-5)
    assert (optimizer.schedule, optimizer.poly_power, optimizer.clip) == ("poly", 0.9, 12.0)
    loss = found.loss
    assert (loss.squared, loss.background, loss.smooth_nr, loss.smooth_dr) == (False, False, 1e-5, 1e-5)
    assert loss.batch_dice == (name in ("synapse", "btcv", "lung")), "plans of two stages"
    assert (found.augment.family, found.patch.sampling, found.patch.foreground) == ("nnunet", "nnunet", 0.33)
    assert (found.inference.overlap, found.inference.blend, found.inference.mirror) == (0.5, "gaussian", True)
    assert found.inference.grids == ("native",)


@pytest.mark.parametrize(("backbone", "epochs"), [("unetr", 800 / 5000), *((name, 200 / 1000) for name in NNUNET)])
def test_the_pretext_is_as_long_as_the_text_has_it(backbone: str, epochs: float) -> None:
    for name in PUBLISHED:
        assert paper(name, backbone).pretext.share == pytest.approx(epochs)


@pytest.mark.parametrize("name", ["generic-ct", "generic-mr", "hippocampus", "camus", "phantom-lung"])
@pytest.mark.parametrize("backbone", NNUNET)
def test_nnunet_family_on_other_data(name: str, backbone: str) -> None:
    found = paper(name, backbone)
    assert (found.preprocess.resampling, found.preprocess.image_order) == ("nnunet", 3)
    assert (found.augment.family, found.patch.sampling, found.inference.mirror) == ("nnunet", "nnunet", True)
    assert (found.optimizer.name, found.optimizer.schedule) == ("sgd", "poly")
    tiny = load_recipe(name, size="tiny", backbone=backbone, budget="short")
    assert (tiny.augment.family, tiny.optimizer.name, tiny.inference.mirror) == ("monai-r1", "adamw", False)


@pytest.mark.parametrize("name", ["synapse", "btcv", "lung"])
@pytest.mark.parametrize("backbone", ["unetr", "swin-unetr"])
def test_monai_family(name: str, backbone: str) -> None:
    found = paper(name, backbone)
    chosen = found.preprocess
    window = (-1000.0, 400.0) if name == "lung" else (-175.0, 250.0)
    assert (chosen.resampling, chosen.intensity, chosen.window, chosen.crop) == ("monai", "window", window, True)
    patch = found.patch
    assert (patch.foreground, patch.background, patch.per_volume, patch.sampling) == (0.5, "positive", 4, "centres")
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", 1e-4, 1e-5)
    assert (optimizer.schedule, optimizer.warmup) == ("cosine", 0.01)
    assert found.loss == found.loss.model_copy(update={"squared": True, "background": True, "smooth_nr": 0, "smooth_dr": 1e-6})
    augment = found.augment
    assert (augment.family, augment.flip, augment.rot90) == ("monai-r1", 0.2, 0.2)
    assert (augment.scale_probability, augment.scale_range) == (0.1, 0.1)
    assert (augment.shift_probability, augment.shift_range) == (0.1, 0.1)
    blend, grids = ("constant", ("native", "resampled")) if backbone == "unetr" else ("gaussian", ("native",))
    assert (found.inference.blend, found.inference.grids, found.inference.mirror) == (blend, grids, False)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_windows_of_monais_family_alone_average_logits(backbone: str, tmp_path: Path) -> None:
    """At paper size, in every packaged recipe of data; a recipe that people wrote gives what it gave before."""
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\nversion = 1\nsource = "test"\n[preprocess]\nspacing = "native"\n', "utf-8")
    names = [name for name, _ in recipe_files.listing() if name != "base"]
    averages = {paper(name, backbone).inference.average for name in names}
    assert averages == {"logits" if backbone in ("unetr", "swin-unetr") else "probabilities"}
    for name, size in [(str(own), "paper"), *((name, "tiny") for name in names)]:
        found = load_recipe(name, size=size, backbone=backbone, budget="paper")
        assert found.inference.average == "probabilities"


def test_the_schedule_of_the_release_is_one_setting_away() -> None:
    found = paper("synapse", "unetr", "optimizer.schedule=plateaus", "optimizer.plateaus=50")
    assert (found.optimizer.schedule, found.optimizer.plateaus) == ("plateaus", 50)


@pytest.mark.parametrize("name", PUBLISHED)
def test_text_names_what_deviates(name: str) -> None:
    text = paper(name, "unetr").source
    assert "Deviations:" in text
    for backbone in ("UNETR", "Swin-UNETR", "UNETR++", "nnFormer", "U-Net"):
        assert backbone in text


def built(recipe: Recipe, backbone: str, channels: int = 1, classes: int = 3, size: Any = "paper") -> torch.nn.Module:
    return initbench.build(
        backbone,
        in_channels=channels,
        num_classes=classes,
        patch_size=recipe.patch.size,
        size=size,
        variant=recipe.variant,
        deep_supervision=recipe.loss.deep_supervision,
    )


@pytest.mark.full
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_network_takes_its_patch_at_paper_size(name: str, backbone: str) -> None:
    recipe = paper(name, backbone)
    if BACKBONES[backbone].dimension == 2:
        recipe = as_slices(recipe)
    model = built(recipe, backbone).to("meta")
    output = model(torch.zeros(1, 1, *recipe.patch.size, device="meta"))
    assert isinstance(output, torch.Tensor) != recipe.loss.deep_supervision
    finest = output if isinstance(output, torch.Tensor) else output[0]
    assert finest.shape == (1, 3, *recipe.patch.size)


def made_case(name: str, seed: int) -> Case:
    """A case in the manner of the data set: voxels, channels, air around."""
    shapes = {"synapse": (60, 56, 30), "acdc": (70, 66, 8), "brats": (66, 60, 58)}
    spacings = {"synapse": (2.4, 2.4, 5.0), "acdc": (1.6, 1.6, 9.0), "brats": (1.0, 1.0, 1.0)}
    shape, rng = shapes[name], np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    label = np.digitize(smooth, (0.08, 0.12)).astype(np.uint8)
    margin = tuple(slice(n // 8, n - n // 8) for n in shape)
    inside = np.zeros(shape, bool)
    inside[margin] = True
    channels = 4 if name == "brats" else 1
    outside = -1000.0 if name == "synapse" else 0.0
    image = np.stack([np.where(inside, 100 + 800 * smooth + 10 * c, outside) for c in range(channels)]).astype(np.float32)
    return Case(f"made_{seed}", image, np.where(inside, label, 0).astype(np.uint8), affine_of("LPS", spacings[name], shape))


SMALL: dict[str, Grid] = {"unetr": (16, 32, 32), "swin-unetr": (32, 32, 64), "unet": (16, 32, 32), "unet-2d": (1, 32, 32)}
SMALLEST: dict[tuple[str, str], Grid] = {
    ("synapse", "unetrpp"): (16, 64, 64),
    ("acdc", "unetrpp"): (8, 64, 64),
    ("brats", "unetrpp"): (32, 32, 32),
    ("synapse", "nnformer"): (32, 64, 64),
    ("acdc", "nnformer"): (14, 64, 64),
    ("brats", "nnformer"): (64, 64, 64),
}


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name not in UNPUBLISHED])
@pytest.mark.parametrize("name", ["synapse", "acdc", "brats"])
def test_two_steps_with_the_settings_of_the_paper(name: str, backbone: str) -> None:
    """Preprocessing, patches, augmentation, loss and optimizer as published; the network narrow and the patch small."""
    patch = SMALLEST.get((name, backbone)) or SMALL[backbone]
    take_two_steps(name, backbone, (f"patch.size={','.join(map(str, patch))}", "patch.batch=2", "patch.per_volume=1"))


def take_two_steps(name: str, backbone: str, small: tuple[str, ...]) -> None:
    recipe = paper(name, backbone, *small)
    cases = [made_case(name, seed) for seed in range(2)]
    parameters = resolve_parameters(recipe.preprocess, "CT" if name == "synapse" else "MR", map(scan, cases))
    prepared = [preprocess(case, parameters) for case in cases]
    volumes = [make_volume(item.image, item.label, CPU) for item in prepared]
    model = built(recipe, backbone, channels=len(cases[0].image), size="tiny")
    unused = structure_of(model).unused
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if name not in unused}
    task = plain_task(model, PatchSampler(volumes, recipe.patch, recipe.augment, 0), recipe.loss, CPU)
    result = fit(task, FitSettings(2, recipe.optimizer, "float32", CPU, 0, "train"))
    assert result.steps == 2
    assert all(np.isfinite(row["loss"]) for row in result.curve)
    changed = [not torch.equal(value, model.get_parameter(name)) for name, value in before.items()]
    assert np.mean(changed) > 0.8
    info = registry.find("backbone", Spec(backbone)).target.info
    assert recipe.variant is None or recipe.variant in info.variants


@pytest.mark.parametrize(
    ("backbone", "lr", "dice", "steps", "family", "ends"),
    [
        ("transunet", 1e-2, 0.5, 13_950, "transunet", (0.0, 1.0)),
        ("swin-unet", 5e-2, 0.6, 13_950, "transunet", (0.0, 1.0)),
        ("missformer", 5e-2, 0.6, 37_200, "missformer", (-1.0, 1.0)),
    ],
)
def test_networks_of_slices_on_synapse(
    backbone: str, lr: float, dice: float, steps: int, family: str, ends: tuple[float, float]
) -> None:
    """Their published numbers, and two steps with them; the network narrow and the slices small."""
    recipe = paper("synapse-8", backbone)
    assert as_slices(recipe) == recipe
    chosen, patch, loss = recipe.preprocess, recipe.patch, recipe.loss
    assert (chosen.resampling, chosen.plane, chosen.spacing, chosen.image_order) == ("slice-resize", (224, 224), "native", 3)
    assert (chosen.window, chosen.window_to, chosen.crop) == ((-125.0, 275.0), ends, False)
    assert (patch.size, patch.batch, patch.sampling, patch.foreground) == ((1, 224, 224), 24, "slices", 0)
    assert (recipe.augment.family, recipe.steps.paper) == (family, steps)
    assert (loss.dice_weight, loss.ce_weight) == (dice, 1 - dice)
    assert (loss.squared, loss.background, loss.batch_dice, loss.smooth_nr, loss.smooth_dr) == (True, True, True, 1e-5, 1e-5)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.momentum) == ("sgd", lr, 1e-4, 0.9)
    assert (optimizer.schedule, optimizer.poly_power, optimizer.warmup, optimizer.clip) == ("poly", 0.9, 0, 0)
    assert (recipe.inference.overlap, recipe.inference.back, recipe.inference.mirror) == (0, "label-nearest", False)
    assert paper("synapse", backbone).digest() == recipe.digest()
    take_two_steps("synapse", backbone, ("preprocess.plane=32,32", "patch.size=1,32,32", "patch.batch=3"))


@pytest.mark.full
@pytest.mark.parametrize("backbone", ["transunet", "swin-unet", "missformer"])
def test_networks_of_slices_at_paper_size(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on made-up volumes of Synapse, evaluated on the native grid."""
    monkeypatch.setenv("INITBENCH_CACHE", str(tmp_path / "cache"))
    layouts.synapse(tmp_path / "Synapse", ("img0001", "img0005", "img0006"), "img", "label")
    outcome = initbench.run(
        "default", backbone, "synapse-8", data_root=tmp_path, out=tmp_path / "runs", size="paper", budget="paper", device="cpu",
        assignments=("patch.batch=2", "inference.batch=2", "steps.paper=2"), save_predictions=True,
    )[0]  # fmt: skip
    assert outcome.state == "ok", outcome.message
    assert outcome.folder is not None
    predicted = sorted((outcome.folder / "predictions").iterdir())
    assert predicted
    for path in predicted:
        native = open_dataset("synapse-8", tmp_path).load(path.name.partition(".")[0]).label
        found = np.asarray(nibabel.load(path).dataobj)
        assert found.shape == native.shape
        assert found.max() <= 8


FOLDERS = {
    "camus": ("camus", "omnia-net", ("preprocess.plane=32,32", "patch.size=1,32,32")),
    "chaos": ("CHAOS", "omnia-net", ("preprocess.plane=32,32", "patch.size=1,32,32")),
    "chaos-t1": ("CHAOS", "dx-net", ("patch.size=32,32,32",)),
    "chaos-ct": ("CHAOS", "unet", ("patch.size=16,32,32",)),
    "brats": ("Task01_BrainTumour", "dx-net", ("patch.size=32,32,32",)),
}


def write_folder(name: str, root: Path) -> None:
    """Two cases of a data set in the layout of its download."""
    if name == "camus":
        layouts.camus(root, (1,), frames=4)
    elif name == "brats":
        labels = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
        layouts.prescribed(root, ("BRATS_001", "BRATS_002"), channels=("FLAIR", "T1w", "t1gd", "T2w"), labels=labels)
    else:
        layouts.chaos(root, (1, 2), part={"chaos": "T2SPIR", "chaos-t1": "T1DUAL", "chaos-ct": "CT"}[name])


@pytest.mark.parametrize("name", FOLDERS)
def test_two_steps_on_a_folder_as_it_is_downloaded(name: str, tmp_path: Path) -> None:
    """The recipes of cross-dimensional transfer; the network narrow, slices and patches small."""
    folder, backbone, small = FOLDERS[name]
    write_folder(name, tmp_path / folder)
    dataset = open_dataset(name, tmp_path)
    recipe = paper(recipe_files.default_name(name, dataset.modality), backbone, *small, "patch.batch=2")
    assert recipe.name == name
    cases = [dataset.load(case_id) for case_id in dataset.case_ids()]
    parameters = resolve_parameters(recipe.preprocess, dataset.modality, map(scan, cases), dataset.channels)
    prepared = [preprocess(case, parameters) for case in cases]
    if recipe.preprocess.plane is not None:
        assert {item.image.shape[2:] for item in prepared} == {(32, 32)}
    volumes = [make_volume(item.image, item.label, CPU) for item in prepared]
    model = built(recipe, backbone, channels=len(dataset.channels), classes=len(dataset.classes), size="tiny")
    task = plain_task(model, PatchSampler(volumes, recipe.patch, recipe.augment, 0), recipe.loss, CPU)
    result = fit(task, FitSettings(2, recipe.optimizer, "float32", CPU, 0, "train"))
    assert all(np.isfinite(row["loss"]) for row in result.curve)


def test_slices_of_camus_and_chaos_are_whole_and_all_alike() -> None:
    for name, variant in {"camus": None, "chaos": "b4", "chaos-t1": "b4", "chaos-ct": "b4"}.items():
        found = paper(name, "omnia-net")
        assert (found.preprocess.plane, found.patch.size, found.patch.batch) == ((256, 256), (1, 256, 256), 16)
        assert (found.patch.sampling, found.patch.foreground, found.plan.patch) == ("slices", 0.0, False)
        assert (found.optimizer.name, found.optimizer.lr, found.optimizer.schedule) == ("adamw", 1e-3, "cosine")
        assert found.variant == variant
