"""What an initializer touched, measured; and what it must not touch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import initbench
from initbench.errors import InitbenchError
from initbench.harness.coverage import Coverage, state_digest, tensor_digest


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.ModuleDict(
            {
                "encoder": nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4)),
                "decoder": nn.ConvTranspose3d(4, 2, 2, stride=2),
            }
        )


def test_shares_and_names_are_measured() -> None:
    model = network()
    before = Coverage(model)
    with torch.no_grad():
        model.get_parameter("encoder.0.weight").mul_(2)  # 108 of encoder 108 + 4 + 4 + 4 and decoder 64 + 2
        model.get_parameter("decoder.weight")[0, 0, 0, 0, 0] += 1  # one value moves its whole tensor
        model.get_buffer("encoder.1.running_mean").add_(1)
    found = before.compare(model, "mine")
    assert found["changed_share"] == pytest.approx((108 + 64) / 186)
    assert found["groups"] == pytest.approx({"encoder": 108 / 120, "decoder": 64 / 66})
    assert found["unchanged"] == ["encoder.0.bias", "encoder.1.weight", "encoder.1.bias", "decoder.bias"]
    assert found["buffers_changed"] == ["encoder.1.running_mean"]


def test_default_changes_nothing() -> None:
    model = network()
    digest = state_digest(model)
    found = initbench.initialize(model, "default")
    assert found["changed_share"] == 0
    assert found["groups"] == {"encoder": 0, "decoder": 0}
    assert found["unchanged"] == [name for name, _ in model.named_parameters()]
    assert state_digest(model) == digest


def test_a_value_written_anew_is_no_change() -> None:
    model = network()
    before = Coverage(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.clone())
    assert before.compare(model, "mine")["changed_share"] == 0


def _shape(model: nn.Module) -> None:
    model["decoder"].bias.data = torch.zeros(3)


def _frozen(model: nn.Module) -> None:
    model["decoder"].bias.requires_grad_(False)


def _nan(model: nn.Module) -> None:
    model["decoder"].bias.data[1] = torch.nan


def _infinite(model: nn.Module) -> None:
    model["decoder"].bias.data[0] = torch.inf


def _untied(model: nn.Module) -> None:
    model["extra"].weight = nn.Parameter(model["extra"].weight.detach().clone())


def _tied(model: nn.Module) -> None:
    model["encoder"][1].bias = model["encoder"][1].weight


def _gone(model: nn.Module) -> None:
    model["decoder"].bias = None


def _more(model: nn.Module) -> None:
    model["decoder"].scale = nn.Parameter(torch.ones(1))


def _away(model: nn.Module) -> None:
    model["encoder"].to("meta")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_shape, "shape, dtype or requires_grad of decoder.bias"),
        (_frozen, "shape, dtype or requires_grad of decoder.bias"),
        (_nan, "values in decoder.bias that are not finite"),
        (_infinite, "values in decoder.bias that are not finite"),
        (_untied, "names or ties"),
        (_tied, "names or ties"),
        (_gone, "names or ties"),
        (_more, "names or ties"),
        (_away, "on meta"),
    ],
)
def test_a_broken_contract_is_refused_by_name(harm: Callable[[nn.Module], None], message: str) -> None:
    model = network()
    model["extra"] = nn.ConvTranspose3d(4, 2, 2, stride=2)
    model["extra"].weight = model["decoder"].weight
    before = Coverage(model)
    before.compare(model, "clumsy")
    harm(model)
    with pytest.raises(InitbenchError, match=message) as caught:
        before.compare(model, "clumsy")
    assert "initializer clumsy" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_digest_tells_bits_types_and_shapes_apart(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype)
    same = tensor.t().contiguous().t()  # other strides
    other = tensor.clone()
    other[0, 0] = 1
    assert tensor_digest(tensor) == tensor_digest(same)
    assert len({tensor_digest(item) for item in (tensor, other, tensor.reshape(3, 2), tensor.flatten())}) == 4
    assert tensor_digest(torch.zeros(2)) != tensor_digest(torch.zeros(2, dtype=torch.int32))
    assert tensor_digest(torch.zeros(2)) != tensor_digest(-torch.zeros(2))
    assert tensor_digest(torch.tensor(1)) != tensor_digest(torch.tensor([1]))


def test_a_state_digest_covers_weights_and_buffers() -> None:
    model = network()
    digest = state_digest(model)
    assert state_digest(network()) == digest
    model.get_buffer("encoder.1.running_var").add_(1)
    assert state_digest(model) != digest
