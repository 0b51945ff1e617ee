"""MedContext against recordings of the release: one whole training step in float64, and masked outputs of its nnFormer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from initbench.backbones import nnformer, unetr
from initbench.harness.regimens import Context
from initbench.protocols import structure_of
from initbench.recipes.settings import Loss
from initbench.regimens import medcontext
from tests.recordings import Json, check_outputs, mean_square, recorded_input, recorded_weight
from tests.regimens.stages import CPU, Batch, trained
from tests.shared_data import shared


def recording(name: str, kind: str) -> Json:
    loaded: Json = json.loads(shared("parity", f"{name}.{kind}.json").read_text())
    return loaded


class Recorded:
    """Hides the recorded columns of the last two axes, in every plane of the first."""

    def __init__(self, grid: list[int], columns: list[int]) -> None:
        plane = torch.zeros(grid[1] * grid[2], dtype=torch.bool)
        plane[columns] = True
        self.mask = plane.reshape(1, grid[1], grid[2]).expand(grid)

    def draw(self, rng: np.random.Generator) -> Tensor:
        return self.mask


class MonaiLoss(Context):
    """The loss of the recording. It is ours up to 2e-8: MONAI squares a norm of the labels that it takes in float32."""

    def supervised(self, output: Any, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)(
            output, label[:, None]
        )
        own, _ = super().supervised(output, label)
        assert float(own.detach()) == pytest.approx(float(loss.detach()), abs=2e-8)
        return loss, {}


class Once:
    """The recorded batch."""

    def __init__(self, image: Tensor, label: Tensor) -> None:
        self.only = Batch(image, label)

    def batch(self, step: int) -> Batch:
        return self.only


def released(name: str) -> str:
    """The key of the release, whose vision transformer has no prefix."""
    return name.removeprefix("vit.")


def step_of_unetr(name: str) -> tuple[Json, Any]:
    """The recorded step and our task before it, in float64."""
    expected, network = recording(name, "step"), recording(name, "keys")
    d, h, w = network["crop"]
    channels = expected["input_shape"][1]
    widths = unetr.Widths(feature_size=8, hidden=48, mlp=96, heads=4)
    model = unetr.build_unetr(channels, network["classes"], (d, h, w), variant="perceptron", widths=widths)
    for key, tensor in model.state_dict().items():
        tensor.copy_(torch.from_numpy(recorded_weight(released(key), tuple(tensor.shape))))
    shape = expected["input_shape"]
    image = np.random.Generator(np.random.PCG64(1234)).standard_normal(math.prod(shape)).astype(np.float32).reshape(shape)
    label = np.random.Generator(np.random.PCG64(4321)).integers(0, network["classes"], size=(shape[0], *shape[2:]))
    assert label.sum() == expected["label_sum"]
    sampler = Once(torch.from_numpy(image).double(), torch.from_numpy(label))
    ctx = MonaiLoss(model.double(), structure_of(model), CPU, steps=1, root=0, loss=Loss(), sampler=sampler)  # type: ignore[arg-type]
    task = medcontext.medcontext(ctx, beta=expected["beta"])
    task.hidden = Recorded(expected["mask"]["grid"], expected["mask"]["masked_columns"])
    task.module.double()
    with torch.no_grad():
        task.module.mask_token.copy_(torch.from_numpy(recorded_weight("mask_token", (1, 1, 48))).flatten())
        for parameter in task.teacher.parameters():
            parameter.mul_(0.9)
    return expected, task


def test_a_whole_step_of_unetr() -> None:
    expected, task = step_of_unetr("medcontext_unetr_tiny")
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    task.network.register_forward_hook(lambda module, inputs, output: seen["student"].append(output.detach()))
    task.teacher.register_forward_hook(lambda module, inputs, output: seen["teacher"].append(output))
    [row] = trained(task, steps=1).curve
    (whole, masked), [teacher] = seen["student"], seen["teacher"]
    check_outputs([whole], [expected["outputs_student_unmasked"]], 1e-10)
    check_outputs([masked], [expected["outputs_student_masked"]], 1e-10)
    check_outputs([teacher], [expected["outputs_teacher"]], 1e-10)
    exact = {"rel": 0, "abs": 1e-10}
    assert float(medcontext.consistency(teacher, masked, "mean")) == pytest.approx(expected["mse_mean"], **exact)
    assert float(teacher.norm()) == pytest.approx(expected["teacher_norm"], **exact)
    assert row["sup"] == pytest.approx(expected["supervised_unmasked"], **exact)
    assert row["sup_masked"] == pytest.approx(expected["supervised_masked"], **exact)
    assert row["consistency"] == pytest.approx(expected["consistency"], **exact)
    assert row["loss"] == pytest.approx(expected["total"], **exact)

    gradients = {released(name): parameter.grad for name, parameter in task.network.named_parameters()}
    gradients["mask_token"] = task.module.mask_token.grad
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items() if gradient is not None}
    assert norms.keys() == expected["grad_l2"].keys()
    for name, norm in expected["grad_l2"].items():
        assert norms[name] == pytest.approx(norm, rel=1e-8), name

    for name, parameter in task.teacher.named_parameters():
        if released(name) in expected["after"]["teacher_l2"]:
            recorded = expected["after"]["teacher_l2"][released(name)]
            assert float(parameter.norm()) == pytest.approx(recorded, rel=0, abs=1e-12 * max(1, recorded)), name
    assert row["consistency"] * expected["beta"] / row["loss"] == pytest.approx(3.0e-5, rel=0.01), "as the documentation says"


def test_hidden_tokens_of_nnformer() -> None:
    name = "medcontext_nnformer_synapse_tiny"
    expected = recording(name, "forward")
    d, h, w = recording(name, "keys")["crop"]
    widths = nnformer.Widths(24, 3, nnformer.WIDTHS["paper"]["synapse"].windows)
    model = nnformer.NNFormer(1, expected["classes"], (d, h, w), variant="synapse", widths=widths, deep_supervision=True).eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(recorded_weight(key, tuple(tensor.shape))))
    token = torch.from_numpy(recorded_weight("model_down.mask_token", (1, 1, 24))).flatten().double().requires_grad_()
    hidden = Recorded(expected["mask_grid"], expected["masked_columns"]).mask
    tokens = structure_of(model).tokens
    assert tokens is not None
    assert list(tokens.grid) == expected["mask_grid"]
    model.double()
    image = recorded_input(expected).double()
    outputs = model(image)
    with medcontext.hiding(model, tokens, hidden, token):
        outputs += model(image)
    exact = expected["float64_run"]
    check_outputs(outputs, exact["outputs"], 1e-10)
    mean_square(outputs).backward()
    assert token.grad is not None
    norms = {name: float(parameter.grad.norm()) for name, parameter in model.named_parameters() if parameter.grad is not None}
    norms["model_down.mask_token"] = float(token.grad.norm())
    for name, norm in exact["grad_l2"].items():
        assert norms[name] == pytest.approx(norm, rel=1e-8), name
