"""``orthogonal``: the maps that layers compute are semi-orthogonal, whatever the layout of their weights, and Haar-uniform."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import initbench
from initbench import seeding
from initbench.protocols import Structure


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def orthogonal(model: nn.Module, init: str = "orthogonal", *, seed: int = 0) -> nn.Module:
    initbench.initialize(model, init, seed=seed, device="cpu")
    return model


def jacobian(layer: nn.Module, edge: int) -> Tensor:
    """The matrix of a layer on a volume of `edge`³ voxels, (outputs, inputs), by calling it on every unit vector.

    Outputs at the borders, which sum less than the others, are left out.
    """
    channels = layer.weight.shape[0] if isinstance(layer, nn.ConvTranspose3d) else layer.weight.shape[1] * layer.groups  # type: ignore[operator, union-attr]
    inputs = torch.eye(channels * edge**3).reshape(-1, channels, edge, edge, edge)
    with torch.no_grad():
        output = layer(inputs)
    if isinstance(layer, nn.ConvTranspose3d):
        reach = [k - 1 for k in layer.kernel_size]
        sizes = output.shape[2:]
        d, h, w = (slice(r, n - r) for r, n in zip(reach, sizes, strict=True))
        output = output[:, :, d, h, w]
    return output.flatten(1).T


LAYERS = {
    "wide conv": (nn.Conv3d(3, 8, 2, bias=False), 2),
    "narrow conv": (nn.Conv3d(3, 40, 2, bias=False), 2),
    "strided conv": (nn.Conv3d(2, 8, 2, stride=2, bias=False), 4),
    "grouped conv": (nn.Conv3d(4, 8, 2, groups=2, bias=False), 2),
    "depthwise conv": (nn.Conv3d(4, 4, 3, groups=4, bias=False), 3),
    "up, narrowing": (nn.ConvTranspose3d(8, 4, 2, stride=2, bias=False), 3),
    "up, widening": (nn.ConvTranspose3d(4, 8, 2, stride=2, bias=False), 3),
    "up, grouped": (nn.ConvTranspose3d(8, 4, 2, stride=2, groups=2, bias=False), 3),
    "up, anisotropic": (nn.ConvTranspose3d(6, 4, (1, 2, 4), stride=(1, 2, 4), bias=False), 3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_output_voxel_is_a_semi_orthogonal_map_of_what_it_sums(name: str) -> None:
    layer, edge = LAYERS[name]
    matrix = jacobian(orthogonal(layer), edge)
    out = layer.weight.shape[1 if isinstance(layer, nn.ConvTranspose3d) else 0]
    channels = out * (layer.groups if isinstance(layer, nn.ConvTranspose3d) else 1)
    per_voxel = matrix.reshape(channels, -1, matrix.shape[1]).transpose(0, 1)
    for rows in per_voxel:
        assert semi_orthogonal_by_group(rows, layer.groups)


def semi_orthogonal_by_group(rows: Tensor, groups: int) -> bool:
    """Whether the rows of each group, without the inputs that they do not see, are a matrix with orthonormal rows or columns."""
    for part in rows.chunk(groups):
        seen = part[:, part.abs().sum(0) > 0]
        short = seen @ seen.T if seen.shape[0] <= seen.shape[1] else seen.T @ seen
        if not torch.allclose(short, torch.eye(len(short)), atol=1e-5):
            return False
    return True


@pytest.mark.parametrize(
    ("layer", "fan"),
    [
        (nn.Conv3d(24, 16, 3, bias=False), 24 * 27),
        (nn.Conv3d(24, 16, 3, groups=2, bias=False), 12 * 27),
        (nn.ConvTranspose3d(32, 16, 2, stride=2, bias=False), 32),
        (nn.ConvTranspose3d(32, 16, 4, stride=2, bias=False), 32 * 8),
        (nn.ConvTranspose3d(32, 16, 3, stride=2, bias=False), 32),  # at its poorest position
        (nn.ConvTranspose3d(32, 16, 3, stride=2, dilation=2, bias=False), 32),
        (nn.ConvTranspose3d(32, 32, 4, stride=2, groups=2, bias=False), 16 * 8),
    ],
    ids=str,
)
def test_a_unit_input_stays_one_at_every_position(layer: nn.Module, fan: int) -> None:
    """No more outputs than inputs to each, so the rows are orthonormal: every output voxel has the variance of the inputs."""
    orthogonal(layer)
    assert layer.weight.shape[0] <= fan  # type: ignore[operator, union-attr]
    with torch.no_grad():
        output = layer(noise(6, 24 if isinstance(layer, nn.Conv3d) else 32, 12, 12, 12, seed=1))
    if isinstance(layer, nn.Conv3d):
        assert float(output.var()) == pytest.approx(1, rel=0.02)
        return
    if layer.dilation == (2, 2, 2):  # of a stride of two only the even positions are written to
        assert not output[:, :, 1::2].any()
        assert float(output[:, :, 6:-6:2, 6:-6:2, 6:-6:2].var()) == pytest.approx(1, rel=0.04)
        return
    for d, h, w in ((0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)):
        inner = output[:, :, 4 + d : -4 : 2, 4 + h : -4 : 2, 4 + w : -4 : 2]
        assert float(inner.var()) == pytest.approx(1, rel=0.04)


def test_torchs_own_matrix_of_a_transposed_convolution_would_not_pass() -> None:
    layer, edge = nn.ConvTranspose3d(8, 4, 2, stride=2, bias=False), 3
    nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(0))
    matrix = jacobian(layer, edge).reshape(4, -1, 8 * edge**3).transpose(0, 1)
    assert not semi_orthogonal_by_group(matrix[0], 1)


def test_a_bare_projection_is_a_map_from_its_first_axis() -> None:
    for shape in ((40, 12), (12, 40)):
        model = nn.Module()
        model.mix = nn.Parameter(torch.zeros(shape))
        model.structure = Structure((8, 8, 8), (), (), projections=("mix",))
        mix = orthogonal(model).get_parameter("mix").detach()
        short = mix.T @ mix if shape[0] >= shape[1] else mix @ mix.T
        assert torch.allclose(short, torch.eye(12), atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(30, 50), nn.Linear(50, 30), nn.Conv3d(4, 20, 3, bias=False)], ids=str)
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_linear_layers_and_plain_convolutions_are_torchs(layer: nn.Module, gain: float) -> None:
    own = "orthogonal" if gain == 1 else f"orthogonal(gain={gain})"
    orthogonal(nn.ModuleDict({"layer": layer}), own)
    generator = seeding.torch_generator(0, "init", own, "layer.weight")
    expected = nn.init.orthogonal_(torch.empty_like(layer.weight), gain, generator=generator)  # type: ignore[arg-type]
    assert torch.equal(layer.weight, expected)  # type: ignore[arg-type]


def test_maps_of_one_weight_are_independent() -> None:
    up = orthogonal(nn.ConvTranspose3d(40, 20, 2, stride=2, groups=2)).weight.detach()
    first, second = up[:20, :, 0, 0, 0].flatten(), up[:20, :, 1, 0, 0].flatten()
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.2
    assert abs(float(torch.corrcoef(torch.stack([first, up[20:, :, 0, 0, 0].flatten()]))[0, 1])) < 0.2


def entry(n: int) -> stats.rv_continuous:
    """The law of an entry of a Haar-uniform n x n matrix: a coordinate of a uniform point on the sphere."""
    return stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)


@pytest.mark.parametrize(
    ("layer", "n"),
    [
        (nn.Linear(160, 120), 160),
        (nn.Conv3d(12, 40, 3), 12 * 27),
        (nn.Conv3d(24, 48, 3, groups=2), 12 * 27),
        (nn.ConvTranspose3d(64, 24, 2, stride=2), 64),
        (nn.ConvTranspose3d(16, 12, 4, stride=2), 16 * 8),
    ],
    ids=str,
)
def test_entries_follow_the_law_of_a_uniform_matrix(layer: nn.Module, n: int) -> None:
    values = orthogonal(layer).get_parameter("weight").detach().flatten().double().numpy()
    assert values.size >= 10_000
    assert stats.kstest(values, entry(n).cdf).pvalue > 1e-3
    assert stats.kstest(values * math.sqrt(2), entry(n).cdf).pvalue < 1e-12
    assert stats.kstest(values, entry(2 * n).cdf).pvalue < 1e-12


def test_signs_are_nobodys() -> None:
    """The trace of a Haar-uniform matrix has mean 0 and variance 1; with LAPACK's own signs its mean is far from 0."""
    model = orthogonal(nn.ModuleList(nn.Linear(6, 6) for _ in range(1500)))
    traces = torch.stack([layer.weight.detach().trace() for layer in model])
    assert abs(float(traces.mean())) < 4 / math.sqrt(1500)
    assert float(traces.var()) == pytest.approx(1, rel=0.2)
    raw = torch.stack([torch.linalg.qr(noise(6, 6, seed=seed)).Q.trace() for seed in range(300)])
    assert abs(float(raw.mean())) > 1
