"""Mixed precision of a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Precision = Literal["float32", "bf16"]


@contextlib.contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Inside the block there is bf16 autocast where `precision` asks for it, with a guard against a wrong CPU kernel."""
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), contextlib.ExitStack() as guard:
        if device.type == "cpu":
            guard.enter_context(ShallowConvolutionsInFloat32())
        yield


class ShallowConvolutionsInFloat32(TorchFunctionMode):
    """Computes 3-D convolutions on volumes shallower than their kernel in float32.

    oneDNN's bf16 weight gradient of a 3-D convolution with padding reads memory it never wrote where the volume is two slices
    deep and the kernel three (torch 2.15, AVX512_BF16): training turned NaN at a random step.
    tests/training/test_precision.py shows it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Intercepts conv3d alone."""
        named = kwargs or {}
        if func is functional.conv3d:
            operands = {**dict(zip(("input", "weight"), args, strict=False)), **named}
            if operands["input"].shape[2] < operands["weight"].shape[2]:
                with torch.autocast("cpu", enabled=False):
                    args = [_float(value) for value in args]
                    named = {key: _float(value) for key, value in named.items()}
                    return func(*args, **named)
        return func(*args, **named)


def _float(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.float()
    return value
