"""Speed of what a run spends its time on: cutting batches, a training step, inference, the leaderboard. ``make bench``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import initbench
from initbench.evaluation.distances import distances_per_class
from initbench.evaluation.inference import predict_probabilities
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.samplers import PatchSampler, UnlabelledSampler
from initbench.sampling.volumes import make_volume
from initbench.training.losses import supervised_loss
from initbench.training.precision import autocast

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings() -> Recipe:
    return load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")


@pytest.fixture(scope="module")
def volumes() -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [(80, 120, 120)] * 8
    return [
        make_volume(rng.normal(size=(1, *s)).astype(np.float32), (rng.random(s) < 0.01).astype(np.uint8), CPU) for s in shapes
    ]


def test_supervised_batch(benchmark: Callable[..., Any], settings: Recipe, volumes: list[Any]) -> None:
    sampler = PatchSampler(volumes, settings.patch, settings.augment, 0)
    benchmark(sampler.batch, 3)


@pytest.mark.parametrize("patch", [(48, 64, 48), (96, 96, 96)])
@pytest.mark.parametrize("family", ["monai-r1", "nnunet"])
def test_augmentation(benchmark: Any, settings: Recipe, family: str, patch: tuple[int, int, int]) -> None:
    """Sixteen batches of two patches: what chance does to one batch is evened out. A patch costs a thirty-second of it."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    volume = make_volume(rng.normal(size=(1, 180, 180, 180)).astype(np.float32), None, CPU)
    chosen = settings.augment.model_copy(update={"family": family})
    sampler = PatchSampler([volume], settings.patch.model_copy(update={"size": patch, "batch": 2}), chosen, 0)
    benchmark.pedantic(lambda: [sampler.batch(step) for step in range(16)], rounds=2, warmup_rounds=1)


def test_unlabelled_batch(benchmark: Callable[..., Any], settings: Recipe, volumes: list[Any]) -> None:
    sampler = UnlabelledSampler(volumes, settings.patch.size, settings.pretext.batch, settings.augment, 0)
    benchmark(sampler.batch, 3, 16)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("backbone", ["unetr", "unetrpp", "swin-unetr"])
def test_training_step(benchmark: Any, settings: Recipe, backbone: str, precision: Any) -> None:
    torch.set_num_threads(1)
    patch = (64, 64, 64)
    model = initbench.build(backbone, in_channels=1, num_classes=2, patch_size=patch, size="tiny")
    image, label = torch.randn(1, 1, *patch), torch.randint(0, 2, (1, *patch))

    def step() -> None:
        with autocast(CPU, precision):
            loss, _ = supervised_loss(model(image), label, settings.loss)
        loss.backward()  # type: ignore[no-untyped-call]

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)


def test_sliding_window(benchmark: Any, settings: Recipe) -> None:
    torch.set_num_threads(1)
    model = initbench.build("unetr", in_channels=1, num_classes=2, patch_size=(48, 64, 64), size="tiny").eval()
    image = torch.randn(1, 80, 100, 100)
    benchmark.pedantic(predict_probabilities, (model, image, (48, 64, 64), settings.inference, "bf16"), rounds=2, warmup_rounds=1)


def two_organs(shift: int) -> Any:
    """A label map of the size of a CT: an ellipsoid like a liver, and one like a lesion beside it, moved by some voxels."""
    x, y, z = np.ogrid[:512, :512, :200]
    label = np.zeros((512, 512, 200), np.uint8)
    label[((x - 180 - shift) / 110) ** 2 + ((y - 240) / 90) ** 2 + ((z - 100) / 60) ** 2 <= 1] = 1
    label[((x - 350) / 25) ** 2 + ((y - 240 - shift) / 25) ** 2 + ((z - 100) / 15) ** 2 <= 1] = 2
    return label


@pytest.mark.parametrize("prediction", ["near", "noise"])
def test_distances(benchmark: Any, prediction: str) -> None:
    """HD95 and surface Dice of two classes, on one core. In noise every twentieth voxel is of a class."""
    torch.set_num_threads(1)
    reference = two_organs(0)
    found = two_organs(4)
    if prediction == "noise":
        found = (np.random.default_rng(0).random(reference.shape) < 0.05).astype(np.uint8)
    affine = np.diag([0.8, 0.8, 2.0, 1.0])
    distances_per_class(reference[::16, ::16, ::16], found[::16, ::16, ::16], affine, 3, 2.0)  # the first call imports MONAI
    benchmark.pedantic(distances_per_class, (reference, found, affine, 3, 2.0), rounds=1)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # of MONAI, about a call of its own
def test_distances_by_monai(benchmark: Any) -> None:
    """What MONAI's own two functions take for the same near prediction, on whole masks."""
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    torch.set_num_threads(1)
    one_hot = [
        torch.from_numpy(np.stack([label == number for number in range(3)])[None]).float()
        for label in (two_organs(4), two_organs(0))
    ]
    spacing = [0.8, 0.8, 2.0]

    def both() -> None:
        compute_hausdorff_distance(*one_hot, percentile=95, spacing=spacing)
        compute_surface_dice(*one_hot, [2.0, 2.0], spacing=spacing)

    benchmark.pedantic(both, rounds=1)
