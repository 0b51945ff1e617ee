"""``lsuv``: layer-sequential unit variance, from a batch of training patches and without a step of training.

Paper: Mishkin & Matas, "All you need is a good init", ICLR 2016, arXiv:1511.06422, algorithm 1: draw orthonormal weights, then,
layer by layer, divide a layer's weight by the standard deviation of its output until the variance is within the tolerance of
one. Tolerance and trials have the defaults of yobibyte/torch-lsuv:lsuv.lua.

What differs from the paper:

- One pass does it. The layers are linear, so a hook scales each where it is called and hands the scaled output on: when a layer
  is measured, all before it are done, as in the algorithm, which runs the whole network again for every layer and trial. A trial
  more repeats the layer alone; it takes one only where a bias that was kept does not scale with the weight.
- It looks at one batch of patches, the batch of step 0, where the authors draw one per trial. The seed decides it, as everything
  else.
- `orthogonal` says what the orthonormal maps are; the authors flatten every weight.

The network is in evaluation mode meanwhile: no dropout, and batch norms use the statistics that they were built with (mean 0,
variance 1) and keep them, so a layer's output is measured as if they were not there. Layers whose output does not vary or is
not finite stay orthonormal, as do those that no call reaches and bare projections, which no hook sees; the report names them.
Output heads are left to the harness.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from initbench.errors import UsageError
from initbench.initializers._layers import Bias, Scope, check_number, draw_layers, drawn_roles
from initbench.initializers.orthogonal import draw_orthogonal
from initbench.protocols import InitContext, initializer

LEAST = 1e-12
"""Variance below which an output does not vary: what is left is rounding, and scaling it up would make noise of it."""


@initializer(paper="Mishkin & Matas 2016, arXiv:1511.06422")
def lsuv(
    model: nn.Module,
    ctx: InitContext,
    /,
    *,
    tolerance: float = 0.1,
    iterations: int = 10,
    scope: Scope = "linear+conv",
    bias: Bias = "zero",
) -> None:
    """Orthonormal weights, scaled so that the output of every layer has variance 1 within `tolerance` on a batch of patches.

    Raises:
        UsageError: a parameter makes no sense, or there are no patches; nothing is changed then.
    """
    scaling = _Scaling(check_number("tolerance", tolerance), _count(iterations))
    patches = ctx.patches(0)  # before anything is changed: without data this is where it ends
    draw_layers(model, ctx, draw_orthogonal(model, 1.0), scope, bias)
    layers = _layers(model, ctx, scope)
    with _evaluation(model.to(ctx.device), ctx.device), scaling.hooked(layers):
        model(patches.image)
    model.to("cpu")
    for name in layers.values():
        if not scaling.has_seen(name):
            scaling.skipped[name] = "never called"
    for site in ctx.sites:
        if site.role == "projection" and site.role in drawn_roles(scope):
            scaling.skipped[site.name] = "no layer"
    ctx.report(scaling.summary(), scaling.as_json())


def _count(iterations: int) -> int:
    if iterations < 1:
        raise UsageError(f"iterations is a whole number from 1, got {iterations!r}")
    return iterations


def _layers(model: nn.Module, ctx: InitContext, scope: Scope) -> dict[nn.Module, str]:
    """Returns the layers in scope with the names of their weights; several layers may have one weight."""
    roles = drawn_roles(scope)
    heads = tuple(f"{head}." for head in ctx.structure.heads)
    names = {}
    for site in ctx.sites:
        if site.role in roles and not site.name.startswith(heads):
            names[id(model.get_parameter(site.name))] = site.name
    layers: dict[nn.Module, str] = {}
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) and id(layer.weight) in names:
            layers[layer] = names[id(layer.weight)]
    return layers


@contextlib.contextmanager
def _evaluation(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Puts a network into evaluation mode inside the block, keeps no gradient and rounds nothing to half precision."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass
class _Scaling:
    """Scales layers where they are called, and keeps what it did.

    Attributes:
        tolerance: largest distance of a variance from 1.
        iterations: most scalings of one layer.
        scaled: by weight, the variance that was found, the factor on the weight, and the variance after it.
        skipped: by weight, why it was left as it was drawn.
    """

    tolerance: float
    iterations: int
    scaled: dict[str, dict[str, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def has_seen(self, name: str) -> bool:
        """Returns whether a layer with this weight was called."""
        return name in self.scaled or name in self.skipped

    @contextlib.contextmanager
    def hooked(self, layers: Mapping[nn.Module, str]) -> Iterator[None]:
        """Scales each layer inside the block as soon as it is called."""

        def scale_once(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            """Scales the weight of a `layer` at its first use."""
            # A weight that is used again is final: what came after its first use was scaled with it.
            if self.has_seen(layers[layer]):
                return output
            return self.scale(layers[layer], layer, args, kwargs, output)

        with contextlib.ExitStack() as hooks:
            for layer in layers:
                handle = layer.register_forward_hook(scale_once, with_kwargs=True)
                hooks.callback(handle.remove)
            yield

    def scale(self, name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        """Divides the weight of a layer by the standard deviation of its output until the variance is 1.

        Args:
            name: of the weight.
            layer: the layer.
            args: of its call.
            kwargs: of its call.
            output: of its call.

        Returns:
            The output of the scaled layer.
        """
        found = _variance(output)
        if not (LEAST < found < math.inf):
            self.skipped[name] = f"output variance {found:.1e}"
            return output
        factor, variance = 1.0, found
        for _ in range(self.iterations):
            if abs(variance - 1) <= self.tolerance:
                break
            layer.weight.div_(math.sqrt(variance))  # type: ignore[operator]
            factor /= math.sqrt(variance)
            output = layer.forward(*args, **kwargs)
            variance = _variance(output)
        self.scaled[name] = {"found": found, "factor": factor, "variance": variance}
        return output

    def summary(self) -> str:
        """Returns a line for people."""
        missed = 0
        for row in self.scaled.values():
            if abs(row["variance"] - 1) > self.tolerance:
                missed += 1
        parts = [f"{len(self.scaled)} layers have output variance 1 within {self.tolerance:g}"]
        if missed:
            parts = [f"{len(self.scaled)} layers scaled, {missed} of them missed variance 1 ± {self.tolerance:g}"]
        if self.skipped:
            parts.append(f"{len(self.skipped)} left as drawn ({', '.join(sorted(set(self.skipped.values())))})")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """Returns what became of every layer, in the order of execution."""
        return {"scaled": self.scaled, "skipped": self.skipped}


def _variance(output: Tensor) -> float:
    return float(output.float().var(correction=0))
