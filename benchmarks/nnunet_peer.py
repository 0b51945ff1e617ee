"""nnU-Net's own augmentation, from batchgeneratorsv2, with the probabilities of its trainer. A peer for `benchmarks.ratios`."""

from __future__ import annotations

from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from initbench.protocols import Grid

DEGREES_30 = (-30 / 360 * 2 * np.pi, 30 / 360 * 2 * np.pi)


def make_pipeline(size: Grid) -> Any:
    """The transforms of nnU-Net v2's trainer for cubes, on patches that are cut larger than `size`."""
    spatial = SpatialTransform(
        size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=0.2,
        rotation=DEGREES_30,
        p_scaling=0.2,
        scaling=(0.7, 1.4),
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        mode_seg="nearest",
    )
    contrast = {"preserve_range": True, "synchronize_channels": False, "p_per_channel": 1}
    low = {"scale": (0.5, 1), "synchronize_channels": False, "synchronize_axes": True, "ignore_axes": None}
    gamma = {"gamma": BGContrast((0.7, 1.5)), "synchronize_channels": False, "p_per_channel": 1, "p_retain_stats": 1}
    chosen: list[tuple[Any, float]] = [
        (GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True), 0.1),
        (GaussianBlurTransform(blur_sigma=(0.5, 1.0), synchronize_channels=False, p_per_channel=0.5), 0.2),
        (MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), synchronize_channels=False, p_per_channel=1), 0.15),
        (ContrastTransform(contrast_range=BGContrast((0.75, 1.25)), **contrast), 0.15),
        (SimulateLowResolutionTransform(allowed_channels=None, p_per_channel=0.5, **low), 0.25),
        (GammaTransform(p_invert_image=1, **gamma), 0.1),
        (GammaTransform(p_invert_image=0, **gamma), 0.3),
    ]
    random = [RandomTransform(transform, apply_probability=probability) for transform, probability in chosen]
    return ComposeTransforms([spatial, *random, MirrorTransform(allowed_axes=(0, 1, 2))])
