"""Signals at step 0, on cases worked by hand and through the command."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from torch import Tensor, nn

from initbench import seeding
from initbench.cli.app import main
from initbench.protocols import Structure
from initbench.tools.diagnose import effective_rank, look, weigh
from tests.msd_factory import make_msd
from tests.regimens.stages import small, stage


class Task:
    """Mean of the squared outputs on a fixed input."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module = module
        self.x = x

    def batch(self, step: int) -> Tensor:
        return self.x

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.module(batch).square().mean(), {}


def test_effective_rank_by_hand() -> None:
    g = torch.Generator().manual_seed(0)
    one = torch.randn(500, 1, generator=g) @ torch.ones(1, 6)
    assert effective_rank(one) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.randn(4000, 6, generator=g)) == pytest.approx(6, abs=0.02)
    two = torch.zeros(4, 5)
    two[:, 0], two[:, 1] = torch.tensor([1.0, -1, 1, -1]), torch.tensor([3.0, 3, -3, -3])  # variances 1 and 9
    expected = math.exp(-(0.1 * math.log(0.1) + 0.9 * math.log(0.9)))
    assert effective_rank(two) == pytest.approx(expected)
    assert effective_rank(torch.ones(7, 3)) == 0


def test_layers_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    model.structure = Structure((1, 1, 1), (), ())  # type: ignore[assignment]
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0, 5.0]]))
    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    loss, (first, second) = look(model, Task(model, x))  # type: ignore[arg-type]
    assert loss == 1
    assert [first.name, second.name] == ["0", "1"]
    assert first.activation == pytest.approx(math.sqrt((1 + 4 + 0) / 3))
    # d loss / d y = y / 2, times the second layer's weights (1, 0, 5).
    assert first.gradient == pytest.approx(math.sqrt((0.25 + 0 + 6.25) / 3))
    assert second.gradient == pytest.approx(0.5)
    # The third channel does not vary, the second gets no gradient.
    assert first.dead == pytest.approx(2 / 3)
    assert second.dead == 0
    # The weight's gradient is sum over samples of dy * h: h = (+-1, +-2, 0) against y = h1.
    assert second.update == pytest.approx((2 / math.sqrt(3)) / math.sqrt(26 / 3))
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_terms_of_a_regimen() -> None:
    """The weighted terms and their gradients, against the sum that the loop would take."""
    model = small()
    task = stage("medcontext(norm=mean)", model)
    terms = weigh(model, task)
    assert [term.name for term in terms] == ["sup", "sup_masked", "consistency"]
    seeding.seed_step(0, "dropout", "diagnose", 0)
    losses, parts = zip(*task.losses(task.batch(0)), strict=True)
    assert sum(term.loss for term in terms) == pytest.approx(float(sum(losses).detach()), rel=1e-6)
    assert terms[2].loss == pytest.approx(0.5 * float(parts[1]["consistency"]), rel=1e-6)
    first = torch.autograd.grad(losses[0], list(model.parameters()), allow_unused=True)
    norm = torch.cat([gradient.flatten().double() for gradient in first]).norm()
    assert terms[0].gradient == pytest.approx(float(norm), rel=1e-6)
    assert sum(term.loss_share for term in terms) == pytest.approx(1)
    assert sum(term.gradient_share for term in terms) == pytest.approx(1)
    assert weigh(model, stage("plain", model)) == ()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_msd(tmp_path / "Task90_Noise", cases=5)
    arguments = ["diagnose", "--init", "default,kaiming-normal", "--backbone", "unetr", "--dataset", str(data), "--size", "tiny"]
    small = ["--set", "patch.size=16,16,32", "--set", "preprocess.spacing=0.5,0.5,0.5", "--device", "cpu", "--budget", "smoke"]
    plot = tmp_path / "plot.png"

    def run(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *small, *more])
        assert ended.value.code == 0
        return capsys.readouterr().out

    found: list[dict[str, Any]] = json.loads(run("--json", "--plot", str(plot)))
    default, kaiming = found
    assert [item["init"] for item in found] == ["default", "kaiming-normal"]
    assert [layer["name"] for layer in default["layers"]] == [layer["name"] for layer in kaiming["layers"]]
    assert default["layers"][0]["name"].startswith("vit.patch_embedding")
    assert default["layers"][-1]["name"] == "out.conv.conv"
    qkv = [next(layer for layer in item["layers"] if layer["name"] == "vit.blocks.0.attn.qkv") for item in found]
    # sqrt(2) / sqrt(fan) instead of 1 / sqrt(3 fan): sqrt(6) times wider.
    assert qkv[1]["activation"] / qkv[0]["activation"] == pytest.approx(math.sqrt(6), rel=0.1)
    assert imread(plot).std() > 0.05
    text = run("--regimen", "medcontext", "--set", "patch.size=32,32,32")
    assert "vit.blocks.0.attn.qkv" in text
    shares = re.findall(r"consistency +\S+ +(\S+)% +\S+ +\S+%", text)
    assert len(shares) == 2, "one table for each init"
    assert all(float(share) < 1 for share in shares), "nearly nothing of the loss, as the documentation says"


def test_a_pretext_is_cut_short_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_msd(tmp_path / "Task90_Noise", cases=5)
    small = ["--set", "patch.size=32,32,32", "--set", "preprocess.spacing=0.5,0.5,0.5", "--device", "cpu", "--size", "tiny"]

    def run(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["diagnose", "--init", "mae", "--backbone", "unetr", "--dataset", str(data), *small, *more])
        code = ended.value.code
        said = capsys.readouterr()
        return (code if isinstance(code, int) else 0), " ".join((said.out + said.err).split())

    code, out = run("--budget", "paper", "--pretext-steps", "2", "--set", "steps.paper=100")
    assert code == 0
    assert "after a pretext of 2 steps, where a run has 16: --pretext-steps all trains them all" in out
    code, out = run("--budget", "smoke", "--pretext-steps", "all", "--set", "steps.smoke=6")
    assert code == 0
    assert "after a pretext of 1 step" in out
    assert "where a run has" not in out
    code, out = run("--pretext-steps", "none")
    assert code == 2
    assert "'none' is neither all nor a number of steps above 0" in out
