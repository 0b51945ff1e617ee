"""The contracts between the rooms. Imports nothing of ours.

Tensors are ``(N, C, D, H, W)`` and spacings are in mm in the same order. ``D`` is the slice axis: superior-inferior, or the
coarsest axis where one spacing is at least three times the others. It is bound once per data set, by name, never by index.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

Grid = tuple[int, int, int]
Spacing = tuple[float, float, float]
Size = Literal["tiny", "paper"]
SIZES: tuple[Size, ...] = ("paper", "tiny")
Layout = Literal["NCDHW", "NDHWC", "NLC"]
Axes = Literal["DHW", "WHD"]
F = TypeVar("F", bound=Callable[..., Any])

# --------------------------------------------------------------------------------------------------------------------
# Backbones


@dataclass(frozen=True)
class Level:
    """One encoder level Z_i: what a forward hook on ``module`` sees.

    Attributes:
        module: dotted name of the submodule whose output is Z_i.
        grid: the level's ``(D, H, W)`` for the patch the network was built for.
        channels: width of Z_i.
        layout: ``NCDHW``, ``NDHWC``, or ``NLC`` (tokens in row-major order, the last axis fastest).
        axes: order of the spatial axes in what the hook sees.
    """

    module: str
    grid: Grid
    channels: int
    layout: Layout = "NCDHW"
    axes: Axes = "DHW"


@dataclass(frozen=True)
class FileLayout:
    """Keys of a kind of published file, where they are not those of the network.

    Attributes:
        name: what reports call it.
        sign: regular expression; a file with a key that it matches from its first character on is of this kind.
        renames: (regular expression, replacement) pairs, applied to every key in turn; None drops the key.
        part: dotted name of the submodule that such a file covers, "" for the whole network.
        variants: the variants that such weights fit, () where the file does not say.
    """

    name: str
    sign: str
    renames: tuple[tuple[str, str | None], ...] = ()
    part: str = ""
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeySign:
    """A key that tells variants apart.

    Attributes:
        pattern: regular expression, searched for in the keys of a file.
        expected: whether files for this variant have such a key.
        otherwise: the variant of files where it is the other way round.
    """

    pattern: str
    expected: bool
    otherwise: str


@dataclass(frozen=True)
class Published:
    """How to read weights that were published for a network.

    Attributes:
        axes: order of the spatial axes that they were trained on: D inferior-superior, H posterior-anterior, W left-right.
        turned: the variant that takes them, where this one sees volumes in another order.
        layouts: kinds of files with keys of their own; several may match one file.
        positions: tables of positions ``(1, N, C)`` (regular expressions on keys) and their grid in the order of the rows;
            such a table is resampled where the weights are of another patch.
        lookalikes: variants whose weights fit this network in every key and shape, and mean something else.
        signs: keys that tell files for this variant from files for another.
    """

    axes: Axes = "DHW"
    turned: str = ""
    layouts: tuple[FileLayout, ...] = ()
    positions: Mapping[str, Grid] = field(default_factory=dict)
    lookalikes: tuple[str, ...] = ()
    signs: tuple[KeySign, ...] = ()


@dataclass(frozen=True)
class Structure:
    """What a network says of itself, so that nothing else has to know its insides.

    Attributes:
        patch_size: ``(D, H, W)`` the network was built for.
        levels: encoder levels, shallow to deep.
        heads: dotted names of the output heads; a learned init leaves them out.
        unused: parameters that get no gradient by design (dotted names).
        projections: bare ``(inputs, outputs)`` matrices used as linear maps (dotted names of parameters).
        name: of the backbone, and
        variant: the one it was built as; both are set by the decorator `backbone`.
        axes: order in which the network sees the spatial axes of its input ``(N, C, D, H, W)``.
        published: how the weights that people publish for it are to be read.
    """

    patch_size: Grid
    levels: tuple[Level, ...]
    heads: tuple[str, ...]
    unused: tuple[str, ...] = ()
    projections: tuple[str, ...] = ()
    name: str = ""
    variant: str = "default"
    axes: Axes = "DHW"
    published: Published = field(default_factory=Published)


@dataclass(frozen=True)
class PatchRule:
    """Patches that an architecture takes: per axis ``multiple * k + remainder``, and at least `least` ``(D, H, W)``."""

    multiple: Grid
    remainder: Grid = (0, 0, 0)
    least: Grid = (1, 1, 1)

    def at_least(self, patch: Sequence[int]) -> Grid:
        """The smallest valid patch that holds `patch`."""
        d, h, w = (self._up(axis, max(size, self.least[axis])) for axis, size in enumerate(patch))
        return d, h, w

    def at_most(self, patch: Sequence[int]) -> Grid:
        """The largest valid patch inside `patch`, or the smallest there is."""
        smallest = self.at_least((1, 1, 1))
        d, h, w = (
            max(smallest[axis], size - (size - self.remainder[axis]) % self.multiple[axis]) for axis, size in enumerate(patch)
        )
        return d, h, w

    def _up(self, axis: int, size: int) -> int:
        return size + (self.remainder[axis] - size) % self.multiple[axis]

    def __str__(self) -> str:
        plus = f" plus {self.remainder}" if any(self.remainder) else ""
        least = f", at least {self.at_least((1, 1, 1))}" if max(self.least) > 1 else ""
        return f"a multiple of {self.multiple}{plus} (D, H, W){least}"


@dataclass(frozen=True)
class BackboneInfo:
    """Where a backbone comes from.

    Attributes:
        source: ``owner/repo:path@commit`` or ``package==version:object`` of the code it equals.
        variants: published variants; the first is the default.
        patches: per variant, the patches it takes.
        summary: one line for `describe`; a built-in has its line in the catalog.
    """

    paper: str
    source: str
    licence: str
    variants: tuple[str, ...] = ("default",)
    patches: Mapping[str, PatchRule] = field(default_factory=dict)
    revision: int = 1
    summary: str = ""


class Backbone(Protocol):
    """Builds a network whose ``structure`` attribute is a `Structure`.

    The network returns logits ``(N, num_classes, D, H, W)``, or under deep supervision, in training and evaluation alike, a
    list of them, finest first.
    """

    def __call__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        patch_size: Grid,
        size: Size = "paper",
        variant: str | None = None,
        deep_supervision: bool = False,
    ) -> nn.Module:
        """Builds the network on the CPU with the authors' own initialization.

        Raises:
            PatchError: the patch does not suit the architecture; names the nearest valid ones.
            ValueError: unknown variant or size.
        """


class PatchError(ValueError):
    """A patch that an architecture cannot take."""


def check_variant(name: str, variant: str, info: BackboneInfo | None) -> str:
    """Returns the variant, or refuses it and names those there are.

    Raises:
        ValueError: the backbone has no such variant.
    """
    variants = info.variants if info else ("default",)
    if variant not in variants:
        raise ValueError(f"{name} has no variant {variant!r}; it has {', '.join(variants)}")
    return variant


def check_patch(name: str, patch_size: Sequence[int], rule: PatchRule) -> Grid:
    """Returns the patch as a tuple of ints, or refuses it and names the nearest valid ones.

    Raises:
        PatchError: not three sizes that `rule` takes.
    """
    if len(patch_size) != 3:
        raise PatchError(f"{name}: a patch has three sizes (D, H, W), got {tuple(patch_size)}")
    patch = (int(patch_size[0]), int(patch_size[1]), int(patch_size[2]))
    lower, upper = rule.at_most(patch), rule.at_least(patch)
    if patch == upper:
        return patch
    nearest = " or ".join(str(p) for p in dict.fromkeys((lower, upper)))
    raise PatchError(
        f"{name}: patch {patch} must be {rule}; nearest valid: {nearest}. "
        f"Set it with --set patch.size={','.join(map(str, upper))}"
    )


def structure_of(model: nn.Module) -> Structure:
    """The structure a network declares.

    Raises:
        TypeError: it declares none.
    """
    structure = getattr(model, "structure", None)
    if not isinstance(structure, Structure):
        raise TypeError(f"{type(model).__name__} declares no `structure` (initbench.protocols.Structure): levels and heads")
    return structure


def backbone(info: BackboneInfo) -> Callable[[Callable[..., nn.Module]], Backbone]:
    """Makes a backbone of a function ``(in_channels, num_classes, patch_size, size, variant, deep_supervision)``.

    Size, variant and patch are checked here, once for all backbones: the function sees valid ones.
    """

    def mark(function: Callable[..., nn.Module]) -> Backbone:
        name = function.__name__.replace("_", "-")

        def build(
            *,
            in_channels: int,
            num_classes: int,
            patch_size: Grid,
            size: Size = "paper",
            variant: str | None = None,
            deep_supervision: bool = False,
        ) -> nn.Module:
            chosen = check_variant(name, info.variants[0] if variant is None else variant, info)
            if size not in SIZES:
                raise ValueError(f"{name} has no size {size!r}; it has {', '.join(SIZES)}")
            patch = check_patch(f"{name} ({chosen})", patch_size, info.patches.get(chosen, PatchRule((1, 1, 1))))
            model = function(in_channels, num_classes, patch, size, chosen, deep_supervision)
            model.structure = replace(structure_of(model), name=name, variant=chosen)  # type: ignore[assignment]
            return model

        functools.update_wrapper(build, function)
        build.info = info  # type: ignore[attr-defined]
        return build

    return mark


# --------------------------------------------------------------------------------------------------------------------
# Initializers

Role = Literal["linear", "conv", "transposed-conv", "projection", "bias", "norm", "other"]


@dataclass(frozen=True)
class Site:
    """One named parameter that an initializer may set.

    Attributes:
        name: as in ``named_parameters``; a tied parameter appears once, under its first name.
        role: what the parameter is; ``projection`` is a bare matrix used as a linear map, ``other`` everything that no scheme
            touches unless it names it (positional tables, layer scales, temperatures).
        fan_in: number of inputs summed into one output, taken from what the layer computes (a transposed convolution whose
            kernel equals its stride sums its input channels), 0 for roles without fans.
        fan_out: number of outputs one input feeds at stride 1: ``out_channels`` times the kernel's voxels, as Xavier takes it.
        owner: role of the layer a bias belongs to; equals `role` elsewhere.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    owner: Role


@dataclass(frozen=True)
class InitializerInfo:
    """What the harness has to know before it calls an initializer.

    Attributes:
        summary: one line for `describe`; a built-in has its line in the catalog.
        learned: trains on unlabelled patches of the training cases, so it costs steps.
        revision: raised whenever the numbers it gives change.
        files: parameters that name files; a run is identified by what these hold, not by where they lie.
        external: brings in data from outside the study, in one draw that all seeds share.
    """

    summary: str = ""
    paper: str = ""
    learned: bool = False
    revision: int = 1
    files: tuple[str, ...] = ()
    external: bool = False


@dataclass(frozen=True)
class Patches:
    """A batch of unlabelled training patches.

    Attributes:
        image: ``(N, C, D, H, W)`` on the context's device.
        inside: ``(N, 3, 2)`` first and one-past-last voxel per axis that lie in the volume; the rest is padding.
    """

    image: Tensor
    inside: NDArray[np.int64]

    def inside_mask(self) -> Tensor:
        """``(N, 1, D, H, W)`` bool on the image's device: voxels that lie in the volume."""
        import torch

        mask = torch.zeros_like(self.image[:, :1], dtype=torch.bool)
        for n, ((d0, d1), (h0, h1), (w0, w1)) in enumerate(self.inside.tolist()):
            mask[n, :, d0:d1, h0:h1, w0:w1] = True
        return mask


class InitContext(Protocol):
    """What the harness hands an initializer."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every parameter of the network, tied ones once."""

    @property
    def structure(self) -> Structure:
        """What the network says of itself: patch, encoder levels, output heads (which the harness redraws afterwards)."""

    @property
    def device(self) -> torch.device:
        """Where a learned initializer trains."""

    @property
    def steps(self) -> int:
        """Step budget of the pretext."""

    @property
    def mask_patch(self) -> int:
        """Edge of a masked cell in voxels, as the recipe of the backbone states it."""

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator of its own for the parameter `name`: the order of visits changes no bit."""

    def rng(self, step: int, purpose: str) -> np.random.Generator:
        """Counter-based generator of the pretext stream at `step`: needs no history."""

    def patches(self, step: int, *, slab: int = 1) -> Patches:
        """The unlabelled batch of `step`: uniform over the training cases, no depth flip.

        With `slab` > 1 slices per slab, the depth inside the volume is a whole number of slabs, at least two.
        """

    def fit(self, task: Task) -> None:
        """Trains `task` with the one training loop for `steps` steps under the recipe's pretext settings."""

    def report(self, summary: str, details: Mapping[str, Any]) -> None:
        """Puts on record what the initializer did, beside what the harness measures itself.

        `summary` is a line for people, `details` JSON values for ``coverage.json``.
        """


class Initializer(Protocol):
    """Changes a network's parameters in place; keeps shapes, ties and ``requires_grad``; reads no global generator."""

    def __call__(self, model: nn.Module, ctx: InitContext, /, **params: Any) -> None:
        """Initializes `model`."""


def initializer(
    *,
    summary: str = "",
    paper: str = "",
    learned: bool = False,
    revision: int = 1,
    files: tuple[str, ...] = (),
    external: bool = False,
) -> Callable[[F], F]:
    """Marks a function as an initializer. A plain function ``(model, ctx)`` is one too, data-independent."""
    info = InitializerInfo(summary, paper, learned, revision, files, external)

    def mark(function: F) -> F:
        function.info = info  # type: ignore[attr-defined]
        return function

    return mark


# --------------------------------------------------------------------------------------------------------------------
# Training


class Task(Protocol):
    """What the training loop trains: the supervised stage and every pretext are one each."""

    @property
    def module(self) -> nn.Module:
        """Everything that has parameters to train (network and temporary heads)."""

    def batch(self, step: int) -> Any:
        """The batch of `step`, a function of the step alone."""

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimize and its named, detached parts."""


# --------------------------------------------------------------------------------------------------------------------
# Datasets


@dataclass(frozen=True)
class Case:
    """One examination.

    Attributes:
        image: ``(C, X, Y, Z)`` float32 in the file's own axis order.
        label: ``(X, Y, Z)`` unsigned integer.
        affine: voxel to world (RAS, mm), 4 x 4.
    """

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Named division of the case ids. `test` are the reported cases."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@runtime_checkable
class Dataset(Protocol):
    """A labelled set of volumes."""

    name: str
    modality: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    licence: str

    def case_ids(self) -> tuple[str, ...]:
        """All labelled cases, sorted."""

    def load(self, case_id: str) -> Case:
        """Reads and checks one case.

        Raises:
            DataError: what is wrong with which file, and what to do.
        """

    def digest(self, case_id: str) -> str:
        """Content digest (hex sha256) of one case's image and label bytes."""

    def published_split(self) -> Split | None:
        """The split that the papers use, where there is one."""


class Progress(Protocol):
    """Where long work reports to."""

    def start(self, stage: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """`done` steps of the stage are finished."""


class NoProgress:
    """Says nothing."""

    def start(self, stage: str, total: int) -> None:
        """Ignored."""

    def advance(self, done: int, info: Mapping[str, float]) -> None:
        """Ignored."""
