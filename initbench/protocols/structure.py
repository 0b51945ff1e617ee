"""What a network says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from initbench.protocols.basics import Axes, Dimension, Grid, Layout

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Level:
    """One encoder level Z_i: what a forward hook on ``module`` sees.

    Attributes:
        module: dotted name of the submodule whose output is Z_i.
        grid: the level's ``(D, H, W)`` for the patch the network was built for.
        channels: width of Z_i.
        layout: ``NCDHW``, ``NDHWC``, ``NLC`` (tokens in row-major order, the last axis fastest), or ``NCHW`` (slices: all of the
            first volume of the batch, then all of the next; tokens of slices are ``NLC``).
        axes: order of the spatial axes in what the hook sees.
    """

    module: str
    grid: Grid
    channels: int
    layout: Layout = "NCDHW"
    axes: Axes = "DHW"


@dataclass(frozen=True)
class Tokens(Level):
    """The first tokens of a network, as `Level` describes a module's output: where a regimen may hide parts of the image.

    Attributes:
        cell: edge, in tokens, of the squares that are hidden together.
    """

    cell: int = 1


@dataclass(frozen=True)
class FileLayout:
    """Keys of a kind of published file that names its weights otherwise than the network.

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
class ImageWeights:
    """Where in a network the weights of a 2D image encoder belong.

    Attributes:
        stems: layers that read the image and have a kernel (dotted names): convolutions, or linear layers on patches that are
            flattened as (p1 p2 p3 c) in the network's axis order.
        patch: ``(D, H, W)`` of such flattened patches; a convolution says its kernel itself.
        renames: (regular expression, replacement) pairs: keys of timm's encoder to the network's, with ``attn.qkv``,
            ``attn.proj`` and ``mlp`` of a ViT as timm computes them. A key goes wherever a pair that matches sends it, so one may
            fill several places; None says that the network has no place for it on purpose.
        heads: attention heads of the ViT, 0 where the encoder is none.
        source: timm's name of the encoder that the network contains whole, in two dimensions or made for volumes; "" where the
            network contains no encoder of timm's, or any ViT of its shape.
        parts: dotted names of the submodules that such an encoder fills to the last number.
        stacked: (regular expression, replacements) pairs: weights of timm's whose rows are several weights of the network's, one
            under another and all of one size, as queries, keys and values.
        constants: buffers inside `parts` that the network computes when it is built (regular expressions).
        released: (regular expression, replacement) pairs, the first that matches counts: keys of timm's to the keys of the file
            from which the authors start, where these are others.
        linear_positions: whether a table of positions of another grid is interpolated linearly, its corners on the corners of the
            network's, rather than as timm does it.
        reason: why weights of images have no place in the network; "" where nobody said.
    """

    stems: tuple[str, ...] = ()
    patch: Grid = (1, 1, 1)
    renames: tuple[tuple[str, str | None], ...] = ()
    heads: int = 0
    source: str = ""
    parts: tuple[str, ...] = ()
    stacked: tuple[tuple[str, tuple[str, ...]], ...] = ()
    constants: tuple[str, ...] = ()
    released: tuple[tuple[str, str], ...] = ()
    linear_positions: bool = False
    reason: str = ""

    def places(self, key: str) -> list[str]:
        """Returns the network's keys for one of timm's."""
        found = []
        for pattern, name in self.renames:
            if name is not None and re.search(pattern, key):
                found.append(re.sub(pattern, name, key))
        return found

    def stack(self, key: str) -> list[str]:
        """Returns the network's keys for the rows of one of timm's weights, in their order; none where both have one weight."""
        for pattern, names in self.stacked:
            if re.search(pattern, key):
                return [re.sub(pattern, name, key) for name in names]
        return []

    def released_key(self, key: str) -> str:
        """Returns the key of timm's in the file that the authors start from."""
        for pattern, name in self.released:
            if re.search(pattern, key):
                return re.sub(pattern, name, key)
        return key

    def leaves_out(self, key: str) -> bool:
        """Returns whether the network has no place for a key of timm's, on purpose."""
        for pattern, name in self.renames:
            if name is None and re.search(pattern, key):
                return True
        return False


@dataclass(frozen=True)
class Published:
    """How to read weights that were published for a network.

    Attributes:
        axes: order of the spatial axes that they were trained on: D inferior-superior, H posterior-anterior, W left-right.
        turned: the variant that takes them, where this one sees volumes in another order.
        layouts: kinds of files with keys of their own; several may match one file.
        positions: tables of positions ``(1, N, C)`` (regular expressions on keys) and their grid in the order of the rows;
            such a table is resampled where the weights are of another patch.
        tokens: other weights with an axis of tokens (regular expressions on keys) and the grid of these tokens. They cannot be
            resampled, so weights of another grid are refused, also where it has as many tokens.
        lookalikes: variants whose weights fit this network in every key and shape, and mean something else.
        signs: keys that tell files for this variant from files for another.
        images: where weights that were published for images belong.
    """

    axes: Axes = "DHW"
    turned: str = ""
    layouts: tuple[FileLayout, ...] = ()
    positions: Mapping[str, Grid] = field(default_factory=dict)
    tokens: Mapping[str, Grid] = field(default_factory=dict)
    lookalikes: tuple[str, ...] = ()
    signs: tuple[KeySign, ...] = ()
    images: ImageWeights = field(default_factory=ImageWeights)

    def grid_of(self, key: str) -> Grid | None:
        """Returns the grid of a table of positions, in the order of its rows; None where the key names no such table."""
        return _grid(self.positions, key)

    def tokens_of(self, key: str) -> Grid | None:
        """Returns the grid of the tokens that another weight has an axis of; None where it has no such axis."""
        return _grid(self.tokens, key)


def _grid(grids: Mapping[str, Grid], key: str) -> Grid | None:
    for pattern, grid in grids.items():
        if re.fullmatch(pattern, key):
            return grid
    return None


@dataclass(frozen=True)
class Structure:
    """What a network says of itself, so that nothing else has to know its insides.

    Attributes:
        patch_size: ``(D, H, W)`` the network was built for.
        levels: encoder levels, shallow to deep.
        heads: dotted names of the output heads; a learned init leaves them out.
        unused: parameters that get no gradient by design (dotted names).
        projections: bare ``(inputs, outputs)`` matrices used as linear maps (dotted names of parameters).
        residual_exits: dotted names of the parameters that, all zero, make every residual block its shortcut: the last layer of
            each residual branch, or the scale and shift of the norm that it ends in.
        name: of the backbone, and
        variant: the one it was built as; both are set by the decorator `backbone`.
        axes: order in which the network sees the spatial axes of its input ``(N, C, D, H, W)``.
        published: how the weights that people publish for it are to be read.
        tokens: its first tokens; None where it has none.
        dimension: 2 where it sees one slice at a time; set by the decorator, too.
    """

    patch_size: Grid
    levels: tuple[Level, ...]
    heads: tuple[str, ...]
    unused: tuple[str, ...] = ()
    projections: tuple[str, ...] = ()
    residual_exits: tuple[str, ...] = ()
    name: str = ""
    variant: str = "default"
    axes: Axes = "DHW"
    published: Published = field(default_factory=Published)
    tokens: Tokens | None = None
    dimension: Dimension = 3


def structure_of(model: nn.Module) -> Structure:
    """Returns the structure a network declares.

    Raises:
        TypeError: it declares none.
    """
    structure = getattr(model, "structure", None)
    if not isinstance(structure, Structure):
        raise TypeError(f"{type(model).__name__} declares no `structure` (initbench.protocols.Structure): levels and heads")
    return structure
