"""The backbones against recordings of the authors' own code: keys, outputs, gradients.

Both are filled by one recipe (a generator per key) and see one input, so the recordings need no weights
(`tests/expected/parity/README.md`). In float64 a wrong epsilon shows; what takes long there, and the published crops, are marked
`full`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initbench.backbones import nnformer as nnformer_module
from initbench.backbones import swin_unetr as swin_module
from initbench.backbones import unetr as unetr_module
from initbench.backbones import unetrpp as unetrpp_module
from initbench.protocols import Grid, structure_of
from tests import recordings
from tests.backbones.filled import check_gradients, fill
from tests.recordings import Json, check_outputs, mean_square, recorded_input
from tests.shared_data import shared


@dataclass(frozen=True)
class Fixture:
    """A recording: its name, what of ours it belongs to, and the bounds on outputs and gradients in float32.

    `extra` are parameters that the recorded network has and does not use, first in its state dict, with their shapes.
    """

    name: str
    build: Callable[[int, int, Grid], nn.Module]
    output_bound: float = 1e-5
    gradient_bound: float = 1e-2
    meta: bool = True
    extra: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def read(self, kind: str) -> Json:
        if not self.name.startswith("medcontext"):
            return recordings.read(self.name, kind)
        # MedContext's own networks are not backbones here, so their recordings are not in the repository either.
        loaded: Json = json.loads(shared("parity", f"{self.name}.{kind}.json").read_text())
        return loaded

    def has_outputs(self) -> bool:
        return recordings.exists(self.name, "forward") or self.name.startswith("medcontext")

    def model(self, recording: Json) -> nn.Module:
        d, h, w = recording["crop"]
        return self.build(recording["in_channels"], recording["classes"], (d, h, w))


def _unetrpp(name: str) -> Fixture:
    """Paper widths, at the published crop or (`small`) another one."""
    variant = name.split("_")[1]

    def build(in_channels: int, num_classes: int, patch: Grid) -> nn.Module:
        return unetrpp_module.unetrpp(
            in_channels=in_channels,
            num_classes=num_classes,
            patch_size=patch,
            variant=variant,
            deep_supervision=not name.endswith("nods"),
        )

    return Fixture(name, build, output_bound=2e-4, gradient_bound=3e-2)


def _unetr(name: str) -> Fixture:
    variant = name.split("_")[1]
    tiny = unetr_module.Widths(feature_size=8, hidden=48, mlp=96, heads=4)
    widths = tiny if name.endswith("tiny") else unetr_module.WIDTHS["paper"]
    return Fixture(name, lambda *args: unetr_module.build_unetr(*args, variant=variant, widths=widths))


def _swin(name: str) -> Fixture:
    variant = "legacy-merge" if "legacymerge" in name else "default"
    tiny = swin_module.Widths(feature_size=12, window=7)
    widths = tiny if name.endswith("tiny") else swin_module.WIDTHS["paper"]
    # MONAI reads numbers from tensors while it builds this one, which the meta device does not have.
    return Fixture(name, lambda *args: swin_module.build_swin_unetr(*args, variant=variant, widths=widths), meta=False)


def _nnformer(name: str) -> Fixture:
    """The authors' (`nnformer_*`), and those of MedContext, with a token for its masking that a plain pass does not use."""
    medcontext = name.startswith("medcontext")
    variant = name.split("_")[2 if medcontext else 1]
    widths = nnformer_module.WIDTHS["paper"][variant]
    if "tiny" in name:
        widths = nnformer_module.Widths(24, 3, widths.windows)
    without = name.endswith("nods") or name in ("medcontext_nnformer_acdc_2", "medcontext_nnformer_tumor_2")

    def build(in_channels: int, num_classes: int, patch: Grid) -> nn.Module:
        return nnformer_module.NNFormer(
            in_channels, num_classes, patch, variant=variant, widths=widths, deep_supervision=not without
        )

    token = {"model_down.mask_token": (1, 1, widths.embedding)}
    return Fixture(name, build, extra=token if medcontext else {})


SMALL = [_unetrpp(f"unetrpp_{variant}_small") for variant in ("synapse", "lung", "acdc", "tumor")]
SMALL += [_unetr(f"unetr_{variant}_tiny") for variant in ("perceptron", "conv")]
SMALL += [_swin(name) for name in ("swinunetr_tiny", "swinunetr_legacymerge_tiny")]
SMALL += [_nnformer(f"nnformer_{variant}_tiny{ending}") for variant in ("synapse", "acdc", "tumor") for ending in ("", "_nods")]
# A double-precision convolution on the CPU takes ten times as long; these have few.
QUICK_IN_FLOAT64 = {"unetr_perceptron_tiny", "unetr_conv_tiny", "nnformer_synapse_tiny", "nnformer_tumor_tiny"}
PUBLISHED = [
    _unetrpp(f"unetrpp_{variant}{ending}") for variant in ("synapse", "lung", "acdc", "tumor") for ending in ("", "_nods")
]
PUBLISHED += [_unetr(f"unetr_{variant}_c{n}") for variant in ("perceptron", "conv") for n in (2, 9, 14)]
PUBLISHED += [_swin(f"swinunetr_{name}") for name in ("c2", "c9", "c14", "legacymerge_c14")]
PUBLISHED += [_nnformer(f"nnformer_{variant}{ending}") for variant in ("synapse", "acdc", "tumor") for ending in ("", "_nods")]
PUBLISHED += [_nnformer(f"medcontext_nnformer_{variant}_2") for variant in ("synapse", "acdc", "tumor")]


def named(fixtures: list[Fixture]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fixture", fixtures, ids=lambda fixture: fixture.name)


def with_outputs(fixtures: list[Fixture]) -> list[Fixture]:
    """Those whose outputs were recorded, and not only their keys."""
    return [fixture for fixture in fixtures if fixture.has_outputs()]


def check_index_tables(model: nn.Module, recording: Json) -> None:
    buffers = dict(model.named_buffers())
    for name, digest in recording.get("relative_position_index_sha256_int64le", {}).items():
        assert hashlib.sha256(buffers[name].numpy().astype("<i8").tobytes()).hexdigest() == digest, name


def forward(model: nn.Module, x: Tensor) -> list[Tensor]:
    outputs = model(x)
    return outputs if isinstance(outputs, list) else [outputs]


LISTED = re.compile(r"\| (\w+) \| ([\w, ]+) \| ([\d×]+) \| (\d+) \| ([\d.]+) \| `(.+)` \|")


def test_the_list_of_recordings_is_what_is_there() -> None:
    rows = [LISTED.fullmatch(line) for line in (recordings.FOLDER / "README.md").read_text("utf-8").splitlines()]
    listed = [row.groups() for row in rows if row]
    files = {f"{name}.{kind}.json.gz" for name, kinds, *_ in listed for kind in kinds.split(", ")}
    assert files | {"measured.json.gz", "README.md"} == {path.name for path in recordings.FOLDER.iterdir()}
    for name, kinds, size, classes, monai, constructor in listed:
        for kind in kinds.split(", "):
            of = recordings.read(name, kind)
            assert (of["name"], of["constructor"], of["monai"]) == (name, constructor, monai)
            assert size == "×".join(str(number) for number in (of["in_channels"], *of["crop"]))
            assert int(classes) == of["classes"]
            if kind != "trace":
                assert of["parameters"] == recordings.read(name, "keys")["parameters"]


def test_every_recording_is_compared_with_something() -> None:
    """A recording that no test reads would look like a promise that is kept."""
    there = {path.name.split(".")[0] for path in recordings.FOLDER.glob("*.keys.json.gz")}
    others = {name for name in there if not name.startswith("lwi_")}  # those are tests/initializers/test_lwi_parity.py's
    assert others == {fixture.name for fixture in SMALL + PUBLISHED if not fixture.name.startswith("medcontext")}


@named(SMALL + PUBLISHED)
def test_keys_order_and_shapes(fixture: Fixture) -> None:
    recording = fixture.read("keys")
    with torch.device("meta") if fixture.meta else nullcontext():
        model = fixture.model(recording)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    ours = [
        [key, list(t.shape), str(t.dtype).removeprefix("torch."), "param" if key in parameters else "buffer"]
        for key, t in model.state_dict().items()
    ]
    extra = [[key, list(shape), "float32", "param"] for key, shape in fixture.extra.items()]
    assert extra + ours == recording["state_dict"]
    more = sum(math.prod(shape) for shape in fixture.extra.values())
    assert sum(p.numel() for p in model.parameters()) + more == recording["parameters"]
    assert len(list(model.named_parameters())) + len(extra) == recording["n_named_parameters"]
    names: dict[int, list[str]] = {}
    for key, p in parameters.items():
        names.setdefault(id(p), []).append(key)
    assert [group for group in names.values() if len(group) > 1] == recording["aliases"]
    children = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    for key, shape in fixture.extra.items():
        children[key.split(".")[0]] += math.prod(shape)
    assert children == recording["children_parameters"]


@named([fixture for fixture in with_outputs(SMALL) if not fixture.name.startswith("unetr_")])
def test_small_in_float32(fixture: Fixture) -> None:
    """The forward in the arithmetic of training; the windows make the gradients of Swin too slow for every day."""
    recording = fixture.read("forward")
    model = fixture.model(recording).eval()
    assert fill(model) == recording["fill_sha256"]
    check_index_tables(model, recording)
    x = recorded_input(recording)
    with torch.set_grad_enabled(not fixture.name.startswith("swin")):
        outputs = forward(model, x)
        check_outputs(outputs, recording["outputs"], fixture.output_bound)
    if outputs[0].requires_grad:
        mean_square(outputs).backward()
        check_gradients(model, recording["grad_l2"], recording["grad_none"], fixture.gradient_bound, 1e-6)


@named(
    [
        fixture
        for fixture in with_outputs(SMALL)
        if fixture.name.startswith(("unetrpp", "nnformer")) and "nods" not in fixture.name
    ]
)
def test_small_without_deep_supervision(fixture: Fixture) -> None:
    recording = fixture.read("forward")
    model = fixture.model(recording).eval()
    fill(model)
    off = recording["deep_supervision_off_by_attribute"]
    setattr(model, off["attribute"], False)
    with torch.no_grad():
        outputs = model(recorded_input(recording))
    assert isinstance(outputs, Tensor)
    check_outputs([outputs], off["outputs"], fixture.output_bound)


@pytest.mark.parametrize(
    "fixture",
    [
        pytest.param(fixture, id=fixture.name, marks=() if fixture.name in QUICK_IN_FLOAT64 else pytest.mark.full)
        for fixture in with_outputs(SMALL)
    ],
)
def test_small_in_float64(fixture: Fixture) -> None:
    recording = fixture.read("forward")
    model = fixture.model(recording).eval()
    assert fill(model) == recording["fill_sha256"]
    check_index_tables(model, recording)
    model.double()
    expected = recording["float64_run"]
    outputs = forward(model, recorded_input(recording).double())
    check_outputs(outputs, expected["outputs"], 1e-10)
    loss = mean_square(outputs)
    assert float(loss.detach()) == pytest.approx(expected["loss"], rel=1e-10)
    loss.backward()
    check_gradients(model, expected["grad_l2"], recording["grad_none"], 1e-8, 0.0)


@pytest.mark.parametrize(
    "fixture",
    [
        pytest.param(fixture, id=fixture.name, marks=pytest.mark.full if fixture.name.endswith("nods") else ())
        for fixture in SMALL
        if fixture.name.startswith("nnformer")
    ],
)
def test_every_module_of_nnformer(fixture: Fixture) -> None:
    """What each module gave, in the order of the calls: says where a network goes astray, not only that it does."""
    recording = fixture.read("trace")
    expected = {(name, call): values for name, _, call, *values in recording["trace"]}
    model = fixture.model(recording).eval()
    fill(model)
    calls: dict[str, int] = {}
    compared: set[str] = set()

    def compare(name: str, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if (name, calls[name]) not in expected or not isinstance(output, Tensor):
            return
        shape, l2, mean, element = expected[name, calls[name]]
        # Ours may have its channels in another place, which shows in the one element alone.
        assert output.numel() == math.prod(shape), name
        assert float(output.norm()) == pytest.approx(l2, rel=1e-10), name
        assert float(output.mean()) == pytest.approx(mean, abs=1e-10), name
        if list(output.shape) == shape:
            assert float(output.flatten()[output.numel() // 3]) == pytest.approx(element, abs=1e-9), name
        compared.add(name)

    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: compare(name, output))
    shape = (2, recording["in_channels"], *recording["crop"])
    x = np.random.Generator(np.random.PCG64(1234)).standard_normal(math.prod(shape)).astype(np.float32).reshape(shape)
    with torch.no_grad():
        model.double()(torch.from_numpy(x).double())
    computing = {name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Conv3d))}
    blocks = {name for name, module in model.named_modules() if isinstance(module, nnformer_module.Block)}
    assert compared >= computing | blocks | set(structure_of(model).heads)


@pytest.mark.full
@named(with_outputs(PUBLISHED))
def test_published_crop_in_float32(fixture: Fixture) -> None:
    recording = fixture.read("forward")
    model = fixture.model(recording).eval()
    assert fill(model, fixture.extra) == recording["fill_sha256"]
    check_index_tables(model, recording)
    outputs = forward(model, recorded_input(recording))
    check_outputs(outputs, recording["outputs"], fixture.output_bound)
    loss = mean_square(outputs)
    assert float(loss.detach()) == pytest.approx(recording["loss_mean_square_all_outputs"], rel=1e-4)
    loss.backward()
    unused = [name for name in recording["grad_none"] if name not in fixture.extra]
    check_gradients(model, recording["grad_l2"], unused, fixture.gradient_bound, 1e-6)
