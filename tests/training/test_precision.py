"""bf16 on the CPU: a wrong kernel of oneDNN is kept out, and nothing else is."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from initbench.training.precision import Precision, autocast

CPU = torch.device("cpu")
REPEATS = 5


def junk() -> None:
    """Leaves NaN in freed memory of many sizes, for whoever reads what it never wrote."""
    held = [torch.full((2**k,), torch.nan, dtype=dtype) for k in range(8, 22) for dtype in (torch.bfloat16, torch.float32)]
    del held


def gradient(shape: tuple[int, int, int], context: contextlib.AbstractContextManager[None], kernel: int = 3) -> Tensor:
    """Weight gradient of a padded convolution."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv3d(16, 16, kernel, padding=kernel // 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 20)
    x, t = (torch.randn(2, 16, *shape, generator=generator) for _ in range(2))
    junk()
    with context:
        output = layer(x)
    (output.float() * t).sum().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, 8, 8), 3),
        ((2, 16, 16), 3),
        ((2, 2, 2), 3),
        ((1, 8, 8), 3),
        ((3, 8, 8), 3),
        ((4, 8, 8), 3),
        ((8, 2, 8), 3),
        ((8, 8, 2), 3),
        ((8, 1, 8), 3),
        ((2, 8, 8), 5),
        ((4, 8, 8), 5),
        ((5, 8, 8), 5),
        ((2, 8, 8), 1),
    ],
)
def test_the_gradient_is_right_and_repeats(shape: tuple[int, int, int], kernel: int) -> None:
    expected = gradient(shape, autocast(CPU, "float32"), kernel)
    found = [gradient(shape, autocast(CPU, "bf16"), kernel) for _ in range(REPEATS)]
    assert error(found[0], expected) < 0.02
    assert all(torch.equal(item, found[0]) for item in found)


def test_the_guard_is_still_needed() -> None:
    """Skipped where the kernel is right: once it is right everywhere, the guard can go."""
    expected = gradient((2, 8, 8), autocast(CPU, "float32"))
    found = [gradient((2, 8, 8), torch.autocast("cpu", torch.bfloat16)) for _ in range(REPEATS)]
    if all(error(item, expected) < 0.02 for item in found):
        pytest.skip("torch's own bf16 gradient is right on this CPU")
    assert error(gradient((2, 8, 8), autocast(CPU, "bf16")), expected) < 0.02


@pytest.mark.parametrize(
    ("precision", "depth", "dtype"),
    [
        ("bf16", 3, torch.bfloat16),
        ("bf16", 8, torch.bfloat16),
        ("bf16", 2, torch.float32),
        ("float32", 2, torch.float32),
        ("float32", 8, torch.float32),
    ],
)
def test_only_shallow_convolutions_leave_bf16(precision: Precision, depth: int, dtype: torch.dtype) -> None:
    layer = nn.Conv3d(2, 2, 3, padding=1)
    with torch.no_grad(), autocast(CPU, precision):
        assert layer(torch.zeros(1, 2, depth, 4, 4)).dtype == dtype
        # a layer before it hands over bf16
        assert layer(layer(torch.zeros(1, 2, depth, 4, 4))).dtype == dtype


def test_other_layers_run_in_bf16_on_shallow_volumes() -> None:
    shallow = torch.zeros(1, 2, 2, 4, 4)
    with torch.no_grad(), autocast(CPU, "bf16"):
        assert nn.Conv3d(2, 2, 1)(shallow).dtype == torch.bfloat16
        assert nn.Conv3d(2, 2, (1, 3, 3), padding=(0, 1, 1))(shallow).dtype == torch.bfloat16
        assert nn.ConvTranspose3d(2, 2, 2, stride=2)(shallow).dtype == torch.bfloat16
        assert nn.Linear(4, 4)(shallow).dtype == torch.bfloat16
        assert nn.Conv2d(2, 2, 3, padding=1)(shallow[:, :, 0]).dtype == torch.bfloat16


def test_every_way_to_call_a_convolution_is_guarded() -> None:
    x, weight = torch.zeros(1, 2, 2, 4, 4), torch.zeros(2, 2, 3, 3, 3)
    with torch.no_grad(), autocast(CPU, "bf16"):
        assert functional.conv3d(x, weight, padding=1).dtype == torch.float32
        assert functional.conv3d(input=x, weight=weight, padding=1).dtype == torch.float32
        assert functional.conv3d(x, weight=weight, padding=1).dtype == torch.float32


def test_nothing_stays_behind() -> None:
    with autocast(CPU, "bf16"):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    with torch.no_grad():
        assert nn.Conv3d(2, 2, 3, padding=1)(torch.zeros(1, 2, 4, 4, 4)).dtype == torch.float32
