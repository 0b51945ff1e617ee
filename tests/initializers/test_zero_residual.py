"""``zero-residual``: with the declared exits at zero every residual block is its shortcut, and nothing else has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

import initbench
from initbench import registry
from initbench.backbones import nnformer, unetrpp
from initbench.errors import UsageError
from initbench.protocols import BackboneInfo, structure_of
from initbench.spec import Spec
from tests.networks import patch_of, tiny

CASES = (
    "unetr",
    "unetrpp",
    "unetrpp(variant=lung)",
    "unetrpp(variant=tumor)",
    "swin-unetr(variant=legacy-merge-xyz)",
    "nnformer",
    "nnformer(variant=acdc)",
)
each_case = pytest.mark.parametrize("case", CASES)


def built(case: str, *, init: str | None = "zero-residual") -> nn.Module:
    model = tiny(case, seed=0)
    if init is not None:
        initbench.initialize(model, init, device="cpu")
    return model


def image(case: str) -> Tensor:
    return torch.rand(2, 1, *patch_of(case), generator=torch.Generator().manual_seed(1))


def shortcuts(model: nn.Module) -> Iterator[tuple[str, nn.Module, Callable[..., Tensor]]]:
    """Every residual block and what it is without its branches, found by class and written down once more."""
    from monai.networks.blocks.dynunet_block import UnetResBlock
    from monai.networks.blocks.transformerblock import TransformerBlock
    from monai.networks.nets.swin_unetr import SwinTransformerBlock

    for name, module in model.named_modules():
        if isinstance(module, TransformerBlock | SwinTransformerBlock | unetrpp.TransformerBlock):
            yield name, module, lambda x, *_: x
        elif isinstance(module, nnformer.Block):
            yield name, module, lambda x, skip=None: x if skip is None else x + skip
        elif isinstance(module, UnetResBlock | unetrpp.ResBlock):
            yield name, module, lambda x, module=module: leaky_relu(_shortcut(module, x), 0.01)


def _shortcut(block: Any, x: Tensor) -> Tensor:
    return block.norm3(block.conv3(x)) if hasattr(block, "conv3") else x


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@each_case
def test_every_residual_block_is_its_shortcut_exactly(case: str, training: bool) -> None:
    model = built(case).train(training)
    found: dict[str, bool] = {}

    def compare(name: str, expected: Callable[..., Tensor]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            found[name] = torch.equal(output, expected(*inputs))

        return hook

    blocks = list(shortcuts(model))
    for name, module, expected in blocks:
        module.register_forward_hook(compare(name, expected))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        model(image(case))
    assert len(blocks) >= 12
    assert {name for name, _, _ in blocks if not found[name]} == set()


@each_case
def test_without_it_no_block_is(case: str) -> None:
    """The comparison above can fail: as constructed, every block does more than its shortcut."""
    model = built(case, init=None).eval()
    same: set[str] = set()

    def hook(name: str, expected: Callable[..., Tensor]) -> Callable[..., None]:
        return lambda module, inputs, output: same.add(name) if torch.equal(output, expected(*inputs)) else None

    for name, module, expected in shortcuts(model):
        module.register_forward_hook(hook(name, expected))
    with torch.no_grad():
        model(image(case))
    assert same == set()


@each_case
def test_every_exit_belongs_to_a_residual_block_and_every_block_has_one(case: str) -> None:
    model = built(case, init=None)
    exits = structure_of(model).residual_exits
    assert len(set(exits)) == len(exits)
    assert set(exits) <= {name for name, _ in model.named_parameters()}
    blocks = {name for name, _, _ in shortcuts(model)}
    owners = {max((b for b in blocks if exit_name.startswith(f"{b}.")), key=len, default="") for exit_name in exits}
    assert owners == blocks


@each_case
def test_what_is_inside_a_branch_does_not_reach_the_output(case: str) -> None:
    """Weights inside residual branches, all but the exits, may be anything."""
    model = built(case).eval()
    exits = set(structure_of(model).residual_exits)
    inside = tuple(f".{part}." for part in ("qkv", "kv", "qkvv", "out_proj2", "linear1", "fc1", "conv51.conv1", "conv52.conv1"))
    with torch.no_grad():
        before = model(image(case))
        moved = [p for name, p in model.named_parameters() if any(part in name for part in inside) and name not in exits]
        for parameter in moved:
            parameter.mul_(3).add_(0.1)
        after = model(image(case))
    assert moved
    assert torch.equal(before, after)


@each_case
def test_everything_else_stays_bit_for_bit(case: str) -> None:
    plain, zeroed = built(case, init="default"), built(case)
    exits = set(structure_of(plain).residual_exits)
    for name, parameter in zeroed.named_parameters():
        assert torch.equal(parameter, torch.zeros_like(parameter) if name in exits else plain.get_parameter(name)), name
    buffers = dict(plain.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in zeroed.named_buffers())


@each_case
def test_every_exit_learns(case: str) -> None:
    """At zero an exit has a gradient of its own, or gets one with the first step of the exit that it lies behind."""
    model = built(case).train()
    exits = structure_of(model).residual_exits
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    silent = set(exits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(3):
            optimizer.zero_grad()
            model(image(case)).square().mean().backward()
            gradients = {name: model.get_parameter(name).grad for name in exits}
            assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
            silent -= {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
            optimizer.step()
    assert silent == set()


def test_every_backbone_of_the_catalog_declares_exits_or_is_refused() -> None:
    elsewhere = {"omnia-net", "dx-net", "ds-net"}  # in tests/backbones/test_cross_dimensional.py
    elsewhere |= {"transunet", "swin-unet", "missformer"}  # in tests/backbones/test_slice_baselines.py
    assert {case.partition("(")[0] for case in CASES} | elsewhere == set(registry.names("backbone")) - {"unet", "unet-2d"}
    info = registry.find("backbone", Spec("unet")).target.info
    assert isinstance(info, BackboneInfo)
    model = initbench.build("unet", in_channels=1, num_classes=2, patch_size=(16, 16, 16), size="tiny")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(UsageError, match="zero-residual: unet declares no exits of residual branches"):
        initbench.initialize(model, "zero-residual", device="cpu")
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_a_network_of_ones_own_is_refused_by_its_class() -> None:
    with pytest.raises(UsageError, match="Sequential declares no exits"):
        initbench.initialize(nn.Sequential(nn.Linear(2, 2)), "zero-residual", device="cpu")


def test_it_reports_the_exits() -> None:
    coverage = initbench.initialize(built("nnformer(variant=acdc)", init=None), "zero-residual", device="cpu")
    assert coverage["report"]["summary"] == "56 exits of residual branches are zero"
    assert len(coverage["report"]["exits"]) == 56


def first_gradients(init: str, steps: int) -> list[float]:
    model = built("unetr(variant=perceptron)", init=init).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = image("unetr(variant=perceptron)")
    y = (nn.functional.avg_pool3d(x, 5, 1, 2) > 0.5).long()[:, 0]
    norms = []
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        norms.append(float(nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)))
        optimizer.step()
    return norms


def test_a_norm_without_parameters_magnifies_the_first_gradients_only() -> None:
    """Zero before it is exact, and 1/√ε is the price: the decisions on initializers say how much, and for how long."""
    plain, zeroed = first_gradients("default", 1), first_gradients("zero-residual", 10)
    assert 30 < zeroed[0] / plain[0] < 316
    assert zeroed[-1] < 3 * plain[0]
