"""``inflate-2d``: the weights of a timm image encoder in a network of volumes.

A ViT's blocks are the same for tokens of images and of volumes, so a network with such blocks (UNETR) gets all of them; its
patch embedding gets the ViT's with the kernel inflated, its positions the ViT's interpolated in plane and the same at every
depth. Any other network gets the encoder's first convolution, inflated, and nothing else: what follows it has no counterpart
whose shapes and order would not have to be guessed. A backbone declares where this goes (`Published.images`).

Source: Messaoudi et al., "Cross-dimensional transfer learning in medical image segmentation with deep learning", Medical Image
Analysis 2023, arXiv:2307.15872, transfer image weights to volumes. Two things here are not theirs. Their rule from 2D kernels to
3D ones is neither in the paper nor in the release; the rules here are in `initbench.checkpoints.inflation`. Their release puts
N(0, 1) noise in place of the pretrained stem, since it gives it 16 channels and keeps 1 and 3 alone; here the stem is kept.
"""

from __future__ import annotations

from torch import nn

from initbench.checkpoints.images import load_encoder
from initbench.checkpoints.inflation import RULES
from initbench.checkpoints.transfer import transfer
from initbench.errors import UsageError
from initbench.protocols import InitContext, initializer


@initializer(files=("path",), external=True, paper="arXiv:2307.15872, with I3D's rule (arXiv:1705.07750, section 2.4.1)")
def inflate_2d(
    model: nn.Module, ctx: InitContext, /, *, source: str = "vit_base_patch16_224", path: str = "", rule: str = "repeat"
) -> None:
    """Copies what fits of the timm model `source`; everything else keeps its constructed values.

    `path` is a file with the model's state dict (safetensors, or a torch file of tensors); without one timm downloads the weights
    that it publishes under `source`, which may hold a tag (``vit_base_patch16_224.mae``). `rule` makes a 2D kernel a 3D one:
    ``repeat`` (divided by the number of slices), ``centre`` (middle slice), ``axis-average`` (mean over the three planes).

    Raises:
        UsageError: unknown rule or model, or nothing that fits. InitbenchError: the weights cannot be read or downloaded.
    """
    if rule not in RULES:
        raise UsageError(f"inflate-2d has no rule {rule!r}; it has {', '.join(RULES)}")
    if not ctx.structure.published.images.stems:
        name = ctx.structure.name or "the network"
        raise UsageError(
            f"inflate-2d: {name} does not declare where weights of images belong (Published.images): take "
            "a backbone that does, or add it there"
        )
    encoder = load_encoder(source, path)
    report = transfer(model, encoder, ctx.structure, RULES[rule])
    few = f": {', '.join(report.loaded)} alone" if len(report.loaded) <= 2 else ""  # a stem and its bias
    ctx.report(report.summary() + few, report.as_json() | {"source": encoder.source, "rule": rule})
