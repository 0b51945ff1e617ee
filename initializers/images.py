"""``images``: the weights of a timm image encoder in a network that contains this encoder for slices or images.

Every weight goes where it was, with its shape, and the running statistics of norms go with it; a backbone declares which encoder
it contains and where (`Published.images`). One draw of weights serves every seed, so its rows are conditional on these weights,
and they bring in data from outside. `inflate-2d` is for networks of volumes.

Source: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872 (weight transfer), and Models/CAMUS of its release
hic-messaoudi/Cross-dimensional-transfer-learning-in-medical-image-segmentation-with-deep-learning@f88f8cc.
"""

from __future__ import annotations

from torch import nn

from initbench.checkpoints.images import Wanted, load_encoder
from initbench.checkpoints.whole_encoder import Filling, Stem, transfer_whole
from initbench.errors import UsageError
from initbench.protocols import InitContext, initializer


@initializer(files=("path",), external=True, permissions=("download",), paper="arXiv:2307.15872, weight transfer")
def images(
    model: nn.Module, ctx: InitContext, /, *, source: str = "", path: str = "", stem: Stem = "average", download: bool = False
) -> None:
    """Copies the encoder `source` of timm, by default the one that the network contains; the rest keeps its constructed values.

    `path` is a file with its state dict, by the keys of timm, of the network, of the file that its authors start from, or of the
    package efficientnet-pytorch, or Google's archive of a ViT (.npz); without one,
    ``download=True`` lets timm download the weights that it publishes under `source`, which may hold a tag
    (``efficientnet_b0.ra_in1k``). `stem` says what the encoder's first convolution gets where the network gives it other than
    three channels: ``average`` the sum over the colours, divided among the channels; ``released`` what the release does, the sum
    for one channel and N(0, 1) noise for several; ``constructed`` what it has.

    Raises:
        UsageError: the network contains no such encoder, or nobody said where the weights come from. InitbenchError: the weights
            cannot be read or downloaded.
    """
    declared, name = ctx.structure.published.images, ctx.structure.name or "the network"
    if declared.reason:
        raise UsageError(f"images: {declared.reason}; take default, or a backbone that contains an encoder of images")
    if not declared.source:
        raise UsageError(
            f"images: {name} declares no encoder of images that it contains (Published.images.source): take a backbone that "
            "does, such as omnia-net, or add it there"
        )
    encoder = load_encoder(Wanted("images", source or declared.source, path, download), declared)
    report, more = transfer_whole(model, encoder, ctx.structure, Filling("images", stem, None, ctx.generator))
    told = f"{report.summary()}; its first convolution: {more['stem']}"
    ctx.report(told, report.as_json() | {"source": encoder.source} | more)
