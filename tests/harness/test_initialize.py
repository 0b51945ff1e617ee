"""initbench.initialize on a network of one's own, and initbench.build."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import initbench
from initbench import registry
from initbench.errors import UsageError
from initbench.harness.coverage import state_digest, tensor_digest
from initbench.harness.levels import probe_levels
from initbench.harness.sites import find_sites
from initbench.protocols import Grid, Level, structure_of
from tests.networks import PATCHES, patch_of, tiny

PATCH: Grid = (8, 16, 16)
LEVELS = (Level("encoder.0", (4, 8, 8), 6), Level("encoder.1", (2, 4, 4), 8))
CLASSES = 5


class Net(nn.Module):
    """Somebody's encoder-decoder, with dropout and a batch norm."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(nn.Conv3d(channels, 6, 2, stride=2), nn.GELU(), nn.Dropout(0.2)),
                nn.Sequential(nn.BatchNorm3d(6), nn.Conv3d(6, 8, 2, stride=2), nn.GELU()),
            ]
        )
        self.decoder = nn.ModuleList([nn.ConvTranspose3d(8, 6, 2, stride=2), nn.ConvTranspose3d(6, 4, 2, stride=2)])
        self.out = nn.Sequential(nn.GELU(), nn.Conv3d(4, CLASSES, 1))

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder[0](x)
        return self.out(self.decoder[1](first + self.decoder[0](self.encoder[1](first))))


def network(channels: int = 1) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(channels)


def volumes(channels: int = 1) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.random((channels, *shape), np.float32) for shape in ((12, 20, 18), (9, 14, 30))]


LEARNED = ["mae(mask_patch=4)", "tube(mask_patch=4)", "order", "lwi(mask_patch=4)"]


def learn(model: nn.Module, init: str, **options: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "data": volumes(),
        "patch_size": PATCH,
        "levels": LEVELS,
        "heads": ["out"],
        "steps": 3,
        "device": "cpu",
        "precision": "float32",
        "assignments": ["pretext.batch=2"],
    }
    return initbench.initialize(model, init, **{**settings, **options})


@pytest.mark.parametrize("init", LEARNED)
def test_what_a_learned_init_changes(init: str) -> None:
    found = learn(network(), init)
    groups = {"encoder": 1, "decoder": 0 if init == "order" else 1, "out": 0}  # an order loss never passes the decoder
    assert found["groups"] == groups
    assert found["unchanged"] == [name for name, _ in network().named_parameters() if not groups[name.partition(".")[0]]]


def test_the_declared_heads_are_drawn_anew() -> None:
    first, second = network(), network()
    learn(first, "mae(mask_patch=4)")
    learn(second, "order")
    assert torch.equal(first.out[1].weight, second.out[1].weight)
    assert not torch.equal(first.out[1].weight, network().out[1].weight)


@pytest.mark.parametrize("init", LEARNED)
def test_the_network_comes_back_as_it_was_but_for_its_values(init: str) -> None:
    model = network().eval()
    model.encoder[1].train()
    modes = {name: module.training for name, module in model.named_modules()}
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    learn(model, init)
    assert dict(model.named_modules()) == modules  # the very same objects, the heads among them
    assert all(model.get_parameter(name) is parameter for name, parameter in parameters.items())
    assert model.out[1].weight.shape == (CLASSES, 4, 1, 1, 1)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model(torch.zeros(1, 1, *PATCH)).shape == (1, CLASSES, *PATCH)


@pytest.mark.parametrize("init", LEARNED)
def test_global_generators_and_settings_are_left_alone(init: str) -> None:
    def states() -> list[Any]:
        numpy_state = np.random.get_state()
        return [
            torch.get_rng_state().tolist(),
            numpy_state[1].tolist(),
            numpy_state[2],
            random.getstate(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        ]

    before = states()
    learn(network(), init)
    assert states() == before


@pytest.mark.parametrize("init", LEARNED)
def test_same_seed_same_bits(init: str) -> None:
    def digest(seed: int, disturbance: int) -> str:
        model = network()
        with torch.random.fork_rng():
            torch.manual_seed(disturbance)
            learn(model, init, seed=seed)
        return state_digest(model)

    assert digest(4, 1) == digest(4, 2)
    assert digest(4, 1) != digest(5, 1)


def test_the_steps_are_taken_and_told() -> None:
    class Heard:
        def __init__(self) -> None:
            self.told: list[Any] = []

        def start(self, stage: str, total: int) -> None:
            self.told.append((stage, total))

        def advance(self, done: int, info: Any) -> None:
            self.told.append((done, sorted(info)))

    heard = Heard()
    learn(network(), "mae(mask_patch=4)", progress=heard)
    assert heard.told == [("pretext", 3), (3, ["loss", "memory", "patches/s"])]


@pytest.mark.parametrize("init", LEARNED)
def test_two_channels_in_and_bf16(init: str) -> None:
    model = network(2)
    learn(model, init, data=volumes(2), precision="bf16")
    assert all(parameter.isfinite().all() and parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model(torch.zeros(1, 2, *PATCH)).shape == (1, CLASSES, *PATCH)


def test_reconstruction_learns_the_image() -> None:
    class Heard:
        def __init__(self) -> None:
            self.losses: list[float] = []

        def start(self, stage: str, total: int) -> None: ...

        def advance(self, done: int, info: Any) -> None:
            self.losses.append(info["loss"])

    heard = Heard()
    data = [np.full((1, 8, 16, 16), 0.7, np.float32)]
    assignments = ["pretext.batch=1", "pretext.optimizer.lr=0.01"]
    learn(network(), "mae(mask_patch=4)", progress=heard, data=data, steps=100, assignments=assignments)
    assert heard.losses[-1] < 0.25 * heard.losses[0]


# --- levels by name ---------------------------------------------------------------------------------------------------


# The levels of DS-Net are 43, 22 and 11 of 128 slices deep, which divide no patch; one of TransUNet is 15 of 64 rows high.
@pytest.mark.parametrize("backbone", [name for name in PATCHES if not name.startswith(("nnformer", "ds-net", "transunet"))])
def test_measured_levels_are_those_that_networks_declare(backbone: str) -> None:
    model = tiny(backbone)
    declared = structure_of(model).levels
    measured = probe_levels(model, [level.module for level in declared], patch_of(backbone), 1)
    assert [(m.module, m.grid, m.channels, m.layout) for m in measured] == [
        (d.module, d.grid, d.channels, d.layout) for d in declared
    ]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_tokens_that_fit_several_grids_are_not_guessed() -> None:
    """nnFormer's cells are flatter in depth, and 256 voxels are 4 x 8 x 8 or 1 x 16 x 16."""
    with pytest.raises(UsageError, match=r"module .* gives a tensor .*in which no grid of the patch .*pass Level\("):
        probe_levels(tiny("nnformer"), [level.module for level in structure_of(tiny("nnformer")).levels], patch_of("nnformer"), 1)


def test_levels_by_name_are_as_good_as_levels() -> None:
    named, given = network(), network()
    learn(named, "lwi(mask_patch=4)", levels=["encoder.0", "encoder.1"])
    learn(given, "lwi(mask_patch=4)")
    assert state_digest(named) == state_digest(given)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "options", "message"),
    [
        ("mae(mask_patch=4)", {"data": None}, "learns from volumes: pass data="),
        ("mae(mask_patch=4)", {"data": []}, "learns from volumes: pass data="),
        ("lwi(mask_patch=4)", {"steps": None}, "learns from volumes: pass data=.*steps="),
        ("lwi(mask_patch=4)", {"patch_size": None}, "learns from volumes: pass data=.*patch_size="),
        (
            "order",
            {"levels": [Level("encodr.0", (4, 8, 8), 6)]},
            "no module encodr.0; its top-level modules: encoder, decoder, out",
        ),
        ("order", {"levels": ["encodr.0"]}, "no module encodr.0"),
        ("mae(mask_patch=4)", {"heads": ["head"]}, "no module head; its top-level modules: encoder, decoder, out"),
        ("mae(mask_patch=4)", {"heads": ["out.0"]}, "'out.0' holds no convolution"),
        ("mae(mask_patch=3)", {}, r"mask_patch 3 does not divide the patch \(8, 16, 16\)"),
        ("mae(mask_ratio=1.0)", {"patch_size": (16, 16, 16)}, "mask_ratio must lie between 0 and 1"),
        ("order(taps=(3,))", {}, r"taps \[3\]: the backbone has levels 1 to 2"),
        ("mea", {}, "unknown initializer 'mea': did you mean mae"),
        ("mae(maskratio=0.5)", {}, "mae takes no maskratio; its parameters: mask_ratio=0.4"),
        ("mae", {"assignments": ["pretext.batches=2"]}, "there is no setting pretext.batches; did you mean pretext.batch"),
        ("mae", {"device": "tpu"}, "--device is auto, cpu, cuda or cuda:i"),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(init: str, options: dict[str, Any], message: str) -> None:
    model = network()
    digest, modules = state_digest(model), dict(model.named_modules())
    with pytest.raises(UsageError, match=message):
        learn(model, init, **options)
    assert state_digest(model) == digest
    assert dict(model.named_modules()) == modules
    assert not any(module._forward_hooks for module in model.modules())


def test_volumes_decide_which_levels_are_asked() -> None:
    with pytest.raises(UsageError, match="needs two slabs of 4 slices"):
        learn(network(), "order", data=[np.zeros((1, 3, 16, 16), np.float32)])
    for depth, taps in ((7, [1]), (8, [1, 2])):
        coverage = learn(network(), "order", data=[np.zeros((1, depth, 16, 16), np.float32)])
        assert coverage["report"]["taps"] == taps


# --- build ------------------------------------------------------------------------------------------------------------

BACKBONES = [row.name for row in registry.listing("backbone") if row.origin == "initbench"]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_a_function_of_its_seed(name: str) -> None:
    before = torch.get_rng_state()
    first = tiny(name, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert state_digest(tiny(name, seed=7)) == state_digest(first)
    assert state_digest(tiny(name, seed=8)) != state_digest(first)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("init", ["default", "xavier-normal"])
def test_a_built_backbone_declares_all_that_an_init_needs(name: str, init: str) -> None:
    model = tiny(name)
    structure = structure_of(model)
    sites = find_sites(model, structure.projections)
    nonzero = {site.name for site in sites if model.get_parameter(site.name).any()}
    found = set(initbench.initialize(model, init)["unchanged"])
    drawn = {site.name for site in sites if site.role in ("linear", "conv", "transposed-conv", "projection")}
    zeroed = {site.name for site in sites if site.role == "bias"} & nonzero
    assert {site.name for site in sites} - found == (set() if init == "default" else drawn | zeroed)


def test_the_raw_projection_of_unetrpp_is_a_linear_map() -> None:
    model = tiny("unetrpp", variant="tumor", patch_size=(64, 32, 32))
    raw = {name: parameter.shape for name, parameter in model.named_parameters() if name.endswith(".EF")}
    sites = {site.name: site for site in find_sites(model, structure_of(model).projections)}
    assert raw
    assert {name: (sites[name].role, sites[name].fan_in, sites[name].fan_out) for name in raw} == {
        name: ("projection", *shape) for name, shape in raw.items()
    }
    assert not raw.keys() & set(initbench.initialize(model, "xavier-normal")["unchanged"])


def digests(model: nn.Module) -> dict[str, str]:
    return {name: tensor_digest(parameter) for name, parameter in model.named_parameters()}


def test_the_heads_of_a_seed_are_the_same_under_every_init() -> None:
    models: list[nn.Module] = []
    for init in ("default", "kaiming-normal", "trunc-normal"):
        models.append(tiny("unetr"))
        initbench.initialize(models[-1], init, seed=3)
    heads = [{name: d for name, d in digests(model).items() if name.startswith("out.")} for model in models]
    assert heads[0]
    assert heads[0] == heads[1] == heads[2]


def _file_backbone(folder: Any, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f"from torch import nn\n\ndef net(**settings):\n    return {body}\n", "utf-8")
    return f"{path}:net"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tiny("unetr-pp"), "unknown backbone 'unetr-pp': did you mean unetrpp"),
        (lambda: tiny("swinunetr"), "unknown backbone 'swinunetr': did you mean swin-unetr"),
        (lambda: tiny("unetr", patch_size=(20, 32, 32)), r"nearest valid: \(16, 32, 32\) or \(32, 32, 32\)"),
        (lambda: tiny("unetrpp", patch_size=(32, 32)), r"a patch has three sizes \(D, H, W\), got \(32, 32\)"),
        (lambda: tiny("unetrpp", variant="brain"), "unetrpp.*variant 'brain'.*synapse"),
        (lambda: tiny("unetr", size="huge"), "unetr.*size 'huge'.*tiny"),
    ],
)  # fmt: skip
def test_build_says_what_is_wrong(call: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_backbone_of_a_file_must_be_a_network_with_a_structure(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="gave int and no torch"):
        tiny(_file_backbone(tmp_path, "3"))
    with pytest.raises(TypeError, match="Linear declares no `structure`"):
        tiny(_file_backbone(tmp_path, "nn.Linear(1, 1)"))
