"""The probe, a network made to show what initializers do, and its twin with everything in another order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from initbench.protocols import PatchRule
from initbench.spec import parse
from initbench.validation import probe
from initbench.validation.backbones.subject import subjects
from initbench.validation.backbones.suite import validate
from initbench.validation.inits.subject import BACKBONES, init_subjects
from initbench.validation.inits.trials import trial, turn
from initbench.validation.material import PROBE, network, small_patch
from tests.checks import failed


def test_the_probe_keeps_the_promises_of_a_backbone() -> None:
    [found] = subjects(parse(f"{probe.__file__}:probe"))
    assert failed(validate(found)) == {}


def test_the_probe_has_what_initializers_meet() -> None:
    roles = {site.role for site in trial(init_subjects(parse("default"), [PROBE])[0]).ctx.sites}
    trial.cache_clear()
    assert roles == {"linear", "conv", "transposed-conv", "projection", "bias", "norm", "other"}
    model = network(PROBE).call()
    assert len(list(model.named_parameters(remove_duplicate=False))) == len(list(model.parameters())) + 1
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["frozen"]
    assert {m.groups for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)} == {1, 2}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_turned_network_is_the_same_network(name: str) -> None:
    own = network(name)
    model, straight = own.call(), own.call()
    turned, possible = turn(model, own.image())
    names = [key for key, _ in straight.named_parameters()]
    assert possible
    assert sorted(names) == sorted(key for key, _ in turned.named_parameters())
    assert names != [key for key, _ in turned.named_parameters()]
    assert all(torch.equal(value, straight.state_dict()[key]) for key, value in turned.state_dict().items())
    assert all(module.training for module in turned.modules())


class Ordered(nn.Module):
    """Computes in the order of registration, without being a container."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x


def test_a_network_that_computes_in_the_order_of_registration_is_left_alone() -> None:
    model, turned = turn(Ordered(), torch.rand(1, 2))
    assert not turned
    assert [name for name, _ in model.named_children()] == ["first", "second"]


@pytest.mark.parametrize(
    ("rule", "patch"),
    [
        (PatchRule((4, 4, 4)), (16, 16, 16)),
        (PatchRule((16, 16, 16)), (32, 16, 32)),
        (PatchRule((16, 32, 32), least=(32, 64, 64)), (32, 64, 64)),
        (PatchRule((4, 32, 32), (2, 0, 0), (6, 1, 1)), (18, 32, 64)),
    ],
)
def test_small_patches(rule: PatchRule, patch: tuple[int, int, int]) -> None:
    assert small_patch(rule) == patch
