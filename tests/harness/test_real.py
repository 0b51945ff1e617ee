"""Real volumes: every init and backbone on CT with a tumour label, order prediction on anatomy, Dice on hippocampus."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import initbench
from initbench import registry
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.errors import UsageError
from initbench.harness.execute import Outcome
from initbench.preprocessing.prepare import prepare
from initbench.protocols import Grid
from initbench.recipes.load import load_recipe
from tests.inits import runnable
from tests.shared_data import shared

INITS = runnable()
BACKBONES = registry.names("backbone")
# Every third init, and with that every backbone, in the quick run: tests/backbones/test_pairs.py has all pairs on noise.
# The rest of the cross, and other variants, are in the full one.
CROSS_DIMENSIONAL = ("unet-2d", "omnia-net", "transunet", "swin-unet", "missformer", "dx-net", "ds-net")
"""Networks of slices, and of both kinds: the full run has two inits of each."""
OF_VOLUMES = [name for name in BACKBONES if name not in CROSS_DIMENSIONAL]
PAIRS = [(init, OF_VOLUMES[i % len(OF_VOLUMES)]) for i, init in enumerate(INITS)][::3]
WHOLE = [*product(INITS, OF_VOLUMES), *product(("default", "mae"), CROSS_DIMENSIONAL)]
VARIANTS = [("lwi", "unetrpp(variant=synapse)"), ("lwi", "unetr(variant=conv)"), ("mae", "swin-unetr(variant=legacy-merge)")]
TRAIN, REPORTED = ("004", "005", "006", "009"), ("001", "003")


@pytest.fixture(scope="session")
def lung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named and laid out as MSD Task06_Lung, holding real CT with a tumour label under ids of the published split."""
    source = shared("data", "STS_CT")
    root = tmp_path_factory.mktemp("msd") / "Task06_Lung"
    table = json.loads((source / "dataset.json").read_text())
    entries = []
    smallest = sorted(table["training"], key=lambda entry: (source / entry["image"]).stat().st_size)
    for number, entry in zip((*TRAIN, *REPORTED), smallest, strict=False):
        new = {kind: f"{kind}sTr/lung_{number}.nii.gz" for kind in ("image", "label")}
        for kind, path in new.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(source / entry[kind])
        entries.append(new)
    (root / "dataset.json").write_text(json.dumps({**table, "training": entries, "labels": {"0": "background", "1": "cancer"}}))
    return root.parent


def run_lung(root: Path, out: Path, init: str, backbone: str, *assignments: str) -> Outcome:
    small = ("steps.smoke=7", "pretext.share=0.4", "patch.batch=1", "pretext.batch=1", *assignments)
    return initbench.run(
        init, backbone, "lung", data_root=root, out=out, size="tiny", budget="smoke", device="cpu", assignments=small
    )[0]


def check(outcome: Outcome) -> None:
    assert outcome.state == "ok", outcome.message
    record = json.loads((outcome.folder / "record.json").read_text()) if outcome.folder else {}
    assert record["resolved"]["split"] == "unetrpp-50/13 (6 of 63 cases)"
    assert record["resolved"]["reported_cases"] == [f"lung_{number}" for number in REPORTED]
    stages = {row["stage"] for row in read_curve(outcome)}
    assert stages == ({"pretext", "train"} if record["resolved"]["learned"] else {"train"})


def read_curve(outcome: Outcome) -> list[dict[str, Any]]:
    import pandas as pd

    assert outcome.folder is not None
    rows: list[dict[str, Any]] = pd.read_csv(outcome.folder / "curve.csv").to_dict("records")
    return rows


def test_the_quick_pairs_have_every_backbone() -> None:
    assert {backbone for _, backbone in PAIRS} == set(OF_VOLUMES)
    assert {backbone for _, backbone in WHOLE} == set(BACKBONES)


@pytest.mark.parametrize(("init", "backbone"), PAIRS)
def test_lung_layout_with_every_backbone(lung: Path, tmp_path: Path, init: str, backbone: str) -> None:
    check(run_lung(lung, tmp_path, init, backbone))


@pytest.mark.full
@pytest.mark.parametrize(("init", "backbone"), [pair for pair in WHOLE if pair not in PAIRS] + VARIANTS)
def test_lung_layout_whole_cross(lung: Path, tmp_path: Path, init: str, backbone: str) -> None:
    check(run_lung(lung, tmp_path, init, backbone))


def test_swin_at_depth_32_leaves_one_slab_on_its_last_level(lung: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing to order.*64"):
        run_lung(lung, tmp_path, "order(taps=(1, 2, 3, 4, 5))", "swin-unetr", "patch.size=32,64,64")
    outcome = run_lung(lung, tmp_path, "order", "swin-unetr", "patch.size=32,64,64")
    check(outcome)
    assert "left out, as all levels together leave no two slabs" in outcome.message


@pytest.mark.full
def test_swin_at_depth_32_still_takes_masking(lung: Path, tmp_path: Path) -> None:
    check(run_lung(lung, tmp_path, "mae", "swin-unetr", "patch.size=32,64,64"))


class Losses:
    """Keeps what the loop reports."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def start(self, stage: str, total: int) -> None:
        self.values.clear()

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        self.values.append(info["loss"])


@dataclass(frozen=True)
class Ordering:
    """How order prediction is asked of a tiny network, and the share of chance that its cross-entropy stays under."""

    patch: Grid
    steps: int
    share: float


# Two slabs need 64 slices where the bottleneck has one voxel for 32. nnFormer learns late, as it does elsewhere.
ORDERINGS = {
    "unetr": Ordering((48, 64, 64), 800, 0.3),
    "unetrpp": Ordering((48, 64, 64), 800, 0.3),
    "nnformer": Ordering((48, 64, 64), 800, 0.8),
    "swin-unetr": Ordering((64, 64, 64), 400, 0.6),
}


def order_cross_entropy(backbone: str, volumes: list[np.ndarray], steps: int) -> tuple[float, float]:
    """Mean order cross-entropy per level over the last fifth of a pretext, and ln B."""
    patch = ORDERINGS[backbone].patch
    volumes = [volume for volume in volumes if volume.shape[1] > patch[0]]
    assert len(volumes) > 40
    model = initbench.build(backbone, in_channels=1, num_classes=6, patch_size=patch, size="tiny", seed=0)
    losses = Losses()
    tiny = load_recipe("generic-ct", size="tiny", backbone=backbone, budget="smoke").pretext.optimizer
    assignments = [f"pretext.optimizer.{key}={value}" for key, value in tiny.model_dump().items()]
    initbench.initialize(
        model, "order", data=volumes, steps=steps, device="cpu", assignments=assignments, progress=losses, seed=0
    )
    levels = model.structure.levels
    slabs = math.gcd(patch[0], *(level.grid[0] for level in levels))
    last = losses.values[-len(losses.values) // 5 :]
    return float(np.mean(last)) / len(levels), math.log(slabs)


@pytest.fixture(scope="session")
def head_and_neck() -> list[np.ndarray]:
    """Preprocessed training volumes of OpenKBP_HN5."""
    dataset = open_dataset(str(shared("data", "OpenKBP_HN5")))
    settings = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke").preprocess
    prepared = prepare(dataset, splits.resolve_split(dataset, None), settings)
    return [np.array(prepared.case(case_id).image) for case_id in prepared.split.train]


@pytest.mark.full
@pytest.mark.parametrize("backbone", ORDERINGS)
def test_order_prediction_learns_anatomy(head_and_neck: list[np.ndarray], backbone: str) -> None:
    learned, chance = order_cross_entropy(backbone, head_and_neck, ORDERINGS[backbone].steps)
    assert learned < ORDERINGS[backbone].share * chance


@pytest.mark.full
@pytest.mark.parametrize("backbone", ORDERINGS)
def test_order_prediction_learns_nothing_from_constant_content(head_and_neck: list[np.ndarray], backbone: str) -> None:
    flat = [np.full_like(volume, 0.5) for volume in head_and_neck]
    learned, chance = order_cross_entropy(backbone, flat, ORDERINGS[backbone].steps // 3)
    assert learned > 0.9 * chance


@pytest.fixture(scope="session")
def hippocampi() -> list[np.ndarray]:
    """Preprocessed training volumes of Task04_Hippocampus."""
    dataset = open_dataset("hippocampus", shared("data", "Task04_Hippocampus").parent)
    settings = load_recipe("hippocampus", size="tiny", backbone="unetr", budget="smoke").preprocess
    prepared = prepare(dataset, splits.resolve_split(dataset, None), settings)
    return [np.array(prepared.case(case_id).image) for case_id in prepared.split.train[:60]]


@pytest.mark.full
@pytest.mark.parametrize(
    ("backbone", "init"), [*((name, "mae") for name in ("unetr", "unetrpp", "swin-unetr", "nnformer")), ("unetr", "tube")]
)
def test_reconstruction_error_falls(hippocampi: list[np.ndarray], backbone: str, init: str) -> None:
    settings = load_recipe("hippocampus", size="tiny", backbone=backbone, budget="smoke")
    model = initbench.build(backbone, in_channels=1, num_classes=3, patch_size=settings.patch.size, size="tiny", seed=0)
    losses = Losses()
    tiny = settings.pretext.optimizer
    assignments = [f"pretext.optimizer.{key}={value}" for key, value in tiny.model_dump().items()]
    initbench.initialize(
        model,
        f"{init}(mask_patch={settings.pretext.mask_patch})",
        data=hippocampi,
        steps=100,
        device="cpu",
        assignments=[*assignments, "pretext.batch=2"],
        progress=losses,
    )
    first, last = np.mean(losses.values[:2]), np.mean(losses.values[-2:])
    assert last < 0.75 * first


@pytest.mark.full
@pytest.mark.parametrize("backbone", [*OF_VOLUMES, "unet-2d"])
def test_hippocampus_smoke_reaches_a_useful_dice(tmp_path: Path, backbone: str) -> None:
    shared("data", "Task04_Hippocampus")
    # After the 100 steps of its budget one U-Net of three seeds has found one class alone; all have both soon after.
    longer = ["steps.smoke=150"] if backbone == "unet" else []
    outcome = initbench.run(
        "default", backbone, "hippocampus", data_root=shared("data"), out=tmp_path, size="tiny", budget="smoke", device="cpu",
        assignments=longer,
    )[0]  # fmt: skip
    assert outcome.state == "ok"
    assert outcome.dice is not None
    assert outcome.dice > 0.4
