"""Speed of what a run spends its time on: cutting batches, a training step, inference, the leaderboard. ``make bench``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import initbench
from initbench.evaluation.inference import predict_probabilities
from initbench.recipes.load import load_recipe
from initbench.recipes.settings import Recipe
from initbench.sampling.volumes import PatchSampler, UnlabelledSampler, make_volume
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
        loss.backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)


def test_sliding_window(benchmark: Any, settings: Recipe) -> None:
    torch.set_num_threads(1)
    model = initbench.build("unetr", in_channels=1, num_classes=2, patch_size=(48, 64, 64), size="tiny").eval()
    image = torch.randn(1, 80, 100, 100)
    benchmark.pedantic(predict_probabilities, (model, image, (48, 64, 64), settings.inference, "bf16"), rounds=2, warmup_rounds=1)
