"""Every backbone with every init, data set and variant: a step of training and a sliding window each, through the harness."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from initbench import registry
from initbench.checkpoints.quiet_timm import import_timm
from initbench.harness.build import build
from initbench.harness.weights import save_weights
from initbench.protocols import BackboneInfo, Grid, PatchRule
from initbench.spec import Spec
from tests.msd_factory import make_msd
from tests.runs_factory import outcomes_of

INITS = registry.names("initializer")
# Spacings (D, H, W) that leave few voxels in plane and two slabs of 32 slices.
DATASETS = {"phantom-lung": "4.4,8,8", "lung": "0.1,0.5,0.5", "hippocampus": "0.1,0.5,0.5"}
BACKBONES: dict[str, BackboneInfo] = {
    name: registry.find("backbone", Spec(name)).target.info for name in registry.names("backbone")
}
# A ViT as narrow as the tiny UNETR, and the encoders that networks contain; the others take a stem.
IMAGE_ENCODERS = {
    "unetr": ("vit_tiny_patch16_224", {"embed_dim": 96, "num_heads": 4, "mlp_ratio": 2}),
    "lite0": ("tf_efficientnet_lite0", {}),
    "b4": ("efficientnet_b4", {}),
}
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
            turn = i + 2 * j  # i + j is the same all over the sample, which has every data set, too
            rows.append((name, info.variants[j % len(info.variants)], init, list(DATASETS)[turn % len(DATASETS)]))
    return rows


COVER = cover()


def sample() -> list[Row]:
    """One backbone for every init, in turns: the quick suite has no time for all of them."""
    inits, backbones = list(INITS), list(BACKBONES)
    return [row for row in COVER if (inits.index(row[2]) + backbones.index(row[0])) % len(backbones) == 0]


SAMPLE = sample()


def test_the_cover_covers() -> None:
    variants = {(name, variant) for name, info in BACKBONES.items() for variant in info.variants}
    assert {(name, variant) for name, variant, _, _ in COVER} == variants
    assert {(name, init) for name, _, init, _ in COVER} == set(product(BACKBONES, INITS))
    assert {(name, dataset) for name, _, _, dataset in COVER} == set(product(BACKBONES, DATASETS))
    assert {(init, dataset) for _, _, init, dataset in COVER} == set(product(INITS, DATASETS))
    assert {init for _, _, init, _ in SAMPLE} == set(INITS)
    assert {name for name, _, _, _ in SAMPLE} == set(BACKBONES)
    assert {dataset for _, _, _, dataset in SAMPLE} == set(DATASETS)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small volumes of noise under the names and ids of the two Decathlon tasks."""
    folder = tmp_path_factory.mktemp("msd")
    make_msd(folder / "Task04_Hippocampus", cases=5, classes=3)
    make_msd(folder / "Task06_Lung", cases=5, classes=2, ids=[f"lung_{n}" for n in ("001", "003", "004", "005", "006")])
    return folder


def patch_of(rule: PatchRule, init: str) -> Grid:
    """A small patch whose deepest level is two slices deep, so that there is an order to predict, or two columns wide."""
    d, h, w = rule.at_least((1, 1, 1))
    wide = init == "lwi-as-released" or rule.depth == 1  # a batch norm needs two pixels of the one slice
    return rule.at_least((2 * d, h, 2 * w if wide else w))


def weights_of(name: str, variant: str, patch: Grid) -> nn.Module:
    return build(name, in_channels=1, num_classes=2, patch_size=patch, size="tiny", variant=variant, seed=7)


def asked(row: Row, patch: Grid, folder: Path) -> str:
    """The init with what it needs: a file, an init inside, a way to read the release for other networks."""
    name, variant, init, _ = row
    if init == "checkpoint":
        save_weights(weights_of(name, variant, patch), folder / "weights.safetensors", {"variant": variant})
        return f"checkpoint(path={str(folder / 'weights.safetensors')!r})"
    path = str(folder / "weights.pt")
    if init == "swin-ssl":
        state = weights_of(name, variant, patch).state_dict()
        keys = [key for key in state if key.startswith("swinViT.")]
        encoder = {key.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"): state[key] for key in keys}
        torch.save({"state_dict": encoder or dict(state)}, path)
        return f"swin-ssl(path={path!r})"
    if init in ("inflate-2d", "images"):
        other = ("resnet18" if init == "inflate-2d" else "efficientnet_b0", {})
        source, options = IMAGE_ENCODERS.get(name, IMAGE_ENCODERS.get(variant, other))
        torch.save(import_timm().create_model(source, pretrained=False, **options).state_dict(), path)
        return f"{init}(source={source}, path={path!r})"
    if init == "lwi-as-released":
        return init if name in ("unetr", "unetrpp") else f"{init}(pool=width, schedule=plateaus)"
    return {"shuffled": "shuffled(order)", "transfer": "transfer(lwi, part=encoder)"}.get(init, init)


def refusal_of_images(name: str, variant: str) -> str | None:
    """What is said where a network has no encoder of images, one of volumes, or one that is narrower at size tiny."""
    if name == "dx-net":
        return "the encoder of dx-net is of volumes"
    if name == "missformer":
        return "missformer starts from random weights"
    if name in ("transunet", "swin-unet"):
        return f"{name} contains .*: take weights of that"
    if name == "ds-net" or (name == "omnia-net" and variant != "lite0"):
        return f"and {name} has .* take --size paper"
    return None if name == "omnia-net" else f"{name} declares no encoder of images"


def refusal(row: Row) -> str | None:
    """What is said where an init has nothing to do on a network."""
    name, variant, init, _ = row
    if init == "zero-residual" and name in ("unet", "unet-2d"):
        return f"{name} declares no exits of residual branches"
    if BACKBONES[name].dimension == 2:
        if init in ("order", "lwi", "lwi-as-released", "shuffled", "transfer"):
            return f"{name} sees one slice at a time"
        if init == "inflate-2d":
            return f"{name} does not declare where weights of images belong|the kernels of {name} are 2D"
    if init == "images":
        return refusal_of_images(name, variant)
    if init == "swin-ssl" and variant != "legacy-merge-xyz":
        return (
            "variant=legacy-merge-xyz"
            if name == "swin-unetr"
            else "swin-ssl|less than the minimum|another variant|does not say|trained on"
        )
    if init == "lwi-as-released" and (name, variant) == ("nnformer", "acdc"):
        return "pool=width: .* does not divide into 7 slabs"
    if init == "lwi-as-released" and name == "ds-net":
        return "pool=width: .* does not divide into 128 slabs"
    return None


def run(row: Row, root: Path, folder: Path) -> None:
    name, variant, init, dataset = row
    patch = patch_of(BACKBONES[name].patches[variant], init)
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
    outcome = outcomes_of(
        asked(row, patch, folder),
        f"{name}(variant={variant})",
        dataset,
        data_root=root,
        out=folder / "runs",
        size="tiny",
        budget="smoke",
        device="cpu",
        assignments=small,
        train_cases=[3],  # the phantom has twenty, each of which takes a second to draw
    )[0]
    expected = refusal(row)
    if expected is not None:
        assert (outcome.state, outcome.folder) == ("refused", None), outcome.message
        assert re.search(expected, outcome.message), outcome.message
        return
    assert outcome.state == "ok", outcome.message
    assert outcome.dice is not None


@pytest.mark.parametrize("row", SAMPLE, ids="-".join)
def test_a_step_and_a_sliding_window(row: Row, root: Path, tmp_path: Path) -> None:
    run(row, root, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("row", [row for row in EVERYTHING if row not in SAMPLE], ids="-".join)
def test_the_whole_cross(row: Row, root: Path, tmp_path: Path) -> None:
    run(row, root, tmp_path)
