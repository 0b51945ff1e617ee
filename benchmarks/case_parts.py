"""A case of the evaluation outside the forward pass, by part, beside MONAI. A part of `benchmarks.ratios`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.turns import Row, Setting, Target, in_turns, row_of
from initbench.datasets.geometry import bind_axes
from initbench.evaluation.distances import distances_per_class
from initbench.evaluation.inference import predict_probabilities, to_native
from initbench.evaluation.metrics import count
from initbench.preprocessing.grids import HalfPixelGrid
from initbench.preprocessing.preprocess import Placement
from initbench.protocols import Grid
from initbench.recipes.load import load_recipe

CLASSES = 3
SPACING_MM = (0.8, 0.8, 2.0)  # of the native grid (X, Y, Z)
TOLERANCE_MM = 2.0
THICKER = 1.25  # voxels of the network's grid in the plane are this much larger than native ones


class Ready(nn.Module):
    """A network whose answer is there already, so that what is measured lies outside of it."""

    def __init__(self, classes: int, patch: Grid, windows: int, device: torch.device) -> None:
        super().__init__()
        self.answer = torch.randn(windows, classes, *patch, device=device)

    def forward(self, images: Tensor) -> Tensor:
        return self.answer[: len(images)].clone()


def two_organs(shape: Grid, shift: int = 0) -> NDArray[np.uint8]:
    """A label map: an ellipsoid like a liver, and one like a lesion beside it.

    Args:
        shape: of the volume, in voxels.
        shift: voxels along an axis by which both are moved.
    """
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    across, along, deep = shape
    label = np.zeros(shape, np.uint8)
    liver = ((x - 0.35 * across - shift) / (0.21 * across)) ** 2 + ((y - 0.47 * along) / (0.18 * along)) ** 2
    label[liver + ((z - 0.5 * deep) / (0.3 * deep)) ** 2 <= 1] = 1
    lesion = ((x - 0.7 * across) / (0.05 * across)) ** 2 + ((y - 0.47 * along - shift) / (0.05 * along)) ** 2
    label[lesion + ((z - 0.5 * deep) / (0.08 * deep)) ** 2 <= 1] = 2
    return label


@dataclass(frozen=True)
class Case:
    """What both sides start from.

    Attributes:
        image: ``(1, D, H, W)`` on the network's grid.
        patch: of a window.
        probabilities: ``(K, D, H, W)`` on the network's grid.
        placement: of that grid.
        affine: of the native grid.
        reference: label ``(X, Y, Z)``. prediction: a near one.
    """

    image: Tensor
    patch: Grid
    probabilities: Tensor
    placement: Placement
    affine: NDArray[np.float64]
    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def make_case(setting: Setting) -> Case:
    """A case of 320 x 320 x 112 native voxels, its two classes as `two_organs` draws them."""
    native = setting.grid(320, 320, 112)
    affine = np.diag([*SPACING_MM, 1.0])
    shape: Grid = (native[2], round(native[1] / THICKER), round(native[0] / THICKER))
    reference = two_organs(native)
    coarse = torch.from_numpy(two_organs(native, 3).transpose(2, 1, 0).copy())[None, None].float()
    found = nn.functional.interpolate(coarse, shape)[0, 0].long()
    probabilities = nn.functional.one_hot(found, CLASSES).permute(3, 0, 1, 2).float().contiguous()
    x, y, z = native
    placement = Placement(native, bind_axes(affine, "z"), ((0, z), (0, y), (0, x)), HalfPixelGrid((z, y, x), shape))
    return Case(
        torch.randn(1, *shape), setting.grid(48, 64, 64), probabilities, placement, affine, reference, two_organs(native, 4)
    )


def compare_case(setting: Setting) -> Iterator[Row]:
    """(d) Windows, the way back to the native grid, Dice, and distances, each against MONAI's, and all of them together."""
    case = make_case(setting)
    pairs = {
        "windows, averaged logits": _windows(case),
        "back to the native grid": _way_back(case),
        "Dice": _dice(case),
        "HD95 and surface Dice": _distances(case),
    }
    targets: dict[str, Target] = {}
    for name, (our_target, their_target) in pairs.items():
        targets |= {f"{name}, ours": our_target, f"{name}, theirs": their_target}
    seconds = in_turns(targets, Setting(setting.device, setting.turns, 1, setting.scale))
    where = f"{'×'.join(map(str, case.placement.native_shape))} voxels, {CLASSES} classes"
    own, others = np.zeros(setting.turns), np.zeros(setting.turns)
    for name in pairs:
        ours, theirs = seconds[f"{name}, ours"], seconds[f"{name}, theirs"]
        yield row_of("case", f"{name}, {where}", "MONAI", ours, theirs)
        own, others = own + ours, others + theirs
    yield row_of("case", f"all of it, {where}", "MONAI", own.tolist(), others.tolist())


def _windows(case: Case) -> tuple[Target, Target]:
    from monai.inferers import sliding_window_inference

    recipe = load_recipe("generic-ct", size="tiny", backbone="unetr", budget="smoke")
    chosen = recipe.inference.model_copy(update={"average": "logits"})
    network = Ready(CLASSES, case.patch, chosen.batch, case.image.device).eval()

    def ours(_: int) -> None:
        predict_probabilities(network, case.image, case.patch, chosen, "float32")

    def theirs(_: int) -> None:
        with torch.inference_mode():
            found = sliding_window_inference(case.image[None], case.patch, chosen.batch, network, overlap=chosen.overlap)
            found[0].softmax(0)

    return ours, theirs


def _way_back(case: Case) -> tuple[Target, Target]:
    """MONAI's `Invertd` of `Spacingd` does what `SpatialResample` does here, and `AsDiscrete` takes the largest."""
    from monai.data import MetaTensor
    from monai.transforms import AsDiscrete, SpatialResample

    x, y, z = case.placement.native_shape
    zoomed = np.diag([SPACING_MM[0] * THICKER, SPACING_MM[1] * THICKER, SPACING_MM[2], 1.0])
    seen = MetaTensor(case.probabilities.permute(0, 3, 2, 1).contiguous(), affine=torch.from_numpy(zoomed))
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=torch.float32)
    largest = AsDiscrete(argmax=True)

    def ours(_: int) -> None:
        to_native(case.probabilities, case.placement)

    def theirs(_: int) -> None:
        largest(resample(seen, torch.from_numpy(case.affine), spatial_size=(x, y, z)))

    return ours, theirs


def _dice(case: Case) -> tuple[Target, Target]:
    from monai.metrics import DiceMetric
    from monai.transforms import AsDiscrete

    metric = DiceMetric(include_background=False)
    one_hot = AsDiscrete(to_onehot=CLASSES)

    def ours(_: int) -> None:
        count(case.reference, case.prediction, CLASSES)

    def theirs(_: int) -> None:
        labels = [torch.from_numpy(array)[None] for array in (case.prediction, case.reference)]
        found, reference = (one_hot(label)[None] for label in labels)
        metric(found, reference)
        metric.aggregate()
        metric.reset()

    return ours, theirs


def _distances(case: Case) -> tuple[Target, Target]:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    numbers = np.arange(CLASSES)[:, None, None, None]
    masks: list[Any] = [torch.from_numpy(label == numbers)[None].float() for label in (case.prediction, case.reference)]
    tolerances = [TOLERANCE_MM] * (CLASSES - 1)

    def ours(_: int) -> None:
        distances_per_class(case.reference, case.prediction, case.affine, CLASSES, TOLERANCE_MM)

    def theirs(_: int) -> None:
        compute_hausdorff_distance(*masks, percentile=95, spacing=list(SPACING_MM))
        compute_surface_dice(*masks, tolerances, spacing=list(SPACING_MM))

    return ours, theirs
