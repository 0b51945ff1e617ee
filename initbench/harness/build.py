"""Networks by name, constructed from the `construct` stream, with heads redrawn from the `head` stream."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from torch import nn

from initbench import registry, seeding, spec
from initbench.errors import UsageError
from initbench.harness.process_state import contained
from initbench.protocols import BackboneInfo, Grid, Size, structure_of
from initbench.registry import Component

if TYPE_CHECKING:
    from initbench.harness.cell import Draft


def build(
    name: str,
    *,
    in_channels: int,
    num_classes: int,
    patch_size: Grid,
    size: Size = "paper",
    variant: str | None = None,
    deep_supervision: bool = False,
    seed: int = 0,
    draw: str = "",
) -> nn.Module:
    """Constructs a backbone as its authors do, on the CPU; the global torch generator is left as it was.

    Args:
        name: registered name, ``./file.py:function``, or either with a variant: ``unetr(variant=conv)``.
        in_channels: channels of the image.
        num_classes: classes with background.
        patch_size: (D, H, W) of the training patch.
        size: ``paper`` (the published network) or ``tiny``.
        variant: published variant, the first one by default.
        deep_supervision: return a list of logits, finest first.
        seed: root seed of the `construct` stream.
        draw: name of another draw from it, for a placebo.

    Raises:
        UsageError: unknown name, variant, size, or a patch that does not fit; names what does.
    """
    component = registry.find("backbone", spec.parse(name))
    named = component.params["variant"]
    if named is not None and variant not in (None, named):
        raise UsageError(f"{name} names the variant {named}, and variant={variant!r} is asked for: name one of them")
    return construct(
        component,
        in_channels=in_channels,
        num_classes=num_classes,
        patch_size=patch_size,
        size=size,
        variant=variant or named,
        deep_supervision=deep_supervision,
        seed=seed,
        draw=draw,
    )


def construct(backbone: Component[BackboneInfo], *, seed: int = 0, draw: str = "", **arguments: Any) -> nn.Module:
    """Constructs the network of a loaded backbone, on the CPU.

    Args:
        backbone: the loaded component.
        seed: root seed of the `construct` stream.
        draw: name of another draw from it, for a placebo.
        **arguments: as `initbench.protocols.Backbone` takes them.

    Raises:
        UsageError: a variant, size or patch that does not fit; names what does.
        MisbehavedError: a backbone that is not built in wants to end the process, or changed its settings.
    """
    name = backbone.spec.name
    draws = []
    if draw:
        draws.append(draw)
    with contextlib.ExitStack() as around:
        if backbone.source_digest is not None:
            around.enter_context(contained(f"backbone {name}", lambda note: None))
        around.enter_context(seeding.forked(seed, "construct", *draws))
        try:
            model = backbone.target(**arguments)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if not isinstance(model, nn.Module):
        raise UsageError(f"backbone {name!r} gave {type(model).__name__} and no torch.nn.Module; return a module")
    structure_of(model)
    return model


def build_for(cell: Draft, *, seed: int = 0, draw: str = "") -> nn.Module:
    """Constructs the network of a cell, before or after its data are read; `seed` and `draw` as in `construct`."""
    return construct(
        cell.backbone,
        in_channels=cell.in_channels,
        num_classes=cell.out_channels,
        patch_size=cell.recipe.patch.size,
        size=cell.request.size,
        variant=cell.variant,
        deep_supervision=cell.recipe.loss.deep_supervision,
        seed=seed,
        draw=draw,
    )


def redraw_heads(model: nn.Module, heads: tuple[str, ...], seed: int) -> None:
    """Redraws the output heads by their layers' own law from the `head` stream: every init of a seed has the same ones.

    Args:
        model: the network, whose heads are changed in place.
        heads: dotted names of the modules.
        seed: root seed of the stream.
    """
    for head in heads:
        for name, module in model.get_submodule(head).named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                with seeding.forked(seed, "head", f"{head}.{name}"):
                    reset()
