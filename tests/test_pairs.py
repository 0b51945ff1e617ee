"""Every backbone with every init, data set and variant: a step of training and a sliding window each, through the harness."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

import initbench
from initbench import registry
from initbench.checkpoints.quiet_timm import import_timm
from initbench.harness.build import build
from initbench.harness.weights import save_weights
from initbench.protocols import BackboneInfo, Grid, PatchRule
from initbench.spec import Spec
from tests.msd_factory import make_msd

INITS = registry.names("initializer")
# Spacings (D, H, W) that leave few voxels in plane and two slabs of 32 slices.
DATASETS = {"phantom-lung": "2.4,8,8", "lung": "0.1,0.5,0.5", "hippocampus": "0.1,0.5,0.5"}
BACKBONES: dict[str, BackboneInfo] = {
    name: registry.get("backbone", Spec(name)).target.info for name in registry.names("backbone")
}
# A ViT as narrow as the tiny UNETR; the others take a stem.
IMAGE_ENCODERS = {"unetr": ("vit_tiny_patch16_224", {"embed_dim": 96, "num_heads": 4, "mlp_ratio": 2})}
Row = tuple[str, str, str, str]
EVERYTHING: list[Row] = [
    (name, variant, init, dataset)
    for name, info in BACKBONES.items()
    for variant, init, dataset in product(info.variants, INITS, DATASETS)
]


def cover() -> list[Row]:
    """All pairs of backbone and init; variants and data sets take turns."""
    rows = []
    for i, (name, info) in enumerate(BACKBONES.items()):
        for j, init in enumerate(INITS):
            rows.append((name, info.variants[j % len(info.variants)], init, list(DATASETS)[(i + j) % len(DATASETS)]))
    return rows


COVER = cover()


def test_the_cover_covers() -> None:
    variants = {(name, variant) for name, info in BACKBONES.items() for variant in info.variants}
    assert {(name, variant) for name, variant, _, _ in COVER} == variants
    assert {(name, init) for name, _, init, _ in COVER} == set(product(BACKBONES, INITS))
    assert {(name, dataset) for name, _, _, dataset in COVER} == set(product(BACKBONES, DATASETS))
    assert {(init, dataset) for _, _, init, dataset in COVER} == set(product(INITS, DATASETS))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small volumes of noise under the names and ids of the two Decathlon tasks."""
    folder = tmp_path_factory.mktemp("msd")
    make_msd(folder / "Task04_Hippocampus", cases=5, classes=3)
    make_msd(folder / "Task06_Lung", cases=5, classes=2, ids=[f"lung_{n}" for n in ("001", "003", "004", "005", "006")])
    return folder


def patch_of(rule: PatchRule) -> Grid:
    """The smallest patch whose deepest level is two slices deep, so that there is an order to predict."""
    d, h, w = rule.at_least((1, 1, 1))
    return rule.at_least((2 * d, h, w))


def run(row: Row, root: Path, folder: Path) -> None:
    name, variant, init, dataset = row
    patch = patch_of(BACKBONES[name].patches[variant])
    if init == "checkpoint":
        path = folder / "weights.safetensors"
        donor = build(name, in_channels=1, num_classes=2, patch_size=patch, size="tiny", variant=variant, seed=7)
        save_weights(donor, path, {"variant": variant})
        init = f"checkpoint(path={str(path)!r})"
    if init == "inflate-2d":
        source, options = IMAGE_ENCODERS.get(name, ("resnet18", {}))
        torch.save(import_timm().create_model(source, pretrained=False, **options).state_dict(), folder / "weights.pth")
        init = f"inflate-2d(source={source}, path={str(folder / 'weights.pth')!r})"
    if variant == "acdc" and name == "nnformer" and init in ("order", "lwi"):
        init = f"{init}(taps=(1, 2))"  # its deeper levels are 7 and 3 slices deep
    small = (
        f"patch.size={','.join(map(str, patch))}",
        f"preprocess.spacing={DATASETS[dataset]}",
        "patch.batch=1",
        "pretext.batch=1",
        "pretext.mask_patch=2",
        "pretext.share=0.5",
        "steps.smoke=2",
        "inference.overlap=0",
    )
    outcome = initbench.run(
        init,
        f"{name}(variant={variant})",
        dataset,
        data_root=root,
        out=folder / "runs",
        size="tiny",
        budget="smoke",
        device="cpu",
        assignments=small,
    )[0]
    if init == "zero-residual" and name == "unet":  # it has no residual branches
        assert (outcome.state, outcome.folder) == ("refused", None)
        assert "unet declares no exits of residual branches" in outcome.message
        return
    assert outcome.state == "ok", outcome.message
    assert outcome.dice is not None


@pytest.mark.parametrize("row", COVER, ids="-".join)
def test_a_step_and_a_sliding_window(row: Row, root: Path, tmp_path: Path) -> None:
    run(row, root, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("row", [row for row in EVERYTHING if row not in COVER], ids="-".join)
def test_the_whole_cross(row: Row, root: Path, tmp_path: Path) -> None:
    run(row, root, tmp_path)
