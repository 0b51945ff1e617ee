"""The settings of a run: what a recipe may hold, with its bounds, and which of them enter digests.

`initbench.recipes.load` fills them from TOML files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from initbench import digest

Fraction = Field(ge=0.0, le=1.0)
# Bounds far beyond any use: a slip of the hand or a hostile file is refused here, not by an allocation in the middle of a run.
MAX_PATCH = 2**27  # 512 voxels cubed
Voxels = Annotated[int, Field(ge=1, le=4096)]
Count = Annotated[int, Field(ge=1, le=100_000)]
StepCount = Annotated[int, Field(ge=2, le=1_000_000_000)]
Millimetres = Annotated[float, Field(ge=0.001, le=1000.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
UpTo100 = Annotated[float, Field(ge=0.0, le=100.0)]
Factor = Annotated[float, Field(ge=0.1, le=10.0)]
Intensity = Annotated[float, Field(ge=-1e9, le=1e9)]
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Resampling = Literal["half-pixel", "monai", "nnunet", "slice-resize"]
N = TypeVar("N", bound=float)


def _rises(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] < pair[1]:
        raise ValueError("the first number must be below the second")
    return pair


def _fits(patch: tuple[int, int, int]) -> tuple[int, int, int]:
    if math.prod(patch) > MAX_PATCH:
        raise ValueError(f"more than {MAX_PATCH:,} voxels")
    return patch


def _listed(value: Any) -> Any:
    """Splits ``a,b`` of an assignment into a list."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")]
    return value


def _several(value: Any) -> Any:
    """Turns one number of an assignment into a list of one."""
    if isinstance(value, int):
        return [value]
    return value


def _native(grids: tuple[str, ...]) -> tuple[str, ...]:
    if grids not in (("native",), ("native", "resampled")):
        raise ValueError("write native, or native,resampled: the score is always of the native grid")
    return grids


Rising = Annotated[tuple[N, N], AfterValidator(_rises)]


class _Later:
    """Marks a setting that came after results existed: left at its default, it is in no digest, so theirs stay as they were."""


LATER = _Later()


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def identity(self, *, without: Iterable[str] = ()) -> dict[str, Any]:
        """Returns plain values for digests: all settings except those `without`, and except later ones at their default."""
        values = self.model_dump(mode="json", exclude=set(without))
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in values and LATER in field.metadata and value == field.get_default(call_default_factory=True):
                del values[name]
            elif name in values and isinstance(value, _Section):
                values[name] = value.identity()
        return values


class Preprocess(_Section):
    """From the file to the network's input.

    `spacing` is (D, H, W) in mm, ``median`` of the training cases, or ``native``. `intensity` is ``window`` (fixed HU window to
    [0, 1]), ``percentile`` (clip to foreground percentiles of the training cases, z-score with their mean and SD) or
    ``case-zscore`` (each case by its own percentiles, mean and SD). `crop` cuts to voxels above the window's lower end (CT) or
    above zero (other modalities), ``nonzero`` to those that differ from zero in any channel. `depth_axis` binds D: ``auto`` or
    one of x, y, z of the RAS volume.

    `resampling` names a grid, and with it the order of the steps:
        ``half-pixel``: ours. Crop, clip, resample by spline `image_order`, scale; labels take the nearest voxel.
        ``monai``: Orientationd(RAS), Spacingd(bilinear, nearest), intensities, CropForegroundd(> 0). Needs ``window``; its first
            voxel lies on the first voxel of the file, so the field of view is up to one voxel smaller than ours.
        ``nnunet``: nnU-Net v1. Crop, resample by spline `image_order` (labels linearly, class by class), along an axis that is
            coarser than 3 times the finest by repetition alone; then intensities.
        ``slice-resize``: TransUNet's. Clip and scale, then resize every slice to `plane` by spline `image_order` (labels take the
            nearest pixel), the corner pixels of both grids on one another. Needs `plane` and ``native`` spacing.
    `plane` (H, W) resizes every slice to that many pixels, whatever its own spacing, as networks of slices are trained;
    `spacing` is then of D alone. It goes with ``half-pixel`` and ``slice-resize``.
    `window_to` are the values that the ends of a ``window`` get.

    `intensity` has two more values, nnU-Net's rules for MR, which go with ``nnunet``: ``zscore`` (each case by its own mean and
    SD) and ``nonzero-zscore`` (each case by mean and SD of its nonzero voxels, holes filled; 0 outside).
    """

    spacing: tuple[Millimetres, Millimetres, Millimetres] | Literal["median", "native"]
    intensity: Literal["window", "percentile", "case-zscore", "zscore", "nonzero-zscore"]
    window: Rising[Intensity] = (-175.0, 250.0)
    percentiles: Rising[Percent] = (0.5, 99.5)
    crop: bool | Literal["nonzero"] = True
    image_order: int = Field(ge=0, le=3)
    depth_axis: Literal["auto", "x", "y", "z"] = "auto"
    resampling: Annotated[Resampling, LATER] = "half-pixel"
    plane: Annotated[tuple[Voxels, Voxels] | None, LATER] = None
    window_to: Annotated[Rising[Intensity], LATER] = (0.0, 1.0)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.resampling == "monai" and self.intensity != "window":
            raise ValueError("resampling = monai goes with intensity = window: its crop is of what lies above the window")
        if self.intensity in ("zscore", "nonzero-zscore") and self.resampling != "nnunet":
            raise ValueError(f"intensity = {self.intensity} goes with resampling = nnunet")
        if self.crop == "nonzero" and self.resampling == "monai":
            raise ValueError("resampling = monai crops to what lies above the window: crop = true or false")
        if self.plane is not None and self.resampling not in ("half-pixel", "slice-resize"):
            raise ValueError("plane goes with resampling = half-pixel or slice-resize")
        if self.resampling == "slice-resize" and (self.plane is None or self.spacing != "native"):
            raise ValueError("resampling = slice-resize needs plane = H,W and spacing = native: it resizes within slices alone")
        unit = self.window_to == (0.0, 1.0)
        if not unit and (self.intensity != "window" or self.resampling == "monai"):
            raise ValueError("window_to goes with intensity = window, but not with resampling = monai, whose crop looks at 0")
        return self


class Patch(_Section):
    """Training crops. `foreground` is the share of patches centred on a foreground voxel (pos:neg 1:1 is 0.5).

    `sampling` is ``centres`` (MONAI's RandCropByPosNegLabel: every foreground voxel alike, the others around background),
    ``nnunet`` (the last of a batch hold foreground, every class alike, as many as the rounded share; the others lie anywhere), or
    ``slices`` (every slice of the training volumes alike, the last of a batch among those that hold foreground, as many as the
    rounded share). `background` says around which voxels: ``any`` that are not foreground, or those where the image is
    ``positive`` (MONAI's image_threshold of 0). `per_volume` patches of a batch are cut from one volume. `neighbours` on either
    side of a slice are further channels of it, for networks of slices; at a volume's ends its last slice stands in.
    """

    size: Annotated[tuple[Voxels, Voxels, Voxels], AfterValidator(_fits)]
    batch: Count
    foreground: float = Fraction
    sampling: Annotated[Literal["centres", "nnunet", "slices"], LATER] = "centres"
    background: Annotated[Literal["any", "positive"], LATER] = "any"
    per_volume: Annotated[Count, LATER] = 1
    neighbours: Annotated[int, Field(ge=0, le=16), LATER] = 0

    def channels_of(self, image: int) -> int:
        """Returns the channels of the network's input: the `image` channels of a slice, and as many for each neighbour."""
        return image * (1 + 2 * self.neighbours)


class NnUnetAugment(_Section):
    """nnU-Net's augmentation (moreDA): probabilities per patch and ranges; `..._channel` are per channel of a chosen patch.

    `dummy_2d`: whether patches are turned, by up to `degrees_in_plane`, and scaled in plane alone; ``auto`` where the longest
    edge of a patch is more than three times its depth, as nnU-Net v1 has it.
    """

    rotate: Share = 0.2
    degrees: float = Field(default=30.0, ge=0, le=180)
    degrees_in_plane: float = Field(default=180.0, ge=0, le=180)
    dummy_2d: Literal["auto", "always", "never"] = "auto"
    scale: Share = 0.2
    scale_range: Rising[Factor] = (0.7, 1.4)
    noise: Share = 0.1
    noise_sd: Rising[UpTo100] = (0.0, 0.1)
    blur: Share = 0.2
    blur_channel: Share = 0.5
    blur_sigma: Rising[Factor] = (0.5, 1.0)
    brightness: Share = 0.15
    brightness_range: Rising[UpTo100] = (0.75, 1.25)
    contrast: Share = 0.15
    contrast_range: Rising[UpTo100] = (0.75, 1.25)
    lowres: Share = 0.25
    lowres_channel: Share = 0.5
    lowres_range: Rising[Share] = (0.5, 1.0)
    gamma_inverted: Share = 0.1
    gamma: Share = 0.3
    gamma_range: Rising[Factor] = (0.7, 1.5)
    mirror: Share = 0.5


class Augment(_Section):
    """How LWI's UNETR is augmented, as probabilities and ranges: flips, quarter turns in plane, scale and shift of intensities.

    `family` says what the patches of training get: these (``monai-r1``), or `nnunet` instead, or in plane alone what TransUNet
    (``transunet``) and MISSFormer (``missformer``) do, whose numbers are not settings. Unlabelled patches of a pretext get these
    always.
    """

    flip: float = Fraction
    rot90: float = Fraction
    scale_probability: float = Fraction
    scale_range: UpTo100
    shift_probability: float = Fraction
    shift_range: UpTo100
    family: Annotated[Literal["monai-r1", "nnunet", "transunet", "missformer"], LATER] = "monai-r1"
    nnunet: Annotated[NnUnetAugment, LATER] = NnUnetAugment()


class Optimizer(_Section):
    """One optimizer with its schedule. `warmup` is a share of the stage's steps, `plateaus` the number of its ``plateaus``."""

    name: Literal["adamw", "sgd"]
    lr: float = Field(gt=0, le=1e30)
    weight_decay: float = Field(ge=0, le=1e30)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    schedule: Literal["cosine", "poly", "constant", "plateaus"]
    warmup: float = Fraction
    poly_power: UpTo100 = 0.9
    clip: float = Field(default=0.0, ge=0, le=1e9, description="gradient norm bound, 0 for none")
    plateaus: Annotated[int, Field(ge=1, le=50), LATER] = 8


class Loss(_Section):
    """Dice + cross-entropy. The defaults are eq. 11 as MONAI computes it. `coarsest`: under deep supervision the coarsest of two
    outputs or more counts, which nnU-Net leaves out. `dice_weight` and `ce_weight` are the factors of the two terms.
    """

    squared: bool = True
    background: bool = True
    batch_dice: bool = False
    smooth_nr: float = Field(default=0.0, ge=0, le=1e9)
    smooth_dr: float = Field(default=1e-6, ge=0, le=1e9)
    deep_supervision: bool = False
    coarsest: Annotated[bool, LATER] = True
    dice_weight: Annotated[UpTo100, LATER] = 1.0
    ce_weight: Annotated[UpTo100, LATER] = 1.0


class PretextStage(_Section):
    """Training of a learned init. `share` is its part of the recipe's total steps, `mask_patch` the edge of a masked cell.

    `taps` are the encoder levels that an order prediction asks, by their numbers from 1 (shallow), where it names none itself.
    Without them all levels are asked, or as many as leave two slabs in the training volumes.
    """

    share: float = Field(gt=0, lt=1)
    mask_patch: Voxels
    batch: Count
    optimizer: Optimizer
    taps: Annotated[tuple[Count, ...] | None, BeforeValidator(_several), LATER] = None


class Inference(_Section):
    """Sliding window over the preprocessed volume.

    `average`: what is averaged where windows overlap, and over mirrorings: ``probabilities``, as nnU-Net's first version does, or
    ``logits``, as MONAI does. `mirror`: every window is predicted in its eight mirrorings, which are averaged, as nnU-Net does;
    eight times the work. `grids`: where predictions are counted. The native one always is, and its Dice is the score;
    ``resampled`` is counted beside it, on the preprocessed volume and its labels, as UNETR's released test does.

    `back`: what is carried back to the native grid: ``probabilities``, linearly, or the labels, by the nearest voxel
    (``label-nearest``), as TransUNet's test does.
    """

    overlap: float = Field(ge=0, lt=1)
    blend: Literal["constant", "gaussian"]
    batch: Count
    average: Annotated[Literal["logits", "probabilities"], LATER] = "probabilities"
    mirror: Annotated[bool, LATER] = False
    back: Annotated[Literal["probabilities", "label-nearest"], LATER] = "probabilities"
    grids: Annotated[tuple[Literal["native", "resampled"], ...], BeforeValidator(_listed), AfterValidator(_native), LATER] = (
        "native",
    )


class Steps(_Section):
    """Total optimizer steps of a run per budget."""

    smoke: StepCount
    short: StepCount
    paper: StepCount


class AutoSettings(_Section):
    """What is left to the training cases of a data set without a recipe (rule: ``initbench.preprocessing.auto_settings``).

    `patch`: spacing, where that is ``median``, and patch. `epochs`: steps of the ``paper`` budget are as many times the training
    cases, `most_steps` at most; 0 for those that are written. Numbers replace the plan before a run gets its name.
    """

    patch: bool = False
    epochs: int = Field(default=0, ge=0, le=1_000_000)
    most_steps: StepCount = 250_000


class Recipe(_Section):
    """Everything that two inits of a block share."""

    name: str
    version: int
    source: str
    preprocess: Preprocess
    patch: Patch
    augment: Augment
    optimizer: Optimizer
    loss: Loss
    pretext: PretextStage
    inference: Inference
    steps: Steps
    variant: str | None = None
    dice_policy: Literal["reference-mask"] = "reference-mask"
    plan: Annotated[AutoSettings, LATER] = AutoSettings()

    def digest(self) -> str:
        """Returns the digest of the resolved values; name, version and source are documentation and not in it."""
        return digest.of_json(self.identity(without=("name", "version", "source")))
