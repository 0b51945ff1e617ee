"""``checkpoint``: weights from a file, matched to the network, with a report of what went where; ``swin-ssl``, one such file.

Reads what people publish: MONAI's `.pt` (``state_dict``), nnU-Net's `.model` and `.pth`, safetensors, and the layouts that a
backbone declares (LWI, MedContext, encoder-only Swin). One draw of weights serves every seed, so its rows are conditional on
these weights, and they bring in data from outside.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from initbench.checkpoints.matching import Request, TrainedOn, load_checkpoint
from initbench.checkpoints.reading import read_checkpoint
from initbench.errors import UsageError
from initbench.protocols import Grid, InitContext, initializer


@initializer(files=("path",), external=True)
def checkpoint(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    path: str,
    axes: TrainedOn = "auto",
    variant: str = "",
    minimum: float = 0.5,
    patch: Grid | None = None,
    prefix: str | None = None,
    leave: str | tuple[str, ...] = (),
) -> None:
    """Copies the weights of the file `path`; output heads stay for the harness to redraw. A file that fits in part is refused.

    `axes` is the order of the spatial axes that the weights were trained on (``DHW``, ``WHD``, or as published for this
    network), `variant` the variant and `patch` the patch (D, H, W) that they were trained in, where the file does not say.
    `prefix` is what stands before the network's keys in the file, where several sets of weights fit. `leave` names modules, of
    the network or of the file, that need not fit; `minimum` is the least share of the parameters (of the part that such files
    cover) that has to fit with them left out.
    """
    if axes not in ("auto", "DHW", "WHD"):
        raise UsageError(f"checkpoint: axes is auto, DHW or WHD, got {axes!r}")
    if not isinstance(minimum, int | float) or not 0 <= minimum <= 1:
        raise UsageError(f"checkpoint: minimum is a share from 0 to 1, got {minimum!r}")
    if patch is not None and not _is_grid(patch):
        raise UsageError(f"checkpoint: patch is (D, H, W) in voxels, as in patch=(96, 96, 96), got {patch!r}")
    if isinstance(leave, str):
        leave = tuple(name.strip() for name in leave.split(","))
    asked = Request(axes, variant, minimum, patch, prefix, tuple(leave))
    report = load_checkpoint(model, read_checkpoint(Path(path).expanduser()), ctx.structure, asked)
    ctx.report(report.summary(), report.as_json())


def _is_grid(patch: tuple[object, ...]) -> bool:
    """Returns whether a patch holds three whole numbers above 0."""
    for edge in patch:
        if not isinstance(edge, int) or edge <= 0:
            return False
    return len(patch) == 3


@initializer(paper="Tang et al., CVPR 2022, arXiv:2111.14791; LWI table IX", files=("path",), external=True)
def swin_ssl(model: nn.Module, ctx: InitContext, /, *, path: str) -> None:
    """The Swin encoder that Tang et al. trained without labels on 5,050 CT volumes (`path` is their ``model_swinvit.pt``).

    It is published in Project-MONAI/MONAI-extra-test-data, release 0.8.1, and needs ``swin-unetr(variant=legacy-merge-xyz)``.
    """
    report = load_checkpoint(model, read_checkpoint(Path(path).expanduser()), ctx.structure, Request())
    if report.part != "swinViT":
        raise UsageError(f"swin-ssl: {path} is no encoder of Tang et al. (it was read as {report.layout}); use checkpoint for it")
    ctx.report(report.summary(), report.as_json())
