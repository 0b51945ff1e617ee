"""``inflate-2d``: the weights of a timm image encoder in a network of volumes.

What goes where is declared by the backbone (`Published.images`):

- A network that contains an image encoder with every layer made for volumes (`dx-net`) gets that encoder whole: every kernel is
  inflated, depthwise ones too; 1 x 1 kernels, norms and their running statistics are copied.
- A ViT's blocks are the same for tokens of images and of volumes, so a network with such blocks (UNETR) gets all of them; its
  patch embedding gets the ViT's with the kernel inflated, its positions the ViT's interpolated in plane, the same at every depth.
- Any other network gets the encoder's first convolution, inflated, and nothing else: what follows it has no counterpart whose
  shapes and order would not have to be guessed.

Source: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872 (dimensional transfer), transfer image weights to volumes. Their rule from 2D kernels to 3D ones
is neither in the paper nor in the release; the rules here are in `initbench.checkpoints.inflation`. Their release puts N(0, 1)
noise in place of the pretrained stem, since it gives it 16 channels and keeps 1 and 3 alone; here that is ``stem=released``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from initbench.checkpoints.images import Wanted, load_encoder
from initbench.checkpoints.inflation import RULES
from initbench.checkpoints.transfer import transfer
from initbench.checkpoints.whole_encoder import Filling, Stem, dimension_of_kernels, transfer_whole
from initbench.errors import UsageError
from initbench.protocols import InitContext, initializer


@initializer(
    files=("path",),
    external=True,
    later=("stem",),
    permissions=("download",),
    paper="arXiv:2307.15872, with I3D's rule (arXiv:1705.07750, section 2.4.1)",
)
def inflate_2d(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    source: str = "vit_base_patch16_224",
    path: str = "",
    rule: str = "repeat",
    stem: Stem = "average",
    download: bool = False,
) -> None:
    """Copies what fits of the timm model `source`; everything else keeps its constructed values.

    `path` is a file with the model's state dict (safetensors, or a torch file of tensors); without one, ``download=True`` lets
    timm download the weights that it publishes under `source`, which may hold a tag (``vit_base_patch16_224.mae``). `rule` makes
    a 2D kernel a 3D one: ``repeat`` (divided by the number of slices), ``centre`` (middle slice), ``axis-average`` (mean over the
    three planes). `stem` is for a network that gets the encoder whole, and says what its first convolution gets where it has
    other than three channels: ``average`` the sum over the colours, divided among the channels; ``released`` the sum for one
    channel and N(0, 1) noise for several; ``constructed`` what it has.

    Raises:
        UsageError: unknown rule or model, nothing that fits, or nobody said where the weights come from. InitbenchError: the
            weights cannot be read or downloaded.
    """
    if rule not in RULES:
        raise UsageError(f"inflate-2d has no rule {rule!r}; it has {', '.join(RULES)}")
    declared = ctx.structure.published.images
    _check_volumes(ctx)
    encoder = load_encoder(Wanted("inflate-2d", source, path, download), declared)
    details: dict[str, Any] = {"source": encoder.source, "rule": rule}
    if dimension_of_kernels(model, f"{encoder.stem}.weight", declared) == 3:
        report, more = transfer_whole(model, encoder, ctx.structure, Filling("inflate-2d", stem, RULES[rule], ctx.generator))
        ctx.report(f"{report.summary()}; its first convolution: {more['stem']}", report.as_json() | details | more)
        return
    if stem != "average":
        raise UsageError(
            f"inflate-2d: stem={stem} is for the first convolution of a whole encoder, and {ctx.structure.name or 'the network'} "
            f"does not contain {source}: leave it out"
        )
    report = transfer(model, encoder, ctx.structure, RULES[rule])
    summary = report.summary()
    if len(report.loaded) <= 2:  # a stem and its bias
        summary += f": {', '.join(report.loaded)} alone"
    ctx.report(summary, report.as_json() | details)


def _check_volumes(ctx: InitContext) -> None:
    """Refuses a network into which nothing is inflated.

    Raises:
        UsageError: it declares no place, or has the encoder of images as it is.
    """
    declared, name = ctx.structure.published.images, ctx.structure.name or "the network"
    if declared.stems:
        return
    if declared.source:
        raise UsageError(f"inflate-2d: the kernels of {name} are 2D, so there are none to inflate: take images")
    raise UsageError(
        f"inflate-2d: {name} does not declare where weights of images belong (Published.images): take a backbone that does, or "
        "add it there"
    )
